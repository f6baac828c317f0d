//! Where the coordinator is and how to get in: an address, a token, a connection that notices when the other end is
//! gone.

use super::Coordinator;
use crate::failure::{Class, Failure, Plain};
use crate::home;
use std::path::PathBuf;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
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

impl Reach {
    /// The coordinator's address: as given, or as the home says now.
    pub(crate) fn url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.url {
            return Ok(if url.contains("://") { url.clone() } else { format!("http://{url}") });
        }
        match home::read_coordinator_file(&self.home)? {
            Some(file) => Ok(file.address),
            None => Err(Failure::new(
                Class::Unreachable,
                format!("no coordinator runs for the home {}", self.home.display()),
            )
            .hint("start one with `trainctl up`, or run a job without one with `trainctl submit --local JOB.toml`")),
        }
    }

    /// Connects and makes sure that a coordinator answers and takes the token.
    pub(crate) async fn connect(&self) -> Result<Coordinator, Failure> {
        let url = self.url()?;
        let token_file = self.token_file.clone().unwrap_or_else(|| home::token_file(&self.home));
        let channel = self.dial(&url).await?;
        let token = std::fs::read_to_string(&token_file).map_err(|error| {
            Failure { class: Class::Refused, ..Failure::file("read token", &token_file, &error) }
                .hint("`trainctl up` prints the path of its token file; give it with --token-file")
        })?;
        let bearer = format!("Bearer {}", token.trim()).parse().map_err(|_| {
            Failure::new(
                Class::Refused,
                format!("{}: expected a token, found bytes that aren't text", token_file.display()),
            )
        })?;
        let jobs = JobsClient::with_interceptor(channel, Bearer(bearer)).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let mut coordinator = Coordinator { jobs, url, token_file };
        coordinator.info().await?;
        Ok(coordinator)
    }

    async fn dial(&self, url: &str) -> Result<Channel, Failure> {
        let endpoint =
            Endpoint::from_shared(url.to_owned()).ok().filter(|_| url.starts_with("http://")).ok_or_else(|| {
                Failure::new(Class::Usage, format!("--coordinator: expected http://HOST:PORT, found {url:?}"))
                    .hint("`trainctl up` prints its address")
            })?;
        endpoint
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect()
            .await
            .map_err(|error| self.unreachable(url, &root_cause(&error)))
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
