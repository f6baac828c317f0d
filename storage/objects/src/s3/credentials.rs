//! Credentials as the AWS tools find them, read again before they end, once a minute where nothing says when
//! they end, and after a refusal. Each time the whole chain is walked anew, so that a renewed file, profile, role or web
//! identity counts.

use super::http_client;
use async_trait::async_trait;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use object_store::aws::AwsCredential;
use object_store::client::CredentialProvider;
use object_store::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Credentials are read again this long before they end.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Credentials that name no end are read again after this: a file may have been renewed.
const REREAD_AFTER: Duration = Duration::from_secs(60);
/// After a failed or fruitless renewal the next one waits this long.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// S3's codes for credentials that are no longer good or never were, beside the plain 401 and 403.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
const REFUSALS: [&str; 6] =
    ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired", "InvalidAccessKeyId", "AuthFailure"];

/// The credentials at hand. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    region: Option<Region>,
    held: Arc<Mutex<Option<Held>>>,
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Debug)]
struct Held {
    credential: Arc<AwsCredential>,
    ends: Option<SystemTime>,
    /// When the next renewal is due.
    renew_at: Instant,
}

impl Credentials {
    /// None yet; `region` is for those that are asked of a service.
    pub(crate) fn new(region: Option<Region>) -> Self {
        Self { region, held: Arc::default(), reading: Arc::default() }
    }

    /// Whether `error` is a refusal of the credentials.
    pub(crate) fn refused(error: &Error) -> bool {
        match error {
            Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => true,
            error => super::names_code(error, &REFUSALS),
        }
    }

    /// Reads them again after a refusal; whether they are others now.
    pub(crate) async fn reread(&self) -> bool {
        let before = self.held().map(|held| held.credential);
        let _one = self.reading.lock().await;
        match self.read().await {
            Ok(held) => before.as_deref() != Some(&*held.credential),
            Err(error) => {
                tracing::warn!(%error, "the credentials were refused, and can't be read again");
                false
            }
        }
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that need not be read again yet.
    fn fresh(&self) -> Option<Arc<AwsCredential>> {
        self.held().filter(|held| Instant::now() < held.renew_at).map(|held| held.credential)
    }

    async fn read(&self) -> Result<Held> {
        let config = ProviderConfig::without_region().with_http_client(http_client()).with_region(self.region.clone());
        let chain = DefaultCredentialsChain::builder().configure(config).build().await;
        let found = chain.provide_credentials().await.map_err(|source| Error::Unauthenticated {
            path: "AWS credentials".to_owned(),
            source: Box::new(source),
        })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        let ends = found.expiry();
        let held = Held { credential, ends, renew_at: Instant::now() + renew_after(ends, SystemTime::now()) };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        Ok(held)
    }

    /// The credentials that are still held when newer ones can't be read.
    fn keep(&self, held: Held, error: &Error) -> Result<Arc<AwsCredential>> {
        tracing::warn!(%error, "the AWS credentials can't be read again; goes on with those at hand");
        let credential = held.credential.clone();
        let held = Held { renew_at: Instant::now() + RENEWAL_PAUSE, ..held };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(credential)
    }
}

/// How long credentials that end at `ends` are used before they are read again. A warning where they end soon all the
/// same: then there was nothing newer.
fn renew_after(ends: Option<SystemTime>, now: SystemTime) -> Duration {
    let Some(ends) = ends else { return REREAD_AFTER };
    let left = ends.duration_since(now).unwrap_or_default();
    if left > RENEW_BEFORE {
        return left - RENEW_BEFORE;
    }
    let ends: chrono::DateTime<chrono::Utc> = ends.into();
    tracing::warn!(
        "the AWS credentials end at {} UTC, in {} s, and there are no newer ones yet",
        ends.format("%Y-%m-%d %H:%M:%S"),
        left.as_secs()
    );
    RENEWAL_PAUSE
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        if let Some(credential) = self.fresh() {
            return Ok(credential);
        }
        let _one = self.reading.lock().await;
        // Another request may have read them meanwhile.
        if let Some(credential) = self.fresh() {
            return Ok(credential);
        }
        let held = self.held();
        match (self.read().await, held) {
            (Ok(held), _) => Ok(held.credential),
            (Err(error), Some(held)) if held.ends.is_none_or(|ends| ends > SystemTime::now()) => {
                self.keep(held, &error)
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_before_they_end_and_once_a_minute_where_nothing_says_when() {
        let now = SystemTime::now();
        assert_eq!(renew_after(None, now), REREAD_AFTER);
        assert_eq!(renew_after(Some(now + Duration::from_secs(3600)), now), Duration::from_secs(3300));
        for soon in [Duration::ZERO, Duration::from_secs(299)] {
            assert_eq!(renew_after(Some(now + soon), now), RENEWAL_PAUSE);
        }
        assert_eq!(renew_after(Some(now - Duration::from_secs(5)), now), RENEWAL_PAUSE);
    }

    #[test]
    fn refusals_are_told_from_other_errors() {
        let generic = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
        assert!(Credentials::refused(&generic("400 Bad Request: <Error><Code>ExpiredToken</Code></Error>")));
        assert!(Credentials::refused(&Error::PermissionDenied { path: "x".into(), source: "403".into() }));
        assert!(!Credentials::refused(&generic("400 Bad Request: <Error><Code>InvalidRequest</Code></Error>")));
        assert!(!Credentials::refused(&Error::NotFound { path: "ExpiredToken".into(), source: "404".into() }));
    }
}
