//! What happens to objects behind our back.

use crate::support::{info, state, values};
use crate::unchanged::{layers, save};
use crate::{folder, root};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::sync::Arc;
use trainctl_checkpoint::{CheckpointError, Damage, StateDigests};

fn open(test: &str, step: u64) -> (Arc<dyn ObjectStore>, Path) {
    let (store, base) = trainctl_objects::open(&root(test)).unwrap();
    (store, base.join("digits").join("checkpoints").join(step.to_string()))
}

#[tokio::test]
#[ignore = "runs as a child, on each store"]
async fn each_store_falls_back_from_parts_truncated_flipped_and_missing() {
    let (tensors, len) = layers();
    let folder = folder("damage");
    let older = state(len, 10);
    save(&folder, (10, 2), &tensors, &older).await;
    let newest = save(&folder, (20, 2), &tensors, &state(len, 20)).await;
    let (store, base) = open("damage", 20);
    for (at, file) in newest.files.iter().enumerate().step_by(7) {
        let path = base.clone().join(file.name.as_str());
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let mut flipped = whole.clone();
        flipped[(at * 977) % whole.len()] ^= 1 << (at % 8);
        for damaged in [Some(whole[..whole.len() - 1].to_vec()), Some(flipped), None] {
            match &damaged {
                Some(bytes) => drop(store.put(&path, bytes.clone().into()).await.unwrap()),
                None => store.delete(&path).await.unwrap(),
            }
            let mut out = vec![0.0; len];
            let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
            assert_eq!(loaded.manifest.step, 10);
            assert!(values(&tensors, &out) == values(&tensors, &older), "a silent wrong load");
            let reason = &loaded.skipped[0].reason;
            let fits = match (&damaged, reason) {
                (None, CheckpointError::Damaged(Damage::Missing { object, .. })) => object.ends_with(&file.name),
                (Some(bytes), CheckpointError::Damaged(Damage::Size { object, .. })) => {
                    bytes.len() != whole.len() && object.ends_with(&file.name)
                }
                (Some(bytes), CheckpointError::Damaged(Damage::Digest { object, .. })) => {
                    bytes.len() == whole.len() && object.contains(&file.name)
                }
                _ => false,
            };
            assert!(fits, "{}: {reason}", file.name);
            let before = folder.prune(1).await.unwrap();
            assert_eq!(before.kept, [10, 20], "the newest whole one is kept beside the damaged one");
        }
        store.put(&path, whole.into()).await.unwrap();
    }
    folder.verify(20).await.unwrap();
}

/// As a clean-up by hand leaves one that was interrupted.
#[tokio::test]
#[ignore = "runs as a child, on each store"]
async fn each_store_with_a_half_deleted_old_checkpoint_goes_on() {
    let (tensors, len) = layers();
    let folder = folder("half");
    let state = state(len, 1);
    let old = save(&folder, (10, 1), &tensors, &state).await;
    save(&folder, (20, 1), &tensors, &vec![2.0; len]).await;
    let (store, base) = open("half", 10);
    for file in old.files.iter().step_by(2) {
        store.delete(&base.clone().join(file.name.as_str())).await.unwrap();
    }
    // As the old one was, so that its files would do.
    let manifest = save(&folder, (30, 2), &tensors, &state).await;
    folder.verify(30).await.unwrap();
    assert_eq!(manifest.state_digest, StateDigests::of(&tensors, &state, 30).state());
    let mut out = vec![0.0; len];
    let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    assert_eq!((loaded.manifest.step, loaded.skipped.len()), (30, 0));
    assert_eq!(folder.prune(2).await.unwrap().removed, [10]);
    folder.verify(30).await.unwrap();

    // And once the manifest is gone too, what is left is nobody's.
    let old = save(&folder, (40, 1), &tensors, &vec![3.0; len]).await;
    save(&folder, (50, 1), &tensors, &vec![4.0; len]).await;
    let (store, base) = open("half", 40);
    for name in ["manifest.json", old.files[0].name.as_str()] {
        store.delete(&base.clone().join(name)).await.unwrap();
    }
    let pruned = folder.prune(5).await.unwrap();
    assert_eq!((pruned.cleared, pruned.kept), (vec![40], vec![20, 30, 50]));
}

/// A commit that was held up until its files were cleared away, as of a process that was suspended.
#[tokio::test]
#[ignore = "runs as a child, on each store"]
async fn each_store_refuses_a_commit_that_comes_too_late() {
    let (tensors, len) = layers();
    let folder = folder("late");
    let state = state(len, 10);
    let digests = StateDigests::of(&tensors, &state, 10);
    for part in 0..2 {
        folder.write_part_of(&digests, 10, part, 2, &tensors, &state).await.unwrap();
    }
    save(&folder, (20, 1), &tensors, &vec![2.0; len]).await;
    assert_eq!(folder.prune(1).await.unwrap().cleared, [10]);
    assert_eq!(folder.try_commit(10, 2, &info(digests.state())).await.unwrap(), None);
    assert_eq!(folder.steps().await.unwrap(), [20]);
}
