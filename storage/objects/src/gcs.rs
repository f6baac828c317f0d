//! A bucket of Google Cloud Storage, connected to when it is first used.

use crate::lazy::Connect;
use async_trait::async_trait;
use object_store::{ObjectStore, Result};
use std::sync::Arc;
use std::time::Duration;
use trainctl_gcs::Gcs;

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) patience: Duration,
}

#[async_trait]
impl Connect for Bucket {
    async fn connect(&self) -> Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(Gcs::connect(&self.name, self.patience).await?))
    }
}
