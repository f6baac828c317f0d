//! A store that is slow, fails or throttles now and then, cuts answers off, or lies about lengths.

use crate::support::{JOB, info, state, values};
use crate::unchanged::{layers, save};
use crate::{Seeded, folder, root};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trainctl_checkpoint::{CheckpointError, RunFolder, StateDigests};

const STEPS: u64 = 5;

/// What is wrong with the store.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trouble {
    /// Each request takes so much longer.
    Slow(Duration),
    /// This share of all requests fails, after or before it was done.
    Failing(f64),
    /// This share of all requests is turned away.
    Throttled(f64),
    /// This share of all answers ends in the middle.
    Cut(f64),
    /// This share of all answers is shorter than was asked for, and says nothing of it.
    Short(f64),
    /// Sizes of objects are told one too large.
    LongHead,
}

#[derive(Debug)]
struct Broken {
    inner: Arc<dyn ObjectStore>,
    trouble: Trouble,
    random: Arc<Mutex<Seeded>>,
}

impl Broken {
    fn folder(test: &str, trouble: Trouble, seed: u64) -> RunFolder {
        let (inner, base) = trainctl_objects::open(&root(test)).unwrap();
        let random = Arc::new(Mutex::new(Seeded(seed)));
        RunFolder::new(Arc::new(Self { inner, trouble, random }), &base, JOB).unwrap()
    }

    fn happens(&self, share: f64) -> bool {
        self.random.lock().unwrap().next() < share
    }

    async fn around<T>(&self, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.trouble {
            Trouble::Slow(pause) => tokio::time::sleep(pause).await,
            Trouble::Throttled(share) if self.happens(share) => return Err(error("503 Slow Down")),
            Trouble::Failing(share) if self.happens(share) => {
                if self.happens(0.5) {
                    operation.await?;
                }
                return Err(error("500 Internal Server Error"));
            }
            _ => {}
        }
        operation.await
    }
}

fn error(what: &'static str) -> Error {
    Error::Generic { store: "Broken", source: what.into() }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.trouble, self.inner)
    }
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.around(self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.around(self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(BrokenUpload { inner, trouble: self.trouble, random: self.random.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let mut found = self.around(self.inner.get_opts(path, options)).await?;
        if is_head {
            found.meta.size += u64::from(self.trouble == Trouble::LongHead);
            return Ok(found);
        }
        let (Trouble::Cut(share) | Trouble::Short(share)) = self.trouble else { return Ok(found) };
        if !self.happens(share) {
            return Ok(found);
        }
        let (meta, range, attributes, extensions) =
            (found.meta.clone(), found.range.clone(), found.attributes.clone(), found.extensions.clone());
        let bytes = found.bytes().await?;
        let mut pieces: Vec<Result<Bytes>> = vec![Ok(bytes.slice(..bytes.len() / 2))];
        if matches!(self.trouble, Trouble::Cut(_)) {
            pieces.push(Err(error("connection reset by peer")));
        }
        let payload = GetResultPayload::Stream(futures::stream::iter(pieces).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Trouble::Failing(share) | Trouble::Throttled(share) = self.trouble
            && self.happens(share)
        {
            // In the middle of it.
            let failed = futures::stream::iter([Err(error("503 Slow Down"))]);
            return self.inner.list(prefix).take(3).chain(failed).boxed();
        }
        let more = u64::from(self.trouble == Trouble::LongHead);
        self.inner.list(prefix).map_ok(move |meta| ObjectMeta { size: meta.size + more, ..meta }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.around(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.around(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct BrokenUpload {
    inner: Box<dyn MultipartUpload>,
    trouble: Trouble,
    random: Arc<Mutex<Seeded>>,
}

#[async_trait]
impl MultipartUpload for BrokenUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (trouble, random) = (self.trouble, self.random.clone());
        let sent = self.inner.put_part(data);
        Box::pin(async move {
            if let Trouble::Failing(share) | Trouble::Throttled(share) = trouble
                && random.lock().unwrap().next() < share
            {
                return Err(error("503 Slow Down"));
            }
            sent.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Saves checkpoints as well as the store allows, each tried up to fifty times, and returns the newest.
async fn save_through(broken: &RunFolder, sound: &RunFolder) -> u64 {
    let (tensors, len) = layers();
    let mut newest = 0;
    for step in 1..=STEPS {
        let mut values = state(len, step);
        values[..len / 2].fill(1.0);
        let digests = StateDigests::of(&tensors, &values, step);
        for _ in 0..50 {
            let save = async {
                for part in 0..2 {
                    broken.write_part_of(&digests, step, part, 2, &tensors, &values).await?;
                }
                broken.try_commit(step, 2, &info(digests.state())).await
            };
            let saved = save.await;
            // Whatever it said, what is visible is whole.
            for visible in sound.steps().await.unwrap() {
                sound
                    .load(visible, &tensors, &mut vec![0.0; len])
                    .await
                    .unwrap_or_else(|error| panic!("{visible}: {error}"));
            }
            if let Ok(Some(_)) = saved {
                newest = step;
                break;
            }
        }
        let _ = broken.prune(2).await;
    }
    newest
}

async fn assert_saves(trouble: Trouble, test: &str) {
    let (tensors, len) = layers();
    let (broken, sound) = (Broken::folder(test, trouble, 11), folder(test));
    let newest = save_through(&broken, &sound).await;
    assert!(newest + 1 >= STEPS, "{trouble:?}: only step {newest} was ever saved");
    let mut out = vec![0.0; len];
    let loaded = sound.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    let step = loaded.manifest.step;
    assert!(step >= newest && loaded.skipped.is_empty(), "{trouble:?}: {step}: {:?}", loaded.skipped);
    let mut expected = state(len, step);
    expected[..len / 2].fill(1.0);
    assert!(values(&tensors, &out) == values(&tensors, &expected), "{trouble:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child, on each store"]
async fn each_store_that_is_slow_fails_or_throttles_gets_whole_checkpoints() {
    assert_saves(Trouble::Slow(Duration::from_millis(5)), "slow").await;
    assert_saves(Trouble::Failing(0.02), "failing").await;
    assert_saves(Trouble::Throttled(0.03), "throttled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child, on each store"]
async fn each_store_that_cuts_or_lies_about_lengths_gives_no_wrong_value() {
    let (tensors, len) = layers();
    let states = [state(len, 10), state(len, 20)];
    for (step, state) in [(10, &states[0]), (20, &states[1])] {
        save(&folder("lies"), (step, 2), &tensors, state).await;
    }
    let mut loads = 0;
    let troubles =
        [Trouble::Cut(0.002), Trouble::Short(0.002), Trouble::Cut(0.3), Trouble::Short(0.3), Trouble::LongHead];
    for trouble in troubles {
        for seed in 0..6 {
            let mut out = vec![0.0; len];
            match Broken::folder("lies", trouble, seed).load_newest(&tensors, &mut out).await {
                Ok(Some(loaded)) => {
                    loads += 1;
                    let step = loaded.manifest.step;
                    let expected = &states[step as usize / 10 - 1];
                    assert!(values(&tensors, &out) == values(&tensors, expected), "{trouble:?}: a silent wrong load");
                    assert_eq!(step == 20, loaded.skipped.is_empty(), "{trouble:?}: skipped without a reason");
                }
                Ok(None) => panic!("{trouble:?}: the checkpoints are there"),
                Err(CheckpointError::NoneWhole { skipped, .. }) => {
                    assert_eq!(skipped.iter().map(|skipped| skipped.step).collect::<Vec<_>>(), [20, 10]);
                }
                Err(error) => panic!("{trouble:?}: {error}"),
            }
        }
    }
    assert!(loads > 5, "only {loads} loads came through");
}
