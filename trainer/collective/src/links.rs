//! What a job wants of the connections between its workers: which are encrypted, and how long a peer may be silent.

use crate::socket::Socket;
use crate::tls::Credentials;
use std::io;
use std::time::Duration;

/// Which connections are encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Encryption {
    /// Those whose two ends have different addresses.
    #[default]
    BetweenHosts,
    /// All.
    Always,
    /// None.
    Never,
}

impl Encryption {
    /// Whether this connection must be encrypted.
    pub(crate) fn covers(self, socket: &Socket) -> io::Result<bool> {
        Ok(match self {
            Self::BetweenHosts => !socket.is_within_host()?,
            Self::Always => true,
            Self::Never => false,
        })
    }
}

/// What holds for all connections of a worker.
#[derive(Clone, Debug)]
pub struct Links {
    /// Which are encrypted.
    pub encryption: Encryption,
    /// A peer that isn't heard for longer is lost.
    pub silence: Duration,
    /// Without them no connection can be encrypted, and one that must be is refused.
    pub credentials: Option<Credentials>,
}

impl Default for Links {
    fn default() -> Self {
        Self { encryption: Encryption::default(), silence: Duration::from_secs(2), credentials: None }
    }
}
