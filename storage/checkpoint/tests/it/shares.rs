//! Several readers load one checkpoint: each object is read once in all, by one of them.

use crate::support::{JOB, info, layout, state, values};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use trainctl_checkpoint::{CheckpointError, Group, RunFolder, TensorInfo, state_digest};

/// Bytes read, by the object's name.
type Traffic = Arc<Mutex<BTreeMap<String, u64>>>;

/// Counts what is read of tensors' files.
#[derive(Debug)]
struct Counting {
    inner: Arc<InMemory>,
    read: Traffic,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        // What is in memory here is kept, and with it the room that the save has for chunks on their way.
        let copy: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
        self.inner.put_opts(path, copy.into(), options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.inner.get_opts(path, options).await?;
        if let Some(name) = path.filename().filter(|name| name.ends_with(".safetensors") && !is_head) {
            let bytes = found.range.end - found.range.start;
            *self.read.lock().unwrap().entry(name.to_owned()).or_default() += bytes;
        }
        Ok(found)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn reader(inner: &Arc<InMemory>) -> (RunFolder, Traffic) {
    let read = Traffic::default();
    let store = Counting { inner: Arc::clone(inner), read: Arc::clone(&read) };
    (RunFolder::new(Arc::new(store), &Path::from("runs"), JOB).unwrap(), read)
}

/// Thirty tensors of each group, of many sizes.
fn many() -> (Vec<TensorInfo>, usize) {
    let shapes: Vec<[usize; 2]> = (0..60).map(|at| [64, 10 + at / 2 * 7 % 90]).collect();
    layout(&shapes.iter().map(<[usize; 2]>::as_slice).collect::<Vec<_>>())
}

async fn saved() -> (Arc<InMemory>, Vec<TensorInfo>, Vec<f32>) {
    let store = Arc::new(InMemory::new());
    let (folder, _) = reader(&store);
    let (tensors, len) = many();
    let state = state(len, 7);
    folder.write_part(7, 0, 1, &tensors, &state).await.unwrap();
    folder.try_commit(7, 1, &info(state_digest(&tensors, &state, 7))).await.unwrap().unwrap();
    (store, tensors, state)
}

#[tokio::test]
async fn each_object_is_read_once_in_all_and_about_as_much_by_each() {
    let (store, tensors, state) = saved().await;
    for readers in [1, 2, 3, 8] {
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        let mut whole = vec![0.0; state.len()];
        for at in 0..readers {
            let (folder, read) = reader(&store);
            let shares = folder.shares(7, &tensors, readers).await.unwrap();
            let mut own = vec![0.0; state.len()];
            folder.load_share(&shares, at, &tensors, &mut own).await.unwrap();
            let ranges = shares.ranges(at, &tensors);
            assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
            for range in ranges {
                whole[range.clone()].copy_from_slice(&own[range.clone()]);
                own[range].fill(0.0);
            }
            assert!(own.iter().all(|value| *value == 0.0), "nothing but its share");

            let read = read.lock().unwrap().clone();
            let bytes: u64 = read.values().sum();
            let (even, largest) = (
                shares.manifest.bytes() / readers as u64,
                shares.manifest.files.iter().map(|file| file.bytes).max().unwrap(),
            );
            assert_eq!((bytes, read.len()), (shares.bytes(at), shares.files(at)));
            assert!(bytes.abs_diff(even) <= largest, "{bytes} of {even}, {readers} readers");
            all.extend(read.clone());
            assert_eq!(all.len(), (0..=at).map(|at| shares.files(at)).sum::<usize>(), "no object twice");
            if at + 1 == readers {
                let of_file = |file: &trainctl_checkpoint::FileEntry| (file.name.clone(), file.bytes);
                assert_eq!(all, shares.manifest.files.iter().map(of_file).collect());
            }
        }
        assert!(values(&tensors, &whole) == values(&tensors, &state));
    }
}

#[tokio::test]
async fn damage_is_found_by_the_reader_whose_share_it_is_in() {
    let (store, tensors, state) = saved().await;
    let (folder, _) = reader(&store);
    let shares = folder.shares(7, &tensors, 3).await.unwrap();
    let damaged = &shares.manifest.files[5];
    let path = folder.path().clone().join("checkpoints").join("7").join(damaged.name.as_str());
    let mut bytes =
        object_store::ObjectStoreExt::get(store.as_ref(), &path).await.unwrap().bytes().await.unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    object_store::ObjectStoreExt::put(store.as_ref(), &path, bytes.into()).await.unwrap();
    let mut found = 0;
    for at in 0..3 {
        let mut out = vec![0.0; state.len()];
        match folder.load_share(&shares, at, &tensors, &mut out).await {
            Ok(()) => {}
            Err(CheckpointError::Damaged(damage)) if damage.to_string().contains(&damaged.name) => found += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_tensor_that_a_checkpoint_may_lack_gets_its_first_values_on_every_reader() {
    let (store, tensors, state) = saved().await;
    let ((folder, _), len) = (reader(&store), state.len());
    let mut wanted = tensors.clone();
    let (name, shape) = ("mask".to_owned(), vec![2]);
    let absent = Some(Arc::from([f32::NEG_INFINITY.to_bits(), 1.5_f32.to_bits()]));
    wanted.push(TensorInfo { name, group: Group::Model, shape, offset: len, len: 2, constant: false, absent });
    let shares = folder.shares(7, &wanted, 2).await.unwrap();
    for reader in 0..2 {
        let mut out = vec![7.0; len + 16];
        folder.load_share(&shares, reader, &wanted, &mut out).await.unwrap();
        assert_eq!(out[len..len + 2], [f32::NEG_INFINITY, 1.5], "reader {reader}");
        assert_eq!(out[len + 2..], [7.0; 14], "reader {reader}");
    }

    // One that every checkpoint must have.
    wanted.last_mut().unwrap().absent = None;
    let error = folder.shares(7, &wanted, 2).await.unwrap_err();
    assert!(matches!(&error, CheckpointError::Tensor { tensor, .. } if tensor == "mask"), "{error}");
}
