//! A connection as the system knows it: how long each wait may take while the two ends get to know each other, and how
//! the system itself finds out that the other end is gone.

use rustix::net::sockopt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Unanswered probes after which a connection is dead.
const PROBES: u32 = 3;

/// A connection, with a deadline for all that waits in it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Shared with whoever may end the greeting.
    inner: Arc<TcpStream>,
    until: Option<Instant>,
}

impl Socket {
    /// Everything on it fails from this moment on, until [`Socket::settle`].
    ///
    /// # Errors
    /// When the system refuses an option.
    pub(crate) fn new(inner: impl Into<Arc<TcpStream>>, until: Instant) -> io::Result<Self> {
        let inner = inner.into();
        inner.set_nodelay(true)?;
        Ok(Self { inner, until: Some(until) })
    }

    pub(crate) fn get(&self) -> &TcpStream {
        &self.inner
    }

    /// The first byte that the other end says; it stays to be read.
    pub(crate) fn first_byte(&mut self) -> io::Result<u8> {
        let left = self.left()?;
        if left.is_some() {
            self.inner.set_read_timeout(left)?;
        }
        let mut byte = [0];
        match in_time(left.is_some(), self.inner.peek(&mut byte))? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before it said anything")),
            _ => Ok(byte[0]),
        }
    }

    /// Lifts the deadline.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.until = None;
        self.inner.set_read_timeout(None)?;
        self.inner.set_write_timeout(None)
    }

    /// Whether both ends are on one host, as far as addresses tell; both ends see that alike.
    pub(crate) fn is_within_host(&self) -> io::Result<bool> {
        let (here, there) = (self.inner.local_addr()?, self.inner.peer_addr()?);
        Ok(here.ip().to_canonical() == there.ip().to_canonical())
    }

    /// An idle connection is probed, so that a host that vanished is found after about this long. A peer that is busy
    /// and reads nothing is not touched by it.
    pub(crate) fn probe(&self, silence: Duration) -> io::Result<()> {
        // The system counts whole seconds.
        let each = Duration::from_secs(silence.as_secs().div_ceil(u64::from(PROBES) + 1).max(1));
        sockopt::set_socket_keepalive(&*self.inner, true)?;
        sockopt::set_tcp_keepidle(&*self.inner, each)?;
        sockopt::set_tcp_keepintvl(&*self.inner, each)?;
        Ok(sockopt::set_tcp_keepcnt(&*self.inner, PROBES)?)
    }

    /// What was sent must be confirmed within this time. Only for connections whose reader always reads: the system
    /// also counts the time for which a full receiver takes nothing, so this would end a link to a peer in a long step.
    pub(crate) fn must_confirm(&self, within: Duration) -> io::Result<()> {
        let ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        Ok(sockopt::set_tcp_user_timeout(&*self.inner, ms)?)
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(until) = self.until else { return Ok(None) };
        match until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(late()),
        }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "took too long to say who it is")
}

/// A blocking call that ran into its time-out says `WouldBlock`.
fn in_time<T>(bounded: bool, outcome: io::Result<T>) -> io::Result<T> {
    match outcome {
        Err(e) if bounded && e.kind() == io::ErrorKind::WouldBlock => Err(late()),
        outcome => outcome,
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        if left.is_some() {
            self.inner.set_read_timeout(left)?;
        }
        in_time(left.is_some(), (&*self.inner).read(into))
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let left = self.left()?;
        if left.is_some() {
            self.inner.set_write_timeout(left)?;
        }
        in_time(left.is_some(), (&*self.inner).write_vectored(from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
