//! Files that haven't changed are named, not written again, and nobody removes them while they are named.

use crate::support::{info, layout, values};
use crate::{Seeded, folder, root};
use object_store::ObjectStoreExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;
use trainctl_checkpoint::{FileEntry, Manifest, Retention, RunFolder, StateDigests, TensorInfo};

/// Forty layers; the last is the smallest.
pub(crate) fn layers() -> (Vec<TensorInfo>, usize) {
    let shape: [usize; 2] = [64, 128];
    let mut shapes: Vec<&[usize]> = vec![&shape; 80];
    shapes.extend([&[10_usize, 64][..], &[10, 64]]);
    layout(&shapes)
}

pub(crate) async fn save(
    folder: &RunFolder,
    (step, parts): (u64, u32),
    tensors: &[TensorInfo],
    state: &[f32],
) -> Manifest {
    let digests = StateDigests::of(tensors, state, step);
    let mut committed = None;
    for part in 0..parts {
        folder.write_part_of(&digests, step, part, parts, tensors, state).await.unwrap();
        committed = folder.try_commit(step, parts, &info(digests.state())).await.unwrap();
    }
    committed.expect("all parts are there")
}

/// Trains one tensor.
fn train(tensor: &TensorInfo, state: &mut [f32]) {
    state[tensor.offset..tensor.offset + tensor.len].iter_mut().for_each(|value| *value += 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child, on each store"]
async fn each_store_gets_little_more_than_what_was_trained() {
    let (tensors, len) = layers();
    let folder = folder("little");
    let mut state = vec![1.0; len];
    let first = save(&folder, (10, 3), &tensors, &state).await;
    assert_eq!(first.added_bytes(), first.bytes());
    for (step, parts) in [(20, 3), (30, 2), (40, 1)] {
        for tensor in &tensors[80..] {
            train(tensor, &mut state);
        }
        let manifest = save(&folder, (step, parts), &tensors, &state).await;
        assert!(manifest.added_bytes() * 10 < first.bytes(), "{} of {}", manifest.added_bytes(), first.bytes());
        folder.verify(step).await.unwrap();
        // Never by way of another: the step that wrote it.
        assert!(manifest.files.iter().all(|file| matches!(file.step, None | Some(10))));
    }

    // Only the newest stays, with what it names; then even that goes.
    folder.prune(1).await.unwrap();
    assert_eq!(folder.steps().await.unwrap(), [40]);
    let mut out = vec![0.0; len];
    let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    assert!(loaded.skipped.is_empty());
    assert!(values(&tensors, &out) == values(&tensors, &state));
    state.iter_mut().for_each(|value| *value += 1.0);
    let all_new = save(&folder, (50, 2), &tensors, &state).await;
    assert_eq!(all_new.added_bytes(), all_new.bytes());
    folder.prune(1).await.unwrap();
    let (store, base) = trainctl_objects::open(&root("little")).unwrap();
    let objects: Vec<_> = futures::TryStreamExt::try_collect(store.list(Some(&base))).await.unwrap();
    assert_eq!(objects.len(), all_new.files.len() + 2, "{objects:?}");
}

#[tokio::test]
#[ignore = "runs as a child, on each store"]
async fn each_store_does_not_spread_damage() {
    let (tensors, len) = layers();
    let mut state = vec![1.0; len];
    let first = save(&folder("spread"), (10, 1), &tensors, &state).await;
    let (store, base) = trainctl_objects::open(&root("spread")).unwrap();
    let place = |file: &FileEntry| base.clone().join("digits").join("checkpoints").join("10").join(file.name.as_str());
    let [flipped, removed] = [&first.files[0], &first.files[1]];
    let mut bytes = store.get(&place(flipped)).await.unwrap().bytes().await.unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&place(flipped), bytes.into()).await.unwrap();
    store.delete(&place(removed)).await.unwrap();

    // Another process than the one that wrote them.
    let folder = folder("spread");
    train(&tensors[81], &mut state);
    let manifest = save(&folder, (20, 1), &tensors, &state).await;
    let own: Vec<&str> = manifest.files.iter().filter(|f| f.step.is_none()).map(|f| f.name.as_str()).collect();
    assert!(own.contains(&flipped.name.as_str()) && own.contains(&removed.name.as_str()), "{own:?}");
    assert!(manifest.added_bytes() * 5 < manifest.bytes());
    folder.verify(20).await.unwrap();
    assert!(folder.verify(10).await.is_err());
}

/// Pruners that keep one checkpoint only, without a pause, beside a group that saves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "runs as a child, on each store"]
async fn each_store_is_pruned_while_files_are_named() {
    const SAVES: u64 = 60;
    let (tensors, len) = layers();
    let tensors = Arc::new(tensors);
    let done = Arc::new(AtomicU64::new(0));
    let mut pruners = JoinSet::new();
    for _ in 0..3 {
        // Processes of their own know nothing of what others wrote.
        let (folder, done) = (folder("race"), done.clone());
        pruners.spawn(async move {
            while done.load(Ordering::SeqCst) < SAVES {
                let newest = done.load(Ordering::SeqCst);
                let just_saved = Some(newest).filter(|step| *step > 0);
                folder.prune(Retention { keep_last: 1, just_saved, ..Retention::default() }).await.unwrap();
            }
        });
    }
    let workers: Vec<RunFolder> = (0..3).map(|_| folder("race")).collect();
    let mut random = Seeded(7);
    let mut state = vec![1.0; len];
    for step in 1..=SAVES {
        for tensor in tensors.iter() {
            // Sometimes back to what an older checkpoint had.
            match random.next() {
                p if p < 0.05 => train(tensor, &mut state),
                p if p < 0.1 => state[tensor.offset..tensor.offset + tensor.len].fill(1.0),
                _ => {}
            }
        }
        let digests = Arc::new(StateDigests::of(&tensors, &state, step));
        let copy = Arc::new(state.clone());
        let mut group = JoinSet::new();
        for (part, folder) in workers.iter().cloned().enumerate() {
            let (digests, copy, tensors) = (digests.clone(), copy.clone(), tensors.clone());
            group.spawn(async move {
                folder.write_part_of(&digests, step, part as u32, 3, &tensors, &copy).await.unwrap();
                folder.try_commit(step, 3, &info(digests.state())).await.unwrap()
            });
        }
        let committed = group.join_all().await.into_iter().flatten().count();
        assert!(committed > 0, "step {step} was not committed");
        done.store(step, Ordering::SeqCst);
        let manifest = folder("race").verify(step).await.unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert_eq!(manifest.state_digest, digests.state());
    }
    pruners.join_all().await;
    folder("race").verify(SAVES).await.unwrap();
}
