//! Encryption between workers: TLS 1.3, with certificates that the coordinator issues for one job. Each end shows one,
//! and it holds the name of its worker; nothing that another job's authority signed is taken.

use crate::socket::Socket;
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use thiserror::Error;

/// Encrypted bytes that wait for the system to take them, at most, and one record more.
const PENDING_MAX: usize = 64 << 10;

/// What a worker shows to its peers, and what it takes from them.
#[derive(Clone, Debug)]
pub struct Credentials {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Credentials that can't be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The certificates or the key are not what they should be.
    #[error("read the certificates and the key of this worker")]
    Tls(#[from] rustls::Error),
    /// The authority's certificate can't be one.
    #[error("take the job's certificate authority")]
    Authority(#[from] VerifierBuilderError),
}

impl Credentials {
    /// From the certificate of the job's authority, this worker's own, and its key in PKCS#8, all in DER.
    ///
    /// # Errors
    /// When any of them is not that, or the certificate is not the key's.
    pub fn new(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.to_vec()))?;
        let roots = Arc::new(roots);
        let chain = || vec![CertificateDer::from(certificate.to_vec())];
        let key = || PrivateKeyDer::Pkcs8(key.to_vec().into());
        let provider = Arc::new(provider());

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain(), key())?;
        client.resumption = Resumption::disabled();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(), key())?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// The ring library, and of its ciphers the cheaper AES first: links carry gigabytes.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// An encrypted connection.
#[derive(Debug)]
pub(crate) struct Encrypted {
    session: Connection,
    socket: Socket,
}

/// The dialing side: the other end must be this `peer`.
pub(crate) fn dial(credentials: &Credentials, socket: Socket, peer: &str) -> io::Result<Encrypted> {
    let name = ServerName::try_from(peer.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(&credentials.client), name).map_err(io::Error::other)?;
    Encrypted::open(session.into(), socket)
}

/// The listening side: the other end must be a worker of this job; [`Encrypted::is`] says which.
pub(crate) fn accept(credentials: &Credentials, socket: Socket) -> io::Result<Encrypted> {
    let session = ServerConnection::new(Arc::clone(&credentials.server)).map_err(io::Error::other)?;
    Encrypted::open(session.into(), socket)
}

impl Encrypted {
    fn open(mut session: Connection, mut socket: Socket) -> io::Result<Self> {
        session.set_buffer_limit(Some(PENDING_MAX));
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self { session, socket })
    }

    /// Whether the certificate of the other end is this worker's.
    pub(crate) fn is(&self, worker: &str) -> bool {
        let Some(shown) = self.session.peer_certificates().and_then(<[_]>::first) else { return false };
        let Ok(name) = ServerName::try_from(worker) else { return false };
        ParsedCertificate::try_from(shown).is_ok_and(|shown| verify_server_name(&shown, &name).is_ok())
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.session.wants_write()
    }
}

impl Read for Encrypted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // An end without a farewell: what lacks is known from the length of each frame.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                outcome => return outcome,
            }
            self.session.read_tls(&mut self.socket)?;
            if let Err(error) = self.session.process_new_packets() {
                // Says why to the other end, if that still hears it.
                let _ = self.flush();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

impl Write for Encrypted {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    /// Encrypts no more than the system seems to take: nothing while something waits.
    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.session.writer().write_vectored(from)?;
        match self.flush() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_certificates::Authority;
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    fn credentials(authority: &Authority, worker: &str) -> Credentials {
        let issued = authority.issue(worker).unwrap();
        Credentials::new(authority.certificate(), &issued.certificate, &issued.key).unwrap()
    }

    fn settled(mut encrypted: Encrypted) -> Encrypted {
        encrypted.socket_mut().settle().unwrap();
        encrypted
    }

    fn pair() -> (Encrypted, Encrypted) {
        let authority = Authority::new("digits").unwrap();
        let (ours, theirs) = (credentials(&authority, "w1"), credentials(&authority, "w2"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        let dialing = thread::spawn(move || {
            let socket = Socket::new(TcpStream::connect(address).unwrap(), until).unwrap();
            dial(&ours, socket, "w2").unwrap()
        });
        let accepted = accept(&theirs, Socket::new(listener.accept().unwrap().0, until).unwrap()).unwrap();
        (settled(dialing.join().unwrap()), settled(accepted))
    }

    #[test]
    fn credentials_that_do_not_belong_together_are_refused() {
        let authority = Authority::new("digits").unwrap();
        let (one, other) = (authority.issue("w1").unwrap(), authority.issue("w2").unwrap());
        assert!(Credentials::new(authority.certificate(), &one.certificate, &other.key).is_err());
        assert!(Credentials::new(b"nonsense", &one.certificate, &one.key).is_err());
        assert!(Credentials::new(authority.certificate(), b"nonsense", &one.key).is_err());
    }

    #[test]
    fn a_writer_that_nobody_reads_from_keeps_little_and_loses_nothing() {
        let (mut writer, mut reader) = pair();
        writer.socket().get().set_nonblocking(true).unwrap();
        let bytes: Vec<u8> = (0..8_u32 << 20).map(|at| (at % 251) as u8).collect();
        let mut sent = 0;
        loop {
            match writer.write_vectored(&[IoSlice::new(&bytes[sent..]), IoSlice::new(b"more")]) {
                Ok(taken) => sent += taken,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(writer.has_pending());
        let held = std::mem::take(&mut sent);
        let mut got = vec![0; held];
        thread::scope(|scope| {
            scope.spawn(|| reader.read_exact(&mut got).unwrap());
            writer.socket().get().set_nonblocking(false).unwrap();
            writer.flush().unwrap();
        });
        assert!(!writer.has_pending());
        assert!(held < bytes.len() && got == bytes[..held]);
    }

    #[test]
    fn new_keys_change_nothing_for_those_who_read() {
        let (mut writer, mut reader) = pair();
        for part in [b"before", b"after "] {
            writer.write_all(part).unwrap();
            writer.session.refresh_traffic_keys().unwrap();
        }
        writer.write_all(b"end").unwrap();
        let mut heard = [0; 15];
        reader.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"beforeafter end");
        reader.write_all(b"yes").unwrap();
        let mut answer = [0; 3];
        writer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"yes");
    }

    #[test]
    fn what_was_changed_on_the_way_is_refused() {
        let (mut writer, mut reader) = pair();
        // Past the encryption, as somebody on the way would.
        writer.socket().get().write_all(&[0x17, 3, 3, 0, 32]).unwrap();
        writer.socket().get().write_all(&[7; 32]).unwrap();
        let error = reader.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(writer.read(&mut [0; 8]).is_err(), "the other end hears why");
    }

    #[test]
    fn a_connection_that_ends_without_farewell_ends() {
        let (writer, mut reader) = pair();
        drop(writer);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }
}
