//! A bucket of S3, or of what speaks its protocol (`AWS_ENDPOINT_URL_S3`).
//!
//! Where it is and who asks comes from where the AWS tools have it: the environment, the profile files, a web
//! identity, the container's or instance's role. Some of these take a request to find out, so nothing is looked up
//! before the bucket is first used.

use crate::lazy::Connect;
use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use object_store::aws::{AmazonS3Builder, AwsCredential, S3ConditionalPut, S3CopyIfNotExists, resolve_bucket_region};
use object_store::client::{ClientOptions, CredentialProvider};
use object_store::{BackoffConfig, Error, ObjectStore, Result, RetryConfig};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Where buckets are when nothing says where.
const DEFAULT_REGION: &str = "us-east-1";
/// Credentials are asked for again so long before they end.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Longest silence of a server that is sending an answer.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to find out where a bucket is.
const ASKING_WHERE: Duration = Duration::from_secs(2);

/// How to reach one bucket.
#[derive(Clone, Debug)]
pub(crate) struct S3 {
    pub(crate) bucket: String,
    /// How long a request is tried again while the store is down or throttles.
    pub(crate) patience: Duration,
}

#[async_trait]
impl Connect for S3 {
    async fn connect(&self) -> Result<Arc<dyn ObjectStore>> {
        // One provider of cryptography for the whole process; the second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
        let of_s3 = std::env::var("AWS_ENDPOINT_URL_S3").ok();
        let endpoint = of_s3.as_deref().or(config.endpoint_url()).filter(|endpoint| !endpoint.is_empty());
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        let region = match endpoint {
            // A bucket of AWS is where it is, wherever this machine or the user's profile may be.
            None => region_of(&self.bucket).await.or(region),
            Some(_) => region,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()))
            .with_client_options(
                ClientOptions::new().with_connect_timeout(CONNECT).with_read_timeout(SILENCE).with_timeout_disabled(),
            )
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
            .with_retry(retries(self.patience));
        if let Some(endpoint) = endpoint {
            check_endpoint(endpoint)?;
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        } else {
            builder = builder.with_virtual_hosted_style_request(!self.bucket.contains('.'));
        }
        if let Some(provider) = config.credentials_provider() {
            builder = builder.with_credentials(Arc::new(Credentials { provider, held: Mutex::default() }));
        }
        Ok(Arc::new(builder.build()?))
    }
}

/// As AWS tells everybody; `None` where it can't be asked, or where others than the public partition's buckets are.
async fn region_of(bucket: &str) -> Option<String> {
    let options = ClientOptions::new().with_connect_timeout(ASKING_WHERE).with_timeout(ASKING_WHERE);
    resolve_bucket_region(bucket, &options).await.ok()
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    let web = url::Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if web {
        return Ok(());
    }
    let found = format!("S3's endpoint: expected http://host:port or https://host, found {endpoint:?}");
    Err(Error::Generic { store: "S3", source: found.into() })
}

pub(crate) fn retries(patience: Duration) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: 1000, retry_timeout: patience }
}

/// The AWS tools' credentials, kept until shortly before they end.
#[derive(Debug)]
struct Credentials {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        if let Some((credential, ends)) = &*self.held.lock().unwrap_or_else(PoisonError::into_inner)
            && ends.is_none_or(|ends| ends > SystemTime::now() + RENEW_BEFORE)
        {
            return Ok(credential.clone());
        }
        let found = self.provider.provide_credentials().await.map_err(|source| Error::Unauthenticated {
            path: "AWS credentials".to_owned(),
            source: Box::new(source),
        })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((credential.clone(), found.expiry()));
        Ok(credential)
    }
}
