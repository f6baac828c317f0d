//! The one place where a worker's main thread waits: for its peers' sockets, or for another thread that rings.

use mio::{Events, Poll, Registry, Token, Waker};
use std::io;
use std::sync::Arc;
use std::time::Duration;

const BELL: Token = Token(usize::MAX);

/// Wakes the thread that waits in the [`Poller`].
#[derive(Clone, Debug)]
pub struct Bell(Arc<Waker>);

impl Bell {
    /// Wakes it, or makes its next wait return at once.
    pub fn ring(&self) {
        if let Err(error) = self.0.wake() {
            tracing::warn!(%error, "can't wake the training thread");
        }
    }
}

/// Waits for sockets and for the bell.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    bell: Bell,
    next_token: usize,
}

/// What a socket became ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Poller {
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Bell(Arc::new(Waker::new(poll.registry(), BELL)?));
        Ok(Self { poll, events: Events::with_capacity(256), bell, next_token: 0 })
    }

    /// For the threads that may have to wake this one.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits until the bell rings or the time is over. Socket events that fall into this wait are not lost to anyone
    /// who tries its sockets before it waits, as everyone here does.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.wait_ready(at_most).map(|_| ())
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(crate) fn wait_ready(&mut self, at_most: Option<Duration>) -> io::Result<impl Iterator<Item = Ready> + '_> {
        match self.poll.poll(&mut self.events, at_most) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        Ok(self.events.iter().filter(|e| e.token() != BELL).map(|e| Ready {
            token: e.token(),
            read: e.is_readable() || e.is_read_closed() || e.is_error(),
            write: e.is_writable() || e.is_write_closed() || e.is_error(),
        }))
    }
}
