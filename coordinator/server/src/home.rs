//! The home folder: where a coordinator keeps its state on this machine, and how others find it. Only its user may look
//! in, and only one coordinator may be in it.

use coordinator_certificates::CertificateError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trainctl_proto::dial::{Certificate, PEM_BEGIN, PEM_END, SERVER_NAME, token_and_certificate};

/// What `coordinator.json` says while a coordinator listens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoordinatorFile {
    /// `http://HOST:PORT`, or `https://HOST:PORT`.
    pub address: String,
    /// By which those who dial `https` know it, on one line; absent: it answers in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Its process.
    pub pid: u32,
    /// The id of its state, tagged on every instance.
    pub cluster: String,
    /// Its program's version.
    pub version: String,
}

/// The home can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another coordinator is in it.
    #[error(
        "home {home}: expected no coordinator in it, found the one with pid {pid}\n\
         hint: use that one, stop it, or choose another home with --home",
        home = .home.display()
    )]
    InUse {
        /// Its folder.
        home: PathBuf,
        /// The other's process.
        pid: String,
    },
    /// A file or folder can't be made or read.
    #[error("{what} {path}", path = .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The token is no token.
    #[error(
        "token {path}: expected at least {least} letters and digits, found {found}\n\
         hint: remove the file to have a new one made",
        path = .path.display(),
        least = TOKEN_LENGTH_MIN
    )]
    Token {
        /// Its file.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// The identity is none.
    #[error(
        "identity {path}: expected a certificate and its key in PEM, found {found}\n\
         hint: remove the file to have a new one made; all who have the old certificate need the new one then",
        path = .path.display()
    )]
    Identity {
        /// Its file.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// A new identity can't be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What a coordinator proves with that it is this one.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its certificate and its key.
    pub(crate) pem: String,
    pub(crate) certificate: Certificate,
}

/// Is in every file of PEM that holds a key.
const PEM_KEY: &str = "PRIVATE KEY-----";
const TOKEN_LENGTH_MIN: usize = 32;
/// How long the file system may take to let go of the lock of a process that was killed just now.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// A home folder that nobody else is in.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// Held as long as this lives; the kernel lets go of it when the process dies, however it does.
    _lock: File,
}

impl Home {
    /// Makes the folder if need be and enters it.
    pub(crate) fn enter(path: &Path) -> Result<Self, HomeError> {
        let path = std::path::absolute(path).map_err(failed("resolve home", path))?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)))
            .map_err(failed("make home", &path))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn coordinator_file(&self) -> PathBuf {
        self.path.join("coordinator.json")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    pub(crate) fn identity_file(&self) -> PathBuf {
        self.path.join("identity.pem")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("db")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// The user's token; made, if there is none.
    pub(crate) fn token(&self) -> Result<String, HomeError> {
        let path = self.token_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let (token, _) = token_and_certificate(&text);
                let good = token.bytes().all(|byte| byte.is_ascii_alphanumeric()) && token.len() >= TOKEN_LENGTH_MIN;
                if good { Ok(token.to_owned()) } else { Err(HomeError::Token { found: token.len(), path }) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = hex(&rand::random::<[u8; 32]>());
                write_whole(&path, token.as_bytes()).map_err(failed("write token", &path))?;
                Ok(token)
            }
            Err(error) => Err(failed("read token", &path)(error)),
        }
    }

    /// The certificate by which this home's coordinator is known, and its key; made, if there is none.
    pub(crate) fn identity(&self) -> Result<Identity, HomeError> {
        let path = self.identity_file();
        let pem = match std::fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let issued = coordinator_certificates::self_signed(SERVER_NAME)?;
                let pem = issued.certificate_pem() + &issued.key_pem();
                write_whole(&path, pem.as_bytes()).map_err(failed("write identity", &path))?;
                pem
            }
            Err(error) => return Err(failed("read identity", &path)(error)),
        };
        match Certificate::parse(&pem) {
            Ok(_) if !pem.contains(PEM_KEY) => Err(HomeError::Identity { path, found: "no key" }),
            Ok(certificate) => Ok(Identity { pem, certificate }),
            Err(error) => Err(HomeError::Identity { path, found: error.found }),
        }
    }

    /// Puts the certificate behind the token: so both are handed on as one file. Without one it is taken out.
    pub(crate) fn hand_out(&self, token: &str, identity: Option<&Identity>) -> Result<(), HomeError> {
        let path = self.token_file();
        let certificate = identity.and_then(|identity| {
            let (begin, end) = (identity.pem.find(PEM_BEGIN)?, identity.pem.find(PEM_END)?);
            identity.pem.get(begin..end + PEM_END.len())
        });
        let text = certificate.map_or_else(|| token.to_owned(), |certificate| format!("{token}\n{certificate}\n"));
        let there = std::fs::read_to_string(&path).map_err(failed("read token", &path))?;
        if there.trim() == text.trim() {
            return Ok(());
        }
        write_whole(&path, text.as_bytes()).map_err(failed("write token", &path))
    }

    /// Says where the coordinator listens.
    pub(crate) fn announce(&self, file: &CoordinatorFile) -> Result<(), HomeError> {
        let path = self.coordinator_file();
        let text = serde_json::to_vec_pretty(file).map_err(io::Error::other);
        text.and_then(|text| write_whole(&path, &text)).map_err(failed("write", &path))
    }

    /// Takes that back. A file that stays behind names a coordinator that does not answer, no more.
    pub(crate) fn withdraw(&self) {
        if let Err(error) = std::fs::remove_file(self.coordinator_file()) {
            tracing::warn!(%error, "coordinator.json stays behind");
        }
    }
}

fn lock(home: &Path) -> Result<File, HomeError> {
    let path = home.join("lock");
    let options = || File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = options().map_err(failed("open", &path))?;
    let since = Instant::now();
    while let Err(error) = file.try_lock() {
        if let std::fs::TryLockError::Error(error) = error {
            return Err(failed("lock", &path)(error));
        }
        let mut pid = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut pid)).map_err(failed("read", &path))?;
        // The lock of one that was killed goes with its last thread, a moment after its pid.
        // One that takes it at this moment has not written its own yet.
        let lives = !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).exists();
        if lives || since.elapsed() > RELEASE_MAX {
            return Err(HomeError::InUse { home: home.to_owned(), pid });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    note_pid(&mut file).map_err(failed("write", &path))?;
    Ok(file)
}

fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

/// Nobody ever reads a part of the file, and it can be read by its user alone from its first moment.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn only_its_user_may_look_in() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("deep/home");
        let home = Home::enter(&path).expect("enter");
        let token = home.token().expect("token");
        assert_eq!((mode(&path), mode(&home.token_file())), (0o700, 0o600));
        assert_eq!(token.len(), 64);
        assert_eq!(home.token().expect("token again"), token);
        std::fs::write(home.token_file(), "short\n").expect("write");
        let error = home.token().expect_err("no token").to_string();
        assert!(error.contains("expected at least 32 letters and digits, found 5\nhint: "), "{error}");
    }

    #[test]
    fn an_identity_is_made_once_and_its_certificate_handed_out_with_the_token() {
        let folder = tempfile::tempdir().expect("temp folder");
        let home = Home::enter(folder.path()).expect("enter");
        let token = home.token().expect("token");
        let identity = home.identity().expect("identity");
        assert_eq!(mode(&home.identity_file()), 0o600);
        assert_eq!(home.identity().expect("identity again").certificate, identity.certificate);

        home.hand_out(&token, Some(&identity)).expect("hand out");
        let text = std::fs::read_to_string(home.token_file()).expect("read");
        assert_eq!((mode(&home.token_file()), home.token().expect("token").as_str()), (0o600, token.as_str()));
        assert_eq!(Certificate::parse(&text).expect("a certificate"), identity.certificate);
        assert!(!text.contains("PRIVATE"), "{text}");
        home.hand_out(&token, None).expect("take back");
        assert_eq!(std::fs::read_to_string(home.token_file()).expect("read"), token);

        std::fs::write(home.identity_file(), "-----BEGIN CERTIFICATE-----\n").expect("write");
        let error = home.identity().expect_err("no identity").to_string();
        assert!(
            error.contains("identity.pem: expected a certificate and its key in PEM, found one without"),
            "{error}"
        );
    }

    #[test]
    fn a_second_coordinator_is_refused_and_told_the_pid() {
        let folder = tempfile::tempdir().expect("temp folder");
        let home = Home::enter(folder.path()).expect("enter");
        let error = Home::enter(folder.path()).expect_err("occupied").to_string();
        assert!(error.contains(&format!("found the one with pid {}\nhint: ", std::process::id())), "{error}");
        drop(home);
        Home::enter(folder.path()).expect("free again");
    }

    #[test]
    fn the_address_is_announced_and_withdrawn() {
        let folder = tempfile::tempdir().expect("temp folder");
        let home = Home::enter(folder.path()).expect("enter");
        let file = CoordinatorFile {
            address: "http://127.0.0.1:1".to_owned(),
            certificate: None,
            pid: 7,
            cluster: "c".to_owned(),
            version: "v".to_owned(),
        };
        home.announce(&file).expect("announce");
        let text = std::fs::read(home.coordinator_file()).expect("read");
        assert_eq!(serde_json::from_slice::<CoordinatorFile>(&text).expect("JSON"), file);
        home.withdraw();
        assert!(!home.coordinator_file().exists());
    }
}
