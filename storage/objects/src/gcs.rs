//! A bucket of Google Cloud Storage, connected to when it is first used.

use crate::connection::{Connect, Remedy};
use async_trait::async_trait;
use object_store::{Error, ObjectStore, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trainctl_gcs::Gcs;

/// Credentials that were refused are read again no sooner than this after they were read.
const REREAD_AFTER: Duration = Duration::from_secs(10);

/// How to reach one bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    /// How long a request is tried again while the service is down or throttles.
    retry_timeout: Duration,
    connected: Mutex<Option<Instant>>,
}

impl Bucket {
    pub(crate) fn new(name: String, retry_timeout: Duration) -> Self {
        Self { name, retry_timeout, connected: Mutex::default() }
    }
}

#[async_trait]
impl Connect for Bucket {
    async fn connect(&self) -> Result<Arc<dyn ObjectStore>> {
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(Arc::new(Gcs::connect(&self.name, self.retry_timeout).await?))
    }

    /// Google's client renews tokens by itself, but reads the file or environment that they come from once.
    async fn mend(&self, error: &Error) -> Remedy {
        let connected = *self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = matches!(error, Error::Unauthenticated { .. } | Error::PermissionDenied { .. });
        if refused && connected.is_none_or(|at| at.elapsed() >= REREAD_AFTER) {
            return Remedy::Reconnect;
        }
        Remedy::None
    }
}
