//! Several groups that save one job at once, and workers whose clocks disagree.

use crate::folder;
use crate::support::{info, state, values};
use crate::unchanged::{layers, save};
use std::sync::Arc;
use tokio::task::JoinSet;
use trainctl_checkpoint::{CommitInfo, Retention, StateDigests};

const HOUR_MS: i64 = 3_600_000;

/// As when two coordinators believe that a job is theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "runs as a child, on each store"]
async fn each_store_takes_one_job_from_two_groups() {
    let (tensors, len) = layers();
    let tensors = Arc::new(tensors);
    for step in 1..=12_u64 {
        let mut values = state(len, step);
        // Half of it is frozen.
        values[..len / 2].copy_from_slice(&state(len, 0)[..len / 2]);
        let digests = Arc::new(StateDigests::of(&tensors, &values, step));
        let values = Arc::new(values);
        let mut workers = JoinSet::new();
        for (parts, part) in [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)] {
            let (digests, values, tensors, folder) = (digests.clone(), values.clone(), tensors.clone(), folder("two"));
            workers.spawn(async move {
                folder.write_part_of(&digests, step, part, parts, &tensors, &values).await.unwrap();
                let committed = folder.try_commit(step, parts, &info(digests.state())).await.unwrap();
                let retention = Retention { keep_last: 2, just_saved: Some(step), ..Retention::default() };
                folder.prune(retention).await.unwrap();
                committed
            });
        }
        assert!(workers.join_all().await.into_iter().flatten().count() > 0, "nobody committed step {step}");
        for visible in folder("two").steps().await.unwrap() {
            folder("two").verify(visible).await.unwrap_or_else(|error| panic!("step {step}: {visible}: {error}"));
        }
    }
}

/// A worker was lost with its part unwritten: the others share out the whole save anew, and write what isn't there.
#[tokio::test]
#[ignore = "runs as a child, on each store"]
async fn each_store_gets_a_lost_workers_part_from_the_others() {
    let (tensors, len) = layers();
    let folder = folder("cover");
    let state = state(len, 5);
    let digests = StateDigests::of(&tensors, &state, 5);
    let mut written = 0;
    for part in [0, 2] {
        written += folder.write_part_of(&digests, 5, part, 3, &tensors, &state).await.unwrap().added_bytes();
        assert_eq!(folder.try_commit(5, 3, &info(digests.state())).await.unwrap(), None);
    }
    assert!(written > 0);
    folder.write_part_of(&digests, 5, 0, 2, &tensors, &state).await.unwrap();
    folder.write_part_of(&digests, 5, 1, 2, &tensors, &state).await.unwrap();
    folder.try_commit(5, 2, &info(digests.state())).await.unwrap().expect("the survivors' parts are all");
    folder.verify(5).await.unwrap();
}

#[tokio::test]
#[ignore = "runs as a child, on each store"]
async fn each_store_orders_by_steps_not_by_clocks() {
    let (tensors, len) = layers();
    let folder = folder("skew");
    for (step, skew_ms) in [(10, HOUR_MS), (20, -HOUR_MS), (30, 0), (40, -2 * HOUR_MS)] {
        let state = state(len, step);
        let digests = StateDigests::of(&tensors, &state, step);
        folder.write_part_of(&digests, step, 0, 1, &tensors, &state).await.unwrap();
        let base = info(digests.state());
        let skewed = CommitInfo { created_ms: base.created_ms + skew_ms, ..base };
        folder.try_commit(step, 1, &skewed).await.unwrap().unwrap();
        folder.prune(2).await.unwrap();
    }
    assert_eq!(folder.steps().await.unwrap(), [30, 40]);
    let mut out = vec![0.0; len];
    let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    assert_eq!((loaded.manifest.step, loaded.skipped.len()), (40, 0));
    assert!(values(&tensors, &out) == values(&tensors, &state(len, 40)));
    save(&folder, (50, 2), &tensors, &out).await;
}
