//! How EC2 is reached, and by whom.
//!
//! Endpoint and credentials come from where the AWS tools have them: the environment, the profile files, a web identity,
//! the container's or instance's role. They are read when the first call is made, and again when the API says that they
//! have run out: whoever renews them doesn't have to restart the coordinator.

use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_ec2::config::Region;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const CONNECT: Duration = Duration::from_secs(5);
/// A fleet of one takes EC2 a few seconds.
const ANSWER: Duration = Duration::from_secs(60);
/// Credentials are not read again sooner, however often a call fails.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// What differs from the AWS tools' own settings.
#[derive(Clone, Default, Debug)]
pub struct Access {
    /// Instead of the region's, such as `http://127.0.0.1:5000`.
    pub endpoint: Option<String>,
    /// A file of credentials to read, and nothing else.
    pub credentials: Option<PathBuf>,
}

/// The SDK's client of one region, made anew when its credentials have run out.
pub(crate) struct Session {
    access: Access,
    region: String,
    held: Mutex<Option<(aws_sdk_ec2::Client, Instant)>>,
}

impl Session {
    pub(crate) fn new(region: &str, access: Access) -> Self {
        Self { access, region: region.to_owned(), held: Mutex::new(None) }
    }

    pub(crate) async fn client(&self) -> aws_sdk_ec2::Client {
        let mut held = self.held.lock().await;
        if let Some((client, _)) = &*held {
            return client.clone();
        }
        let client = connect(&self.access, &self.region).await;
        *held = Some((client.clone(), Instant::now()));
        client
    }

    /// Has the credentials read again. Whether that was not done just now.
    pub(crate) async fn renew(&self) -> bool {
        let mut held = self.held.lock().await;
        let old = held.as_ref().is_some_and(|(_, since)| since.elapsed() >= READ_AGAIN);
        if old {
            *held = None;
        }
        old
    }
}

async fn connect(access: &Access, region: &str) -> aws_sdk_ec2::Client {
    // One provider of cryptography for the whole process; the second call finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .region(Region::new(region.to_owned()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(ANSWER).build());
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(path) = &access.credentials {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&ProviderConfig::without_region().with_http_client(http))
            .profile_files(files.clone());
        loader = loader.credentials_provider(provider.build()).profile_files(files);
    }
    aws_sdk_ec2::Client::new(&loader.load().await)
}
