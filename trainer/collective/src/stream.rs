//! One connection to a peer, plain or encrypted, blocking or not: whoever moves bytes over it need not know which.
//!
//! An encrypted stream takes plain bytes, and keeps what it made of them until the system takes it: a writer is only
//! done when [`Stream::has_pending`] says so, and [`Write::flush`] drives it there. What it keeps is bounded.

use crate::socket::Socket;
use crate::tls::Encrypted;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// A connection whose other end has shown who it is.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Bytes as they are.
    Plain(Socket),
    /// TLS.
    Encrypted(Box<Encrypted>),
}

impl Stream {
    /// The connection below, for its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.below().get()
    }

    /// As [`crate::socket::Socket::is_within_host`].
    pub(crate) fn is_within_host(&self) -> io::Result<bool> {
        self.below().is_within_host()
    }

    /// From now on reads and writes return `WouldBlock` instead of waiting, and `registry` says when to try again.
    pub(crate) fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        let socket = self.socket();
        socket.set_nonblocking(true)?;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
    }

    /// Whether bytes that it took have not reached the system yet. They don't go by themselves: flush when the
    /// connection is writable.
    pub(crate) fn has_pending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Encrypted(encrypted) => encrypted.has_pending(),
        }
    }

    pub(crate) fn below(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Encrypted(encrypted) => encrypted.socket(),
        }
    }

    /// Lifts the deadline of the greeting.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.settle(),
            Self::Encrypted(encrypted) => encrypted.socket_mut().settle(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Encrypted(encrypted) => encrypted.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(from),
            Self::Encrypted(encrypted) => encrypted.write_vectored(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(encrypted) => encrypted.flush(),
        }
    }
}
