//! A bucket of S3, or of what speaks its protocol (`AWS_ENDPOINT_URL_S3`).
//!
//! Region, endpoint and credentials come from where the AWS tools have them: the environment, the profile files, a web
//! identity, the container's or instance's role. Some of these take a request to find out, so nothing is looked up
//! before the bucket is first used.

mod answers;
mod credentials;
mod style;

use crate::conditions::is_not_implemented;
use crate::connection::{Connect, Remedy};
use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use credentials::Credentials;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut, S3CopyIfNotExists, resolve_bucket_region};
use object_store::client::ClientOptions;
use object_store::{BackoffConfig, Error, ObjectStore, Result, RetryConfig};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use style::Style;
use url::Url;

/// Where buckets are when nothing says where.
const DEFAULT_REGION: &str = "us-east-1";
/// Longest silence of a server that is sending an answer.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to find out where a bucket is.
const LOOKUP: Duration = Duration::from_secs(2);

/// How to reach one bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    bucket: String,
    /// How long a request is tried again while the store is down or throttles.
    retry_timeout: Duration,
    credentials: Mutex<Option<Credentials>>,
    /// The server refused to delete many objects by one request, whose checksum header it doesn't know.
    deletes_one_by_one: AtomicBool,
    /// The server takes the bucket in its host name only.
    in_host_name: AtomicBool,
}

impl S3 {
    pub(crate) fn new(bucket: String, retry_timeout: Duration) -> Self {
        Self {
            bucket,
            retry_timeout,
            credentials: Mutex::default(),
            deletes_one_by_one: AtomicBool::default(),
            in_host_name: AtomicBool::default(),
        }
    }

    fn credentials(&self) -> Option<Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Connect for S3 {
    async fn connect(&self) -> Result<Arc<dyn ObjectStore>> {
        let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client()).load().await;
        let of_s3 = std::env::var("AWS_ENDPOINT_URL_S3").ok();
        let endpoint = of_s3.as_deref().or(config.endpoint_url()).filter(|endpoint| !endpoint.is_empty());
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        let region = match endpoint {
            // A bucket of AWS is where it is, wherever this machine or the user's profile may be.
            None => region_of(&self.bucket).await.or(region),
            Some(_) => region,
        };
        let credentials = {
            let mut credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
            credentials.get_or_insert_with(|| Credentials::new(config.region().cloned())).clone()
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()))
            .with_client_options(
                ClientOptions::new().with_connect_timeout(CONNECT).with_read_timeout(SILENCE).with_timeout_disabled(),
            )
            .with_http_connector(answers::Connector::default())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
            .with_disable_bulk_delete(self.deletes_one_by_one.load(Ordering::Relaxed))
            .with_credentials(Arc::new(credentials))
            .with_retry(retries(self.retry_timeout));
        if let Some(endpoint) = endpoint {
            let url = check_endpoint(endpoint)?;
            let in_host_name =
                self.in_host_name.load(Ordering::Relaxed) || style::configured().await == Style::HostName;
            let endpoint = if in_host_name { style::with_bucket(&url, &self.bucket)? } else { endpoint.to_owned() };
            builder = builder
                .with_allow_http(url.scheme() == "http")
                .with_endpoint(endpoint)
                .with_virtual_hosted_style_request(in_host_name);
        } else {
            builder = builder.with_virtual_hosted_style_request(!self.bucket.contains('.'));
        }
        Ok(Arc::new(builder.build()?))
    }

    async fn mend(&self, error: &Error) -> Remedy {
        let bucket = &self.bucket;
        if names_code(error, &style::REFUSALS) && !self.in_host_name.swap(true, Ordering::Relaxed) {
            tracing::warn!("the store wants the name of bucket {bucket} in its host name: sends it there from now on");
            return Remedy::Reconnect;
        }
        if is_not_implemented(error)
            && names_code(error, &["checksum", "DeleteObjects"])
            && !self.deletes_one_by_one.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "the store of bucket {bucket} doesn't take checksum headers: deletes one by one from now on"
            );
            return Remedy::Reconnect;
        }
        match self.credentials() {
            Some(credentials) if Credentials::refused(error) && credentials.reread().await => {
                tracing::info!("the AWS credentials for bucket {bucket} were refused, and newer ones were found");
                Remedy::Retry
            }
            _ => Remedy::None,
        }
    }
}

/// Whether the answer that `error` came from names one of these codes.
fn names_code(error: &Error, codes: &[&str]) -> bool {
    let Error::NotFound { .. } = error else {
        let text = error.to_string();
        return codes.iter().any(|code| text.contains(code));
    };
    false
}

/// For what is asked of AWS itself: credentials, regions.
fn http_client() -> impl aws_smithy_runtime_api::client::http::HttpClient + 'static {
    // One provider of cryptography for the whole process; the second call finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The region that AWS reports; `None` where it can't be reached, or for buckets outside of the public partition.
async fn region_of(bucket: &str) -> Option<String> {
    let options = ClientOptions::new().with_connect_timeout(LOOKUP).with_timeout(LOOKUP);
    resolve_bucket_region(bucket, &options).await.ok()
}

fn check_endpoint(endpoint: &str) -> Result<Url> {
    if let Ok(url) = Url::parse(endpoint)
        && matches!(url.scheme(), "http" | "https")
        && url.has_host()
    {
        return Ok(url);
    }
    let found = format!("S3's endpoint: expected http://host:port or https://host, found {endpoint:?}");
    Err(Error::Generic { store: "S3", source: found.into() })
}

pub(crate) fn retries(retry_timeout: Duration) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: 1000, retry_timeout }
}
