//! A store that is connected to when it is first used: opening a URI reads nothing and needs no runtime, and what has
//! to be found out over the network is found out once, by whoever asks first.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// How to connect to a store.
#[async_trait]
pub(crate) trait Connect: fmt::Debug + Send + Sync + 'static {
    async fn connect(&self) -> Result<Arc<dyn ObjectStore>>;
}

/// A store behind its [`Connect`].
#[derive(Debug)]
pub(crate) struct Lazy<C> {
    shared: Arc<Shared<C>>,
    name: String,
}

#[derive(Debug)]
struct Shared<C> {
    connect: C,
    store: OnceCell<Arc<dyn ObjectStore>>,
}

impl<C: Connect> Lazy<C> {
    /// `name` is what messages call it.
    pub(crate) fn new(name: String, connect: C) -> Self {
        Self { shared: Arc::new(Shared { connect, store: OnceCell::new() }), name }
    }

    async fn store(&self) -> Result<&dyn ObjectStore> {
        self.shared.store().await.map(|store| &**store)
    }
}

impl<C: Connect> Shared<C> {
    async fn store(&self) -> Result<&Arc<dyn ObjectStore>> {
        self.store.get_or_try_init(|| self.connect.connect()).await
    }
}

impl<C> fmt::Display for Lazy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[async_trait]
impl<C: Connect> ObjectStore for Lazy<C> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store().await?.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store().await?.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store().await?.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.store().await?.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.later(move |store| store.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.later(move |store| store.list(prefix.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.later(move |store| store.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store().await?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store().await?.copy_opts(from, to, options).await
    }
}

impl<C: Connect> Lazy<C> {
    fn later<T: Send + 'static>(
        &self,
        stream: impl FnOnce(&dyn ObjectStore) -> BoxStream<'static, Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let shared = self.shared.clone();
        futures::stream::once(async move { shared.store().await.map(|store| stream(&**store)) }).try_flatten().boxed()
    }
}
