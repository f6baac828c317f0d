//! Ctrl-C, counted: once asks for an orderly end, twice for an immediate one. `SIGTERM` and a closed terminal ask the
//! same way.

use crate::failure::{Class, Failure, Plain};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask this process to end, from now on caught.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// Catches them from now on, so that none can end the process half-way.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let caught = |kind| {
            signal(kind).map_err(|error| Failure::new(Class::Local, format!("catch signals: {}", Plain(&error))))
        };
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// The next one. Dropping the future loses none.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
