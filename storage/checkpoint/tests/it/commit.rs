//! Who commits, when, and what happens when several do or the states differ.

use crate::support::{folder, info, names, save, small, state, step_folder};
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use trainctl_checkpoint::{CheckpointError, CommitInfo, StateDigests, partition, state_digest};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_commits_at_once_one_stays_and_all_see_it() {
    let (tensors, len) = small();
    for step in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let state = state(len, step);
        for part in 0..3 {
            folder.write_part(step, part, 3, &tensors, &state).await.unwrap();
        }
        let barrier = Arc::new(Barrier::new(24));
        let mut racers = JoinSet::new();
        for racer in 0..24 {
            let (folder, barrier) = (folder.clone(), barrier.clone());
            let info = CommitInfo { created_ms: racer, ..info(state_digest(&tensors, &state, step)) };
            racers.spawn(async move {
                barrier.wait().await;
                folder.try_commit(step, 3, &info).await.unwrap().expect("all parts are there")
            });
        }
        let stays = folder_manifest(&folder, step, racers.join_next().await).await;
        while let Some(seen) = racers.join_next().await {
            assert_eq!(seen.unwrap(), stays);
        }
        assert_eq!(folder.verify(step).await.unwrap(), stays);
        assert!(!names(&step_folder(root.path(), step)).iter().any(|name| name.starts_with("part-")));
    }
}

#[tokio::test]
async fn a_manifest_says_how_many_audits_had_passed_and_nothing_where_there_were_none() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let (tensors, len) = small();
    for (step, audits_passed) in [(10, 0), (20, 41)] {
        let state = state(len, step);
        folder.write_part(step, 0, 1, &tensors, &state).await.unwrap();
        let info = CommitInfo { audits_passed, ..info(state_digest(&tensors, &state, step)) };
        folder.try_commit(step, 1, &info).await.unwrap().expect("a checkpoint");
        assert_eq!(folder.verify(step).await.unwrap().audits_passed, audits_passed);
    }
    // The first is as it was written before there were audits.
    let field = |step: u64| {
        let written = std::fs::read(step_folder(root.path(), step).join("manifest.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&written).unwrap().get("audits_passed").cloned()
    };
    assert_eq!([field(10), field(20)], [None, Some(41.into())]);
}

async fn folder_manifest(
    folder: &trainctl_checkpoint::RunFolder,
    step: u64,
    first: Option<Result<trainctl_checkpoint::Manifest, tokio::task::JoinError>>,
) -> trainctl_checkpoint::Manifest {
    let stays = folder.read_manifest(step).await.unwrap();
    assert_eq!(first.unwrap().unwrap(), stays);
    stays
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_of_one_group_save_side_by_side_and_one_of_them_commits() {
    let (tensors, len) = small();
    for step in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let state = Arc::new(state(len, step));
        let tensors = Arc::new(tensors.clone());
        let mut workers = JoinSet::new();
        for part in 0..5 {
            let (folder, state, tensors) = (folder.clone(), state.clone(), tensors.clone());
            workers.spawn(async move {
                folder.write_part(step, part, 5, &tensors, &state).await.unwrap();
                folder.try_commit(step, 5, &info(state_digest(&tensors, &state, step))).await.unwrap()
            });
        }
        let committed = workers.join_all().await.into_iter().flatten().count();
        assert!(committed >= 1, "nobody committed step {step}");
        folder.verify(step).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_groups_of_different_sizes_save_one_step() {
    let (tensors, len) = small();
    for step in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let mut groups = JoinSet::new();
        for parts in [2, 3] {
            let (folder, tensors) = (folder.clone(), tensors.clone());
            groups.spawn(async move {
                let state = state(len, step);
                let info = info(state_digest(&tensors, &state, step));
                let mut committed = None;
                for part in 0..parts {
                    folder.write_part(step, part, parts, &tensors, &state).await.unwrap();
                    committed = folder.try_commit(step, parts, &info).await.unwrap();
                }
                committed.expect("all parts are there")
            });
        }
        let seen = groups.join_all().await;
        assert_eq!(seen[0], seen[1]);
        assert_eq!(folder.verify(step).await.unwrap(), seen[0]);
    }
}

#[tokio::test]
async fn nothing_is_visible_before_the_last_part_and_asking_again_changes_nothing() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let state = state(len, 8);
    let info = info(state_digest(&tensors, &state, 8));
    folder.write_part(8, 1, 2, &tensors, &state).await.unwrap();
    assert_eq!(folder.try_commit(8, 2, &info).await.unwrap(), None);
    assert_eq!(folder.steps().await.unwrap(), Vec::<u64>::new());

    let record = folder.write_part(8, 0, 2, &tensors, &state).await.unwrap();
    let committed = folder.try_commit(8, 2, &info).await.unwrap().unwrap();
    let later = CommitInfo { created_ms: info.created_ms + 1, generation: 9, ..info.clone() };
    assert_eq!(folder.try_commit(8, 2, &later).await.unwrap().as_ref(), Some(&committed));

    let before = names(&step_folder(root.path(), 8));
    assert_eq!(folder.write_part(8, 0, 2, &tensors, &state).await.unwrap(), record);
    assert_eq!(folder.try_commit(8, 2, &later).await.unwrap(), Some(committed));
    assert_eq!(names(&step_folder(root.path(), 8)), before, "a whole checkpoint is not written again");
}

#[tokio::test]
async fn another_state_of_a_committed_step_is_refused_untouched() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let committed = save(&folder, 8, 2, &tensors, len).await;

    let mut corrupt = state(len, 8);
    corrupt[3] = -corrupt[3];
    let digest = state_digest(&tensors, &corrupt, 8);
    let of_write = folder.write_part(8, 0, 2, &tensors, &corrupt).await.unwrap_err();
    let of_commit = folder.try_commit(8, 2, &info(digest)).await.unwrap_err();
    for error in [of_write, of_commit] {
        let CheckpointError::StateDiffers { expected, found, object } = &error else { panic!("{error}") };
        assert_eq!((*expected, *found), (digest, committed.state_digest));
        assert!(object.ends_with("checkpoints/8/manifest.json"), "{object}");
    }
    assert_eq!(folder.verify(8).await.unwrap(), committed);
}

#[tokio::test]
async fn parts_of_different_states_never_become_one_checkpoint() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let (dead, alive) = (state(len, 1), state(len, 2));
    let digest = state_digest(&tensors, &alive, 8);
    folder.write_part(8, 0, 2, &tensors, &dead).await.unwrap();
    folder.write_part(8, 1, 2, &tensors, &alive).await.unwrap();
    assert_eq!(folder.try_commit(8, 2, &info(digest)).await.unwrap(), None);
    assert_eq!(folder.try_commit(8, 2, &info(state_digest(&tensors, &dead, 8))).await.unwrap(), None);
    assert_eq!(folder.steps().await.unwrap(), Vec::<u64>::new());

    // The one who saves that part now replaces what the dead group left.
    folder.write_part(8, 0, 2, &tensors, &alive).await.unwrap();
    let committed = folder.try_commit(8, 2, &info(digest)).await.unwrap().unwrap();
    assert_eq!(folder.verify(8).await.unwrap(), committed);
}

/// A bit flipped in one writer's memory may lie in what another writes: its own part is as it should be.
#[tokio::test]
async fn writers_of_different_states_do_not_commit_though_the_parts_make_one_of_them() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let sound = state(len, 8);
    let of_another = partition(&tensors, 2)[0][0];
    let mut corrupt = sound.clone();
    let value = &mut corrupt[tensors[of_another].offset];
    *value = f32::from_bits(value.to_bits() ^ 1 << 22);
    let [sound_digest, corrupt_digest] = [&sound, &corrupt].map(|state| state_digest(&tensors, state, 8));

    folder.write_part(8, 0, 2, &tensors, &sound).await.unwrap();
    let record = folder.write_part(8, 1, 2, &tensors, &corrupt).await.unwrap();
    assert_eq!(record.state_digest, corrupt_digest);
    for digest in [sound_digest, corrupt_digest] {
        assert_eq!(folder.try_commit(8, 2, &info(digest)).await.unwrap(), None);
    }
    assert_eq!(folder.steps().await.unwrap(), Vec::<u64>::new());

    // The same step again, by two that agree: what the first try left is in nobody's way.
    folder.write_part(8, 1, 2, &tensors, &sound).await.unwrap();
    let committed = folder.try_commit(8, 2, &info(sound_digest)).await.unwrap().unwrap();
    assert_eq!(folder.verify(8).await.unwrap(), committed);
}

/// After the roll-back the group can be a smaller one.
#[tokio::test]
async fn fewer_writers_commit_beside_the_remains_of_a_save_that_failed() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.write_part(8, 2, 3, &tensors, &state(len, 9)).await.unwrap();
    let committed = save(&folder, 8, 2, &tensors, len).await;
    folder.prune(1).await.unwrap();
    assert_eq!(folder.verify(8).await.unwrap(), committed);
    save(&folder, 16, 2, &tensors, len).await;
    folder.prune(1).await.unwrap();
    assert_eq!(names(&step_folder(root.path(), 8)), Vec::<String>::new());
}

#[tokio::test]
async fn a_value_that_changes_between_digest_and_write_stops_the_commit() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let mut state = state(len, 8);
    let digests = StateDigests::of(&tensors, &state, 8);
    let digest = digests.state();
    state[tensors[1].offset] += 1.0;
    folder.write_part_of(&digests, 8, 0, 1, &tensors, &state).await.unwrap();
    let error = folder.try_commit(8, 1, &info(digest)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::StateDiffers { expected, .. } if expected == digest), "{error}");
}

#[tokio::test]
async fn a_file_that_vanished_before_the_commit_stops_it() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let state = state(len, 8);
    for part in 0..2 {
        folder.write_part(8, part, 2, &tensors, &state).await.unwrap();
    }
    std::fs::remove_file(step_folder(root.path(), 8).join("model-00001-of-00003.safetensors")).unwrap();
    let error = folder.try_commit(8, 2, &info(state_digest(&tensors, &state, 8))).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(_)), "{error}");
    assert_eq!(folder.steps().await.unwrap(), Vec::<u64>::new());
}

#[tokio::test]
async fn a_damaged_checkpoint_is_replaced_when_its_step_is_saved_again() {
    let (tensors, len) = small();
    for (file, parts) in [("model-00001-of-00003.safetensors", 2), ("optimizer-00001-of-00003.safetensors", 3)] {
        for bytes in [&b"rubbish"[..], b""] {
            let root = tempfile::tempdir().unwrap();
            let folder = folder(root.path());
            save(&folder, 8, 2, &tensors, len).await;
            std::fs::write(step_folder(root.path(), 8).join(file), bytes).unwrap();
            assert!(folder.verify(8).await.is_err());

            let state = state(len, 8);
            let info = info(state_digest(&tensors, &state, 8));
            for part in 0..parts {
                folder.write_part(8, part, parts, &tensors, &state).await.unwrap();
            }
            folder.try_commit(8, parts, &info).await.unwrap().unwrap();
            folder.verify(8).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_manifest_of_rubbish_is_replaced_when_its_step_is_saved_again() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    save(&folder, 8, 2, &tensors, len).await;
    std::fs::write(step_folder(root.path(), 8).join("manifest.json"), "{\"format_version\": 1").unwrap();
    save(&folder, 8, 3, &tensors, len).await;
    folder.verify(8).await.unwrap();
}

#[tokio::test]
async fn an_index_left_by_another_save_is_put_right() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    // A group of three got as far as the index before it died.
    save(&folder, 8, 3, &tensors, len).await;
    std::fs::remove_file(step_folder(root.path(), 8).join("manifest.json")).unwrap();
    save(&folder, 8, 2, &tensors, len).await;
    folder.verify(8).await.unwrap();
}

/// What commits stand on, of the store itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_store_creates_once_and_shows_no_unfinished_object() {
    let root = tempfile::tempdir().unwrap();
    let (store, base) = trainctl_objects::open(root.path().to_str().unwrap()).unwrap();
    for round in 0..50 {
        let path = base.clone().join(format!("contested-{round}"));
        let barrier = Arc::new(Barrier::new(16));
        let mut racers = JoinSet::new();
        for racer in 0..16_u8 {
            let (store, path, barrier) = (store.clone(), path.clone(), barrier.clone());
            racers.spawn(async move {
                barrier.wait().await;
                let payload = PutPayload::from(vec![racer; 4096]);
                store.put_opts(&path, payload, PutOptions::from(PutMode::Create)).await.is_ok().then_some(racer)
            });
        }
        let winners: Vec<u8> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(stored, vec![winners[0]; 4096]);
    }

    let path = base.join("unfinished");
    let mut upload = store.put_multipart(&path).await.unwrap();
    upload.put_part(PutPayload::from(vec![0; 1 << 20])).await.unwrap();
    // As a killed process would leave it.
    std::mem::forget(upload);
    assert!(matches!(store.head(&path).await, Err(object_store::Error::NotFound { .. })));
    assert!(names(root.path()).contains(&"unfinished#1".to_owned()));
}
