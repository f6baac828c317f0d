//! Ten thousand objects under one root.

use crate::support::{info, state};
use crate::unchanged::{layers, save};
use crate::{folder, root};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use std::time::{Duration, Instant};
use trainctl_checkpoint::{StateDigests, TensorInfo};

const OBJECTS: usize = 10_000;
const CHECKPOINTS: u64 = 1000;
/// What a listing may take on a busy machine; the figure itself is the bench's.
const LISTED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "runs as a child, on each store"]
async fn each_store_with_ten_thousand_objects_is_listed_saved_loaded_and_pruned() {
    let (tensors, len) = layers();
    let (store, base) = trainctl_objects::open(&root("many")).unwrap();
    let folder = folder("many");
    let one: [TensorInfo; 1] = [TensorInfo { shape: vec![4], len: 4, offset: 0, ..tensors[0].clone() }];
    let checkpoints = futures::stream::iter((1..=CHECKPOINTS).map(|step| {
        let (folder, one) = (folder.clone(), one.clone());
        tokio::spawn(async move {
            let values = [step as f32; 4];
            let digests = StateDigests::of(&one, &values, step);
            folder.write_part_of(&digests, step, 0, 1, &one, &values).await.unwrap();
            folder.try_commit(step, 1, &info(digests.state())).await.unwrap().unwrap();
        })
    }));
    checkpoints.buffer_unordered(32).try_collect::<()>().await.unwrap();
    let others = (0..OBJECTS - 3 * CHECKPOINTS as usize).map(|at| {
        let step = 1 + at as u64 % CHECKPOINTS;
        let path = base.clone().join("digits").join("checkpoints").join(step.to_string()).join(format!("note-{at}"));
        let store = store.clone();
        async move { store.put(&path, "mine".into()).await.map(drop) }
    });
    futures::stream::iter(others).buffer_unordered(64).try_collect::<()>().await.unwrap();

    let began = Instant::now();
    let listed = folder.list().await.unwrap();
    assert!(began.elapsed() < LISTED_WITHIN, "{:?}", began.elapsed());
    assert_eq!(listed.len(), CHECKPOINTS as usize);
    assert!(listed.iter().all(|listed| listed.manifest.is_ok()));

    let newest = CHECKPOINTS + 1;
    save(&folder, (newest, 2), &tensors, &state(len, newest)).await;
    let mut out = vec![0.0; len];
    let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    assert_eq!((loaded.manifest.step, loaded.skipped.len()), (newest, 0));
    let pruned = folder.prune(2).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.kept), (CHECKPOINTS as usize - 1, vec![CHECKPOINTS, newest]));
    let left: Vec<_> = store.list(Some(&base)).try_collect().await.unwrap();
    assert_eq!(left.iter().filter(|o| o.location.filename().unwrap().starts_with("note-")).count(), 7000);
}
