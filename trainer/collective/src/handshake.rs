//! How two workers make sure of each other: the dialer encrypts the connection if it must be, both show that they know
//! the job's secret, over numbers that neither could choose alone, and the dialer says what the connection is for.
//! Everything is bounded in size and time, and nothing is said to somebody who says nothing first.

use crate::ask::Ask;
use crate::links::Links;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::tls;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// The first that a dialer says.
const MAGIC: [u8; 4] = *b"trc3";
/// The first byte of TLS: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
const NAME: usize = 64;
/// What follows a purpose's kind.
const DETAIL: usize = Ask::BYTES;
const NAME_AT: usize = 1 + DETAIL + 1;
const HELLO: usize = NAME_AT + NAME + 32;
/// A greeting that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// A link of this generation's mesh.
    Mesh {
        /// Which.
        generation: u64,
    },
    /// The dialer wants this share of the state and, from the first donor, all sums from there on.
    State(Ask),
    /// Says that both ends are alive, as long as this generation lasts.
    Pulse {
        /// Which.
        generation: u64,
    },
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
    /// The other end has no certificate of this job, or not the one of the worker that was dialed.
    #[error("handshake: can't encrypt the connection")]
    Encryption(#[source] io::Error),
    /// The job wants this connection encrypted, and its coordinator gave this worker nothing to do it with.
    #[error("handshake: the connection must be encrypted, and this worker has no certificate")]
    NoCertificate,
    /// The job wants this connection encrypted, and the dialer did not.
    #[error("handshake: expected an encrypted connection, found a plain one")]
    NotEncrypted,
    /// The name that the other end says is not the one in its certificate.
    #[error("handshake: the other end says that it is {claimed}, its certificate says that it is not")]
    WrongCertificate {
        /// What it says.
        claimed: String,
    },
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

/// The dialing side, which wants this `peer` and nobody else.
///
/// # Errors
/// See [`HandshakeError`].
pub(crate) fn greet(
    socket: TcpStream,
    me: &Identity,
    links: &Links,
    peer: &str,
    purpose: Purpose,
) -> Result<Stream, HandshakeError> {
    let socket = Socket::new(socket, Instant::now() + PATIENCE)?;
    let mut stream = if links.encryption.covers(&socket)? {
        let credentials = links.credentials.as_ref().ok_or(HandshakeError::NoCertificate)?;
        let encrypted = tls::dial(credentials, socket, peer).map_err(HandshakeError::Encryption)?;
        Stream::Encrypted(Box::new(encrypted))
    } else {
        Stream::Plain(socket)
    };
    stream.write_all(&MAGIC)?;
    let mut theirs = [0; 32];
    stream.read_exact(&mut theirs)?;
    let mine = nonce()?;
    let name = me.worker.as_bytes();
    if name.is_empty() || name.len() > NAME {
        return Err(HandshakeError::BadName);
    }
    let mut hello = [0; HELLO];
    let detail = &mut hello[1..=DETAIL];
    let kind = match purpose {
        Purpose::Mesh { generation } | Purpose::Pulse { generation } => {
            detail[..8].copy_from_slice(&generation.to_le_bytes());
            if matches!(purpose, Purpose::Mesh { .. }) { 1 } else { 3 }
        }
        Purpose::State(ask) => {
            detail.copy_from_slice(&ask.to_bytes());
            2
        }
    };
    hello[0] = kind;
    hello[NAME_AT - 1] = u8::try_from(name.len()).map_err(|_| HandshakeError::BadName)?;
    hello[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
    hello[NAME_AT + NAME..].copy_from_slice(&mine);
    stream.write_all(&hello)?;
    stream.write_all(proof(&me.secret, "dialer", &[&theirs, &hello]).as_bytes())?;
    let mut answer = [0; 32];
    stream.read_exact(&mut answer)?;
    if blake3::Hash::from(answer) != proof(&me.secret, "listener", &[&mine, &theirs, peer.as_bytes()]) {
        return Err(HandshakeError::WrongSecret);
    }
    settle(&mut stream, links, purpose)?;
    Ok(stream)
}

/// The listening side: who it is and what it wants.
///
/// # Errors
/// See [`HandshakeError`].
pub(crate) fn welcome(
    socket: impl Into<Arc<TcpStream>>,
    me: &Identity,
    links: &Links,
) -> Result<(String, Purpose, Stream), HandshakeError> {
    let mut socket = Socket::new(socket, Instant::now() + PATIENCE)?;
    let mut stream = if socket.first_byte()? == TLS_HANDSHAKE {
        let credentials = links.credentials.as_ref().ok_or(HandshakeError::NoCertificate)?;
        Stream::Encrypted(Box::new(tls::accept(credentials, socket).map_err(HandshakeError::Encryption)?))
    } else if links.encryption.covers(&socket)? {
        return Err(HandshakeError::NotEncrypted);
    } else {
        Stream::Plain(socket)
    };
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(HandshakeError::NotAWorker);
    }
    let mine = nonce()?;
    stream.write_all(&mine)?;
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello)?;
    let mut claimed = [0; 32];
    stream.read_exact(&mut claimed)?;
    if blake3::Hash::from(claimed) != proof(&me.secret, "dialer", &[&mine, &hello]) {
        return Err(HandshakeError::WrongSecret);
    }
    let (detail, rest) = hello[1..].split_first_chunk::<DETAIL>().ok_or(HandshakeError::NotAWorker)?;
    let (generation, _) = detail.split_first_chunk::<8>().ok_or(HandshakeError::NotAWorker)?;
    let generation = u64::from_le_bytes(*generation);
    let purpose = match hello[0] {
        1 => Purpose::Mesh { generation },
        2 => Purpose::State(Ask::from_bytes(detail).ok_or(HandshakeError::NotAWorker)?),
        3 => Purpose::Pulse { generation },
        _ => return Err(HandshakeError::NotAWorker),
    };
    let name = rest.get(1..1 + usize::from(rest[0]).min(NAME)).ok_or(HandshakeError::BadName)?;
    let name = std::str::from_utf8(name).map_err(|_| HandshakeError::BadName)?.to_owned();
    if let Stream::Encrypted(encrypted) = &stream
        && !encrypted.is(&name)
    {
        return Err(HandshakeError::WrongCertificate { claimed: name });
    }
    let theirs = &hello[NAME_AT + NAME..];
    stream.write_all(proof(&me.secret, "listener", &[theirs, &mine, me.worker.as_bytes()]).as_bytes())?;
    settle(&mut stream, links, purpose)?;
    Ok((name, purpose, stream))
}

fn settle(stream: &mut Stream, links: &Links, purpose: Purpose) -> io::Result<()> {
    stream.settle()?;
    stream.below().probe(links.silence)?;
    if let Purpose::Pulse { .. } = purpose {
        stream.below().must_confirm(links.silence)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Encryption;
    use crate::tls::Credentials;
    use coordinator_certificates::Authority;
    use std::net::TcpListener;
    use std::thread;

    type Greeted = Result<Stream, HandshakeError>;
    type Welcomed = Result<(String, Purpose, Stream), HandshakeError>;

    const MESH: Purpose = Purpose::Mesh { generation: 4 };

    struct End {
        me: Identity,
        links: Links,
    }

    fn end(worker: &str, secret: u8) -> End {
        End { me: Identity { worker: worker.into(), secret: [secret; 32] }, links: Links::default() }
    }

    impl End {
        fn encrypted(mut self, authority: &Authority, certified: &str) -> Self {
            let issued = authority.issue(certified).unwrap();
            let credentials = Credentials::new(authority.certificate(), &issued.certificate, &issued.key).unwrap();
            self.links.credentials = Some(credentials);
            self.always()
        }

        fn always(mut self) -> Self {
            self.links.encryption = Encryption::Always;
            self
        }
    }

    fn meet(dialer: End, peer: &'static str, listener: &End) -> (Greeted, Welcomed) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let dial =
            thread::spawn(move || greet(TcpStream::connect(address).unwrap(), &dialer.me, &dialer.links, peer, MESH));
        let (accepted, _) = socket.accept().unwrap();
        let welcomed = welcome(accepted, &listener.me, &listener.links);
        (dial.join().unwrap(), welcomed)
    }

    /// What a listener makes of these bytes, after which the other end says no more.
    fn hear(said: &[u8], listener: &End) -> HandshakeError {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stranger = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        stranger.write_all(said).unwrap();
        stranger.shutdown(std::net::Shutdown::Write).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        welcome(accepted, &listener.me, &listener.links).unwrap_err()
    }

    fn talk((greeted, welcomed): (Greeted, Welcomed)) -> (String, Purpose) {
        let (mut dialer, (worker, purpose, mut listener)) = (greeted.unwrap(), welcomed.unwrap());
        dialer.write_all(b"ping").unwrap();
        let mut heard = [0; 4];
        listener.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ping");
        (worker, purpose)
    }

    #[test]
    fn members_of_one_job_meet() {
        assert_eq!(talk(meet(end("w1", 7), "w2", &end("w2", 7))), ("w1".to_owned(), MESH));
    }

    #[test]
    fn members_of_one_job_meet_encrypted() {
        let job = Authority::new("digits").unwrap();
        let listener = end("w2", 7).encrypted(&job, "w2");
        let met = meet(end("w1", 7).encrypted(&job, "w1"), "w2", &listener);
        assert!(matches!(met.0, Ok(Stream::Encrypted(_))));
        assert_eq!(talk(met), ("w1".to_owned(), MESH));
    }

    #[test]
    fn whoever_has_the_address_now_is_not_taken_for_its_last_owner() {
        let (greeted, _) = meet(end("w1", 7), "w3", &end("w2", 7));
        assert!(matches!(greeted, Err(HandshakeError::WrongSecret)));
        let job = Authority::new("digits").unwrap();
        let (greeted, _) = meet(end("w1", 7).encrypted(&job, "w1"), "w3", &end("w2", 7).encrypted(&job, "w2"));
        assert!(matches!(greeted, Err(HandshakeError::Encryption(_))), "{greeted:?}");
    }

    #[test]
    fn strangers_are_refused() {
        let (greeted, welcomed) = meet(end("w1", 7), "w2", &end("w2", 8));
        assert!(greeted.is_err());
        assert!(matches!(welcomed, Err(HandshakeError::WrongSecret)));
    }

    #[test]
    fn certificates_of_another_job_are_refused() {
        let (ours, theirs) = (Authority::new("digits").unwrap(), Authority::new("digits").unwrap());
        let (greeted, welcomed) =
            meet(end("w1", 7).encrypted(&theirs, "w1"), "w2", &end("w2", 7).encrypted(&ours, "w2"));
        assert!(matches!(greeted, Err(HandshakeError::Encryption(_))), "{greeted:?}");
        assert!(matches!(welcomed, Err(HandshakeError::Encryption(_))), "{welcomed:?}");
    }

    #[test]
    fn a_worker_is_who_its_certificate_says() {
        let job = Authority::new("digits").unwrap();
        let (greeted, welcomed) = meet(end("w1", 7).encrypted(&job, "w9"), "w2", &end("w2", 7).encrypted(&job, "w2"));
        assert!(greeted.is_err());
        assert!(matches!(welcomed, Err(HandshakeError::WrongCertificate { claimed }) if claimed == "w1"));
    }

    #[test]
    fn nobody_talks_plainly_where_all_must_be_encrypted() {
        let job = Authority::new("digits").unwrap();
        let listener = end("w2", 7).encrypted(&job, "w2");
        let (greeted, welcomed) = meet(end("w1", 7), "w2", &listener);
        assert!(greeted.is_err());
        assert!(matches!(welcomed, Err(HandshakeError::NotEncrypted)));
        let (greeted, _) = meet(end("w1", 7).always(), "w2", &listener);
        assert!(matches!(greeted, Err(HandshakeError::NoCertificate)));
        let (greeted, welcomed) = meet(end("w1", 7).encrypted(&job, "w1"), "w2", &end("w2", 7).always());
        assert!(greeted.is_err());
        assert!(matches!(welcomed, Err(HandshakeError::NoCertificate)));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(matches!(hear(&[b'x'; 256], &end("w2", 7)), HandshakeError::NotAWorker));
        assert!(matches!(hear(b"", &end("w2", 7)), HandshakeError::Io(_)));
        assert!(matches!(hear(&MAGIC, &end("w2", 7)), HandshakeError::Io(_)));
        let job = Authority::new("digits").unwrap();
        let listener = end("w2", 7).encrypted(&job, "w2");
        assert!(matches!(hear(&[b'x'; 256], &listener), HandshakeError::NotEncrypted));
        assert!(matches!(hear(&[TLS_HANDSHAKE; 256], &listener), HandshakeError::Encryption(_)));
    }
}
