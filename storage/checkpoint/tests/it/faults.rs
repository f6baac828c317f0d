//! A store that fails at each of its operations in turn, as a bucket can: with the operation not done, or done and its
//! answer lost. Wherever a save stops, readers find a whole checkpoint, and saving again finishes it.

use crate::support::{JOB, info, layout, state, values};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use trainctl_checkpoint::{CheckpointError, RunFolder, TensorInfo, state_digest};

#[derive(Clone, Copy, PartialEq, Debug)]
enum When {
    /// Nothing was done.
    Before,
    /// All was done, and nobody knows.
    After,
}

/// Fails one operation, counted from 1; with 0, none.
#[derive(Clone, Debug)]
struct Fault {
    left: Arc<AtomicU32>,
    when: When,
}

impl Fault {
    fn is_due(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) == Ok(1)
    }

    fn error() -> object_store::Error {
        object_store::Error::Generic { store: "Faulty", source: "injected".into() }
    }

    async fn around<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        match (self.is_due(), self.when) {
            (false, _) => operation.await,
            (true, When::Before) => Err(Self::error()),
            (true, When::After) => operation.await.and(Err(Self::error())),
        }
    }
}

#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    fault: Fault,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.fault.around(self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.fault.around(self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(FaultyUpload { inner, fault: self.fault.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.fault.around(self.inner.get_opts(path, options)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (before, after) = (self.fault.clone(), self.fault.clone());
        let paths = paths.map(
            move |path| {
                if before.when == When::Before && before.is_due() { Err(Fault::error()) } else { path }
            },
        );
        let deleted = self.inner.delete_stream(paths.boxed());
        deleted
            .map(move |path| if after.when == When::After && after.is_due() { Err(Fault::error()) } else { path })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fault.is_due() {
            return futures::stream::iter([Err(Fault::error())]).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.fault.around(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.fault.around(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    fault: Fault,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.fault.clone();
        let sent = self.inner.put_part(data);
        Box::pin(async move { fault.around(sent).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.fault.around(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Two parts; the first one's model file is sent in two pieces.
fn tensors() -> (Vec<TensorInfo>, usize) {
    layout(&[&[2_200_000], &[300], &[200], &[100], &[60], &[50]])
}

fn open(store: Arc<dyn ObjectStore>) -> RunFolder {
    RunFolder::new(store, &Path::from("root"), JOB).unwrap()
}

const DEAD: u64 = 99;
const STEP: u64 = 2;

struct Scenario {
    tensors: Vec<TensorInfo>,
    one: Vec<f32>,
    dead: Vec<f32>,
    alive: Vec<f32>,
}

impl Scenario {
    fn new() -> Self {
        let (tensors, len) = tensors();
        Self { tensors, one: state(len, 1), dead: state(len, DEAD), alive: state(len, STEP) }
    }

    /// Step 1 is committed; of step 2 a dead group left all parts, of another state, and no commit.
    async fn begin(&self) -> InMemory {
        let store = Arc::new(InMemory::new());
        let folder = open(store.clone());
        for (step, state) in [(1, &self.one), (STEP, &self.dead)] {
            for part in 0..2 {
                folder.write_part(step, part, 2, &self.tensors, state).await.unwrap();
            }
        }
        folder.try_commit(1, 2, &info(state_digest(&self.tensors, &self.one, 1))).await.unwrap().unwrap();
        store.fork()
    }

    /// Saves step 2 and prunes, up to the first error.
    async fn save(&self, folder: &RunFolder) -> std::result::Result<(), CheckpointError> {
        let info = info(state_digest(&self.tensors, &self.alive, STEP));
        for part in 0..2 {
            folder.write_part(STEP, part, 2, &self.tensors, &self.alive).await?;
            match folder.try_commit(STEP, 2, &info).await {
                // The other part is still the dead group's.
                Ok(_) | Err(CheckpointError::StateDiffers { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        folder.prune(1).await.map(|_| ())
    }

    async fn assert_whole(&self, folder: &RunFolder, context: &str) {
        let mut out = vec![0.0; self.one.len()];
        let loaded = folder.load_newest(&self.tensors, &mut out).await.unwrap().unwrap();
        assert!(loaded.skipped.is_empty(), "{context}: {:?}", loaded.skipped);
        let digest = state_digest(&self.tensors, &out, loaded.manifest.step);
        assert_eq!(digest, loaded.manifest.state_digest, "{context}");
        let states = [&self.one, &self.dead, &self.alive].map(|state| values(&self.tensors, state));
        assert!(states.contains(&values(&self.tensors, &out)), "{context}: a state that never was");
        for step in folder.steps().await.unwrap() {
            folder.verify(step).await.unwrap_or_else(|error| panic!("{context}: step {step} is visible: {error}"));
        }
    }
}

#[tokio::test]
async fn a_save_that_stops_anywhere_harms_nothing_and_can_be_repeated() {
    let scenario = Scenario::new();
    let begin = scenario.begin().await;
    for when in [When::Before, When::After] {
        let mut operation = 0;
        loop {
            operation += 1;
            let context = format!("operation {operation} failed, {when:?}");
            let fault = Fault { left: Arc::new(AtomicU32::new(operation)), when };
            let store = Arc::new(Faulty { inner: begin.fork(), fault: fault.clone() });
            let folder = open(store.clone());
            let stopped = scenario.save(&folder).await;
            if fault.left.swap(0, Ordering::SeqCst) > 0 {
                assert!(stopped.is_ok(), "{stopped:?}");
                break;
            }
            scenario.assert_whole(&folder, &context).await;

            // One of the dead group wasn't, and asks late.
            let late = open(Arc::new(store.inner.fork()));
            let dead = info(state_digest(&scenario.tensors, &scenario.dead, STEP));
            let _ = late.try_commit(STEP, 2, &dead).await;
            scenario.assert_whole(&late, &format!("{context}, then a late commit")).await;

            scenario.save(&folder).await.unwrap_or_else(|error| panic!("{context}, then repeated: {error}"));
            assert_eq!(folder.steps().await.unwrap(), [STEP], "{context}");
            let manifest = folder.verify(STEP).await.unwrap();
            assert_eq!(manifest.state_digest, state_digest(&scenario.tensors, &scenario.alive, STEP));
            let objects: Vec<_> = store.inner.list(None).collect().await;
            assert_eq!(objects.len(), manifest.files.len() + 2, "{context}: something is left over");
        }
        assert!(operation > 40, "only {operation} operations were made to fail");
    }
}
