//! How two workers make sure of each other: both show that they know the job's secret, over numbers that neither
//! could choose alone, and the dialer says what the connection is for. Everything is bounded in size and time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"trc1";
const NAME: usize = 64;
/// Longer silence within a handshake ends it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// A link of this generation's mesh.
    Mesh {
        /// Which.
        generation: u64,
    },
    /// The dialer wants the state and all sums from there on.
    State,
}

/// Who a worker is to its peers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, at most 64 bytes.
    pub worker: String,
    /// Shared by all workers of a job.
    pub secret: [u8; 32],
}

/// Why a connection was refused.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection broke or went silent.
    #[error("handshake: connection")]
    Io(#[from] io::Error),
    /// Not a worker of this version at the other end.
    #[error("handshake: expected a trainctl worker at the other end, found something else")]
    NotAWorker,
    /// The other end doesn't know the job's secret, or is another worker than the one that was dialed.
    #[error("handshake: the other end does not know this job's secret, or another worker has this address now")]
    WrongSecret,
    /// A name that is too long or not text.
    #[error("handshake: a worker's name is 1 to 64 bytes of UTF-8, found something else")]
    BadName,
}

fn nonce() -> Result<[u8; 32], HandshakeError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(bytes)
}

fn proof(secret: &[u8; 32], role: &str, parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(role.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// The dialing side, which wants this `peer` and nobody else.
///
/// # Errors
/// See [`HandshakeError`].
pub(crate) fn greet(stream: &mut TcpStream, me: &Identity, peer: &str, purpose: Purpose) -> Result<(), HandshakeError> {
    settle(stream)?;
    let mut theirs = [0; 32];
    stream.read_exact(&mut theirs)?;
    let mine = nonce()?;
    let name = me.worker.as_bytes();
    if name.is_empty() || name.len() > NAME {
        return Err(HandshakeError::BadName);
    }
    let mut hello = [0; 4 + 1 + 8 + 1 + NAME + 32];
    hello[..4].copy_from_slice(&MAGIC);
    let (kind, generation) = match purpose {
        Purpose::Mesh { generation } => (1, generation),
        Purpose::State => (2, 0),
    };
    hello[4] = kind;
    hello[5..13].copy_from_slice(&generation.to_le_bytes());
    hello[13] = u8::try_from(name.len()).map_err(|_| HandshakeError::BadName)?;
    hello[14..14 + name.len()].copy_from_slice(name);
    hello[14 + NAME..].copy_from_slice(&mine);
    stream.write_all(&hello)?;
    stream.write_all(proof(&me.secret, "dialer", &[&theirs, &hello]).as_bytes())?;
    let mut answer = [0; 32];
    stream.read_exact(&mut answer)?;
    if blake3::Hash::from(answer) != proof(&me.secret, "listener", &[&mine, &theirs, peer.as_bytes()]) {
        return Err(HandshakeError::WrongSecret);
    }
    Ok(())
}

/// The listening side: who it is and what it wants.
///
/// # Errors
/// See [`HandshakeError`].
pub(crate) fn welcome(stream: &mut TcpStream, me: &Identity) -> Result<(String, Purpose), HandshakeError> {
    settle(stream)?;
    let mine = nonce()?;
    stream.write_all(&mine)?;
    let mut hello = [0; 4 + 1 + 8 + 1 + NAME + 32];
    stream.read_exact(&mut hello)?;
    let mut claimed = [0; 32];
    stream.read_exact(&mut claimed)?;
    if hello[..4] != MAGIC {
        return Err(HandshakeError::NotAWorker);
    }
    if blake3::Hash::from(claimed) != proof(&me.secret, "dialer", &[&mine, &hello]) {
        return Err(HandshakeError::WrongSecret);
    }
    let (generation, rest) = hello[5..].split_first_chunk::<8>().ok_or(HandshakeError::NotAWorker)?;
    let purpose = match hello[4] {
        1 => Purpose::Mesh { generation: u64::from_le_bytes(*generation) },
        2 => Purpose::State,
        _ => return Err(HandshakeError::NotAWorker),
    };
    let name = rest.get(1..1 + usize::from(rest[0]).min(NAME)).ok_or(HandshakeError::BadName)?;
    let name = std::str::from_utf8(name).map_err(|_| HandshakeError::BadName)?.to_owned();
    let theirs = &hello[14 + NAME..];
    stream.write_all(proof(&me.secret, "listener", &[theirs, &mine, me.worker.as_bytes()]).as_bytes())?;
    Ok((name, purpose))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn meet(
        dialer: [u8; 32],
        peer: &'static str,
        listener: [u8; 32],
    ) -> (Result<(), HandshakeError>, Result<(String, Purpose), HandshakeError>) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let dial = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let me = Identity { worker: "w1".into(), secret: dialer };
            greet(&mut stream, &me, peer, Purpose::Mesh { generation: 4 })
        });
        let (mut stream, _) = socket.accept().unwrap();
        let welcomed = welcome(&mut stream, &Identity { worker: "w2".into(), secret: listener });
        drop(stream);
        (dial.join().unwrap(), welcomed)
    }

    #[test]
    fn members_of_one_job_meet() {
        let (greeted, welcomed) = meet([7; 32], "w2", [7; 32]);
        greeted.unwrap();
        assert_eq!(welcomed.unwrap(), ("w1".to_owned(), Purpose::Mesh { generation: 4 }));
    }

    #[test]
    fn whoever_has_the_address_now_is_not_taken_for_its_last_owner() {
        let (greeted, _) = meet([7; 32], "w3", [7; 32]);
        assert!(matches!(greeted, Err(HandshakeError::WrongSecret)));
    }

    #[test]
    fn strangers_are_refused() {
        let (greeted, welcomed) = meet([7; 32], "w2", [8; 32]);
        assert!(greeted.is_err());
        assert!(matches!(welcomed, Err(HandshakeError::WrongSecret)));
    }

    #[test]
    fn garbage_is_refused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        stream.write_all(&[b'x'; 256]).unwrap();
        let (mut accepted, _) = socket.accept().unwrap();
        assert!(matches!(
            welcome(&mut accepted, &Identity { worker: "w2".into(), secret: [0; 32] }),
            Err(HandshakeError::NotAWorker)
        ));
    }
}
