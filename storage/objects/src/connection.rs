//! A store that is connected to at its first use, and mended after a refusal: opening a URI reads nothing and needs no
//! runtime, and credentials or settings that the store refuses are read again before the caller gets the error.

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, RwLock};

/// Objects deleted by one call of the store below.
const DELETES_MAX: usize = 1000;

/// How to connect to a store, and what to do about a refusal.
#[async_trait]
pub(crate) trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Finds out where the store is and who asks.
    async fn connect(&self) -> Result<Arc<dyn ObjectStore>>;

    /// What was changed because of `error`; the request is sent once more after anything but [`Remedy::None`].
    async fn mend(&self, error: &Error) -> Remedy;
}

/// What came of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remedy {
    /// Nothing that would change the answer.
    None,
    /// The store at hand has other credentials now.
    Retry,
    /// A new connection has other settings.
    Reconnect,
}

/// A store behind its [`Connect`].
#[derive(Debug)]
pub(crate) struct Connection<C> {
    shared: Arc<Shared<C>>,
    name: String,
}

#[derive(Debug)]
struct Shared<C> {
    connect: C,
    store: RwLock<Option<Arc<dyn ObjectStore>>>,
    /// One mends at a time: of many requests refused together, the later ones find the remedy of the first.
    mending: Mutex<()>,
}

impl<C: Connect> Connection<C> {
    /// `name` is what messages call it.
    pub(crate) fn new(name: String, connect: C) -> Self {
        let shared = Shared { connect, store: RwLock::default(), mending: Mutex::default() };
        Self { shared: Arc::new(shared), name }
    }
}

impl<C: Connect> Shared<C> {
    async fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        if let Some(store) = &*self.store.read().await {
            return Ok(store.clone());
        }
        let mut store = self.store.write().await;
        match &*store {
            Some(store) => Ok(store.clone()),
            None => Ok(store.insert(self.connect.connect().await?).clone()),
        }
    }

    /// The store to try once more with, if `error`, which `refused` gave, could be mended.
    async fn mended(&self, error: &Error, refused: &Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        let _one = self.mending.lock().await;
        let now = self.store().await.ok()?;
        if !Arc::ptr_eq(&now, refused) {
            return Some(now);
        }
        match self.connect.mend(error).await {
            Remedy::None => None,
            Remedy::Retry => Some(now),
            Remedy::Reconnect => {
                let store = self.connect.connect().await.ok()?;
                *self.store.write().await = Some(store.clone());
                Some(store)
            }
        }
    }

    /// `request`, once more if its refusal could be mended.
    async fn request<T, F>(&self, request: impl Fn(Arc<dyn ObjectStore>) -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let store = self.store().await?;
        let error = match request(store.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match self.mended(&error, &store).await {
            Some(store) => request(store).await,
            None => Err(error),
        }
    }

    /// What `list` lists, begun once more if its first page was refused and that could be mended.
    fn listing<T: Send + 'static>(
        self: Arc<Self>,
        list: impl Fn(&dyn ObjectStore) -> BoxStream<'static, Result<T>> + Send + Sync + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let begun = async move {
            let store = self.store().await?;
            let mut listed = list(&*store);
            match listed.next().await {
                Some(Ok(first)) => Ok(stream::once(async { Ok(first) }).chain(listed).boxed()),
                None => Ok(stream::empty().boxed()),
                Some(Err(error)) => match self.mended(&error, &store).await {
                    Some(store) => Ok(list(&*store)),
                    None => Err(error),
                },
            }
        };
        stream::once(begun).try_flatten().boxed()
    }

    /// Deletes all of `paths`, once more if that was refused and could be mended.
    async fn delete(&self, paths: Vec<Path>) -> Vec<Result<Path>> {
        let store = match self.store().await {
            Ok(store) => store,
            Err(error) => return vec![Err(error)],
        };
        let deleted = delete_from(&*store, &paths).await;
        let Some(error) = deleted.iter().find_map(|deleted| deleted.as_ref().err()) else { return deleted };
        let Some(store) = self.mended(error, &store).await else { return deleted };
        let again = delete_from(&*store, &paths).await.into_iter();
        again
            .map(|deleted| match deleted {
                // Gone at the first try.
                Err(Error::NotFound { path, .. }) => Ok(Path::from(path)),
                deleted => deleted,
            })
            .collect()
    }
}

async fn delete_from(store: &dyn ObjectStore, paths: &[Path]) -> Vec<Result<Path>> {
    let paths: Vec<Result<Path>> = paths.iter().cloned().map(Ok).collect();
    store.delete_stream(stream::iter(paths).boxed()).collect().await
}

impl<C> fmt::Display for Connection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[async_trait]
impl<C: Connect> ObjectStore for Connection<C> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (payload, options) = (&payload, &options);
        let put = |store: Arc<dyn ObjectStore>| async move {
            store.put_opts(location, payload.clone(), options.clone()).await
        };
        self.shared.request(put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let options = &options;
        let start =
            |store: Arc<dyn ObjectStore>| async move { store.put_multipart_opts(location, options.clone()).await };
        self.shared.request(start).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let options = &options;
        self.shared.request(|store| async move { store.get_opts(location, options.clone()).await }).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.shared.request(|store| async move { store.get_ranges(location, ranges).await }).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let shared = self.shared.clone();
        let delete = move |located: Vec<Result<Path>>| {
            let shared = shared.clone();
            async move {
                let mut answers = Vec::new();
                let mut paths = Vec::with_capacity(located.len());
                for path in located {
                    match path {
                        Ok(path) => paths.push(path),
                        Err(error) => answers.push(Err(error)),
                    }
                }
                answers.extend(shared.delete(paths).await);
                stream::iter(answers)
            }
        };
        locations.chunks(DELETES_MAX).then(delete).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.shared.clone().listing(move |store| store.list(prefix.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.shared.clone().listing(move |store| store.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.shared.request(|store| async move { store.list_with_delimiter(prefix).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let options = &options;
        self.shared.request(|store| async move { store.copy_opts(from, to, options.clone()).await }).await
    }
}
