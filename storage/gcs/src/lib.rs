//! Google Cloud Storage as an [`ObjectStore`], through Google's own client.
//!
//! The client streams objects to and from the bucket; what it has only for gRPC (listing, deleting, metadata) goes
//! through the service's JSON interface, with the same credentials. These come from where Google's tools have them:
//! `GOOGLE_APPLICATION_CREDENTIALS`, `gcloud auth application-default login`, the machine's service account, a
//! workload identity. `STORAGE_EMULATOR_HOST` names another endpoint, to which no credentials are shown.

mod error;
mod json;
mod read;
mod upload;

use async_trait::async_trait;
use bytes::Bytes;
use error::Doing;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use google_cloud_auth::credentials::{Builder as ApplicationDefault, Credentials, anonymous};
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_storage::client::Storage;
use google_cloud_storage::model::Object;
use google_cloud_storage::retry_policy::RetryableErrors;
use json::Json;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// In messages.
pub(crate) const STORE: &str = "GCS";
/// Deletions under way at once.
const DELETING: usize = 16;

/// One bucket.
#[derive(Clone, Debug)]
pub struct Gcs {
    storage: Storage,
    json: Arc<Json>,
    name: String,
}

impl Gcs {
    /// Connects to the bucket `name`. Requests are tried again for `retry_timeout` while the service can't be reached or
    /// throttles.
    ///
    /// # Errors
    /// When there are no credentials, or the endpoint is none.
    pub async fn connect(name: &str, retry_timeout: Duration) -> Result<Self> {
        // One provider of cryptography for the whole process; the second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let emulator = std::env::var("STORAGE_EMULATOR_HOST").ok().filter(|host| !host.is_empty());
        let endpoint = emulator.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
        let credentials = match &endpoint {
            Some(_) => anonymous::Builder::new().build(),
            None => application_default()?,
        };
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_delay(Duration::from_millis(100))
            .with_maximum_delay(Duration::from_secs(5))
            .build()
            .map_err(|source| Error::Generic { store: STORE, source: Box::new(source) })?;
        let mut builder = Storage::builder()
            .with_credentials(credentials.clone())
            .with_retry_policy(RetryableErrors.with_time_limit(retry_timeout))
            .with_backoff_policy(backoff);
        if let Some(endpoint) = &endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let storage =
            builder.build().await.map_err(|source| Error::Generic { store: STORE, source: Box::new(source) })?;
        let json = Arc::new(Json::new(endpoint.as_deref(), name, credentials, retry_timeout)?);
        Ok(Self { storage, json, name: name.to_owned() })
    }

    /// As Google's client names it.
    fn resource(&self) -> String {
        format!("projects/_/buckets/{}", self.name)
    }
}

fn application_default() -> Result<Credentials> {
    ApplicationDefault::default().build().map_err(|source| Error::Unauthenticated {
        path: "Google's application default credentials".to_owned(),
        source: Box::new(source),
    })
}

impl fmt::Display for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}", self.name)
    }
}

pub(crate) fn put_result(object: &Object) -> PutResult {
    PutResult {
        e_tag: Some(object.etag.clone()).filter(|tag| !tag.is_empty()),
        version: Some(object.generation.to_string()),
        extensions: Default::default(),
    }
}

/// The generation that a put needs to find: 0 is none.
fn generation(path: &Path, expected: &UpdateVersion) -> Result<i64> {
    let known = expected.version.as_deref().and_then(|version| version.parse().ok());
    known.ok_or_else(|| Error::Precondition {
        path: path.to_string(),
        source: "an update needs the generation that it replaces".into(),
    })
}

#[async_trait]
impl ObjectStore for Gcs {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload);
        let crc32c = crc32c::crc32c(&bytes);
        let mut write = self
            .storage
            .write_object(self.resource(), location.as_ref(), bytes)
            .with_resumable_upload_threshold(usize::MAX)
            .with_idempotency(true);
        write = match &options.mode {
            PutMode::Overwrite => write,
            PutMode::Create => write.set_if_generation_match(0),
            PutMode::Update(expected) => write.set_if_generation_match(generation(location, expected)?),
        };
        let object = write.with_known_crc32c(crc32c).send_buffered().await;
        object.map(|object| put_result(&object)).map_err(|source| Doing::Put(&options.mode).error(location, source))
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (storage, json) = (self.storage.clone(), self.json.clone());
        Ok(Box::new(upload::Upload::start(storage, json, self.resource(), location.clone())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let json = self.json.clone();
        locations
            .map(move |location| {
                let json = json.clone();
                async move {
                    let location = location?;
                    json.delete(&location).await?;
                    Ok(location)
                }
            })
            .buffered(DELETING)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.pages(prefix, Some(offset.clone()))
            .try_filter(move |meta| {
                // The service's own offset is inclusive.
                let after = meta.location > offset;
                async move { after }
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed =
            ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() };
        let mut next = None;
        loop {
            let page = self.json.list(prefix, None, true, next.as_deref()).await?;
            listed.objects.extend(page.objects);
            listed.common_prefixes.extend(page.folders);
            next = page.next;
            if next.is_none() {
                return Ok(listed);
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.json.copy(from, to, options.mode).await
    }
}

impl Gcs {
    /// Page after page, each asked for when the one before it was taken.
    fn pages(&self, prefix: Option<&Path>, offset: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (json, prefix) = (self.json.clone(), prefix.cloned());
        stream::try_unfold(Some(None::<String>), move |next| {
            let (json, prefix, offset) = (json.clone(), prefix.clone(), offset.clone());
            async move {
                let Some(token) = next else { return Ok(None) };
                let page = json.list(prefix.as_ref(), offset.as_ref(), false, token.as_deref()).await?;
                Ok::<_, Error>(Some((stream::iter(page.objects.into_iter().map(Ok)), page.next.map(Some))))
            }
        })
        .try_flatten()
        .boxed()
    }
}
