//! Where the coordinator is and how to get in: an address, a certificate, a token, a connection that notices when the other
//! end is gone.

use super::Coordinator;
use crate::failure::{Class, Failure, Plain};
use crate::home;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use trainctl_proto::dial::{Address, AddressError, Certificate, DialError, token_and_certificate};
use trainctl_proto::v1::jobs_client::JobsClient;

const CONNECT_MAX: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const MESSAGE_MAX_BYTES: usize = 64 << 20;

/// How the user says where the coordinator is.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Absolute.
    pub(crate) home: PathBuf,
    /// Instead of the home's own coordinator.
    pub(crate) url: Option<String>,
    /// Instead of the home's own token.
    pub(crate) token_file: Option<PathBuf>,
}

/// Adds the token to each call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// What a token file holds.
struct Access {
    token: MetadataValue<Ascii>,
    certificate: Option<Certificate>,
}

impl Reach {
    /// Connects and makes sure that a coordinator answers, is the one that was meant, and takes the token.
    pub(crate) async fn connect(&self) -> Result<Coordinator, Failure> {
        let token_file = self.token_file.clone().unwrap_or_else(|| home::token_file(&self.home));
        let access = self::access(&token_file);
        let address = match &self.url {
            Some(url) => named(url, &access, &token_file)?,
            None => self.at_home()?,
        };
        let channel = self.dial(&address, &token_file).await?;
        let bearer = Bearer(access?.token);
        let jobs = JobsClient::with_interceptor(channel, bearer).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let mut coordinator = Coordinator { jobs, url: address.url().to_owned(), token_file };
        coordinator.info().await?;
        Ok(coordinator)
    }

    /// As the home says now.
    fn at_home(&self) -> Result<Address, Failure> {
        let Some(file) = home::read_coordinator_file(&self.home)? else {
            return Err(Failure::new(
                Class::Unreachable,
                format!("no coordinator runs for the home {}", self.home.display()),
            )
            .hint("start one with `trainctl up`, or run a job without one with `trainctl submit --local JOB.toml`"));
        };
        let wrong = |error: &dyn std::fmt::Display| {
            let path = home::coordinator_file(&self.home);
            Failure::new(Class::Local, format!("{}: {error}", path.display()))
                .hint("remove the file and start the coordinator again with `trainctl up`")
        };
        let certificate = file.certificate.as_deref().map(Certificate::parse).transpose();
        Address::new(&file.address, certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))
    }

    async fn dial(&self, address: &Address, token_file: &Path) -> Result<Channel, Failure> {
        let tuned = |endpoint: Endpoint| {
            endpoint.connect_timeout(CONNECT_MAX).http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE)
        };
        address.connect(tuned).await.map_err(|error| {
            let class = match &error {
                DialError::Unreachable { url, source } => return self.unreachable(url, &root_cause(source)),
                DialError::OtherCertificate { .. } => Class::Refused,
                DialError::AnswersTls { .. } | DialError::AnswersPlain { .. } => Class::Usage,
            };
            let failure = Failure::new(class, format!("{error} (token file: {})", token_file.display()));
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }

    fn unreachable(&self, url: &str, cause: &str) -> Failure {
        let failure = Failure::new(Class::Unreachable, format!("coordinator at {url} can't be reached: {cause}"));
        if self.url.is_some() {
            failure.hint("check --coordinator (or TRAINCTL_COORDINATOR) and that `trainctl up` runs there")
        } else {
            failure.hint(format!(
                "{} names it, but nothing listens there; start it again with `trainctl up`",
                home::coordinator_file(&self.home).display()
            ))
        }
    }
}

/// The token, and behind it the certificate of the coordinator that takes it.
fn access(path: &Path) -> Result<Access, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::new(Class::Refused, format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure { class: Class::Refused, ..Failure::file("read token", path, &error) }
            .hint("`trainctl up` prints the path of its token file; give it with --token-file")
    })?;
    let (token, certificate) = token_and_certificate(&text);
    let token = format!("Bearer {token}");
    let token = token.parse().map_err(|_| refused(&"expected a token, found bytes that aren't text"))?;
    let certificate = certificate.map(Certificate::parse).transpose().map_err(|error| {
        refused(&error).hint("copy the file `token` of the coordinator's home again: the certificate is in it")
    })?;
    Ok(Access { token, certificate })
}

/// The coordinator that the user named, with the certificate from the token file.
fn named(url: &str, access: &Result<Access, Failure>, token_file: &Path) -> Result<Address, Failure> {
    let certificate = access.as_ref().ok().and_then(|access| access.certificate.clone());
    Address::new(url, certificate).map_err(|error| {
        let file = token_file.display();
        match (&error, access) {
            // What is wrong with the file is why there is no certificate.
            (AddressError::CertificateMissing { .. }, Err(failure)) => failure.clone(),
            (AddressError::CertificateMissing { .. }, Ok(_)) => {
                Failure::new(Class::Usage, format!("{file}: {error}")).hint(
                    "copy the file `token` of the coordinator's home here again: the certificate stands behind the token",
                )
            }
            (AddressError::Plain { .. }, _) => Failure::new(Class::Usage, format!("--coordinator: {error}"))
                .hint(format!("say https://; the certificate is in {file}")),
            (AddressError::Url { .. }, _) => Failure::new(Class::Usage, format!("--coordinator: {error}"))
                .hint("`trainctl up` prints its address"),
        }
    })
}

/// The innermost cause in plain words: `connection refused`.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<std::io::Error>() {
        Some(io) => Plain(io).to_string(),
        None => innermost.to_string(),
    }
}
