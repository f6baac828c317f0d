//! What retention removes, and what it must not.

use crate::support::{folder, names, save, small, state, step_folder};
use serde_json::json;
use std::path::Path;
use tokio::task::JoinSet;
use trainctl_checkpoint::{CheckpointError, Pruned, RunFolder};

async fn checkpoints(root: &Path, steps: &[u64]) -> RunFolder {
    let (tensors, len) = small();
    let folder = folder(root);
    for &step in steps {
        save(&folder, step, 2, &tensors, len).await;
    }
    folder
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn keeps_the_newest_and_leaves_nothing_of_the_others() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2, 3, 10]).await;
    let pruned = folder.prune(2).await.unwrap();
    assert_eq!(pruned, Pruned { removed: vec![1, 2], cleared: vec![], kept: vec![3, 10] });
    assert_eq!(names(step_folder(root.path(), 1).parent().unwrap()), ["10", "3"]);
    assert_eq!(folder.prune(2).await.unwrap(), Pruned { kept: vec![3, 10], ..Pruned::default() });
    for step in [3, 10] {
        folder.verify(step).await.unwrap();
    }
}

#[tokio::test]
async fn keeping_none_keeps_one() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2]).await;
    assert_eq!(folder.prune(0).await.unwrap().kept, [2]);
    assert_eq!(folder.prune(0).await.unwrap().kept, [2]);
}

#[tokio::test]
async fn the_newest_whole_one_outlives_damaged_newer_ones() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2, 3, 4]).await;
    for step in [3, 4] {
        flip(&step_folder(root.path(), step).join("model-00001-of-00003.safetensors"));
    }
    let pruned = folder.prune(1).await.unwrap();
    assert_eq!(pruned, Pruned { removed: vec![1], cleared: vec![], kept: vec![2, 3, 4] });
    folder.verify(2).await.unwrap();
}

#[tokio::test]
async fn nothing_goes_while_none_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2, 3]).await;
    for step in [1, 2, 3] {
        flip(&step_folder(root.path(), step).join("optimizer-00001-of-00003.safetensors"));
    }
    assert_eq!(folder.prune(1).await.unwrap(), Pruned { kept: vec![1, 2, 3], ..Pruned::default() });
}

#[tokio::test]
async fn an_unreadable_manifest_stays_and_does_not_count() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2, 3, 4]).await;
    for step in [1, 4] {
        std::fs::write(step_folder(root.path(), step).join("manifest.json"), "rubbish").unwrap();
    }
    let pruned = folder.prune(1).await.unwrap();
    assert_eq!(pruned, Pruned { removed: vec![2], cleared: vec![], kept: vec![1, 3, 4] });
    assert!(names(&step_folder(root.path(), 4)).len() > 1);
}

#[tokio::test]
async fn nothing_goes_beside_a_newer_programs_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2, 3]).await;
    let newer = json!({"format_version": 3, "files": "in the folders of steps 1 and 2"});
    std::fs::write(step_folder(root.path(), 3).join("manifest.json"), newer.to_string()).unwrap();
    let error = folder.prune(1).await.unwrap_err();
    assert!(matches!(error, CheckpointError::FormatVersion { found: 3, .. }), "{error}");
    assert_eq!(folder.steps().await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn abandoned_saves_older_than_the_newest_whole_one_are_cleared() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[10]).await;
    folder.write_part(5, 0, 2, &tensors, &state(len, 5)).await.unwrap();
    folder.write_part(15, 0, 2, &tensors, &state(len, 15)).await.unwrap();
    // What killed writers leave, which the store does not list.
    for step in [4, 5] {
        let folder = step_folder(root.path(), step);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("model-00001-of-00003.safetensors#1"), "half").unwrap();
        std::fs::write(folder.join("manifest.json#12"), "half").unwrap();
    }
    std::fs::create_dir_all(step_folder(root.path(), 3)).unwrap();

    let pruned = folder.prune(3).await.unwrap();
    assert_eq!(pruned, Pruned { removed: vec![], cleared: vec![3, 4, 5], kept: vec![10] });
    assert_eq!(names(step_folder(root.path(), 10).parent().unwrap()), ["10", "15"]);
    assert_eq!(names(&step_folder(root.path(), 15)).len(), 4, "a save that may still be under way");
}

#[tokio::test]
async fn abandoned_saves_stay_without_a_whole_checkpoint() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[10]).await;
    folder.write_part(5, 0, 2, &tensors, &state(len, 5)).await.unwrap();
    flip(&step_folder(root.path(), 10).join("model-00001-of-00003.safetensors"));
    assert_eq!(folder.prune(1).await.unwrap(), Pruned { kept: vec![10], ..Pruned::default() });
    assert_eq!(names(&step_folder(root.path(), 5)).len(), 4);
}

#[tokio::test]
async fn other_peoples_files_stay() {
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1, 2]).await;
    std::fs::write(step_folder(root.path(), 1).join("notes.md"), "mine").unwrap();
    assert_eq!(folder.prune(1).await.unwrap().removed, [1]);
    assert_eq!(names(&step_folder(root.path(), 1)), ["notes.md"]);
    assert_eq!(folder.steps().await.unwrap(), [2]);
}

#[tokio::test]
async fn parts_of_another_save_of_a_whole_step_are_cleared() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    // A smaller group got as far as a part, then a larger one saved and committed.
    folder.write_part(2, 0, 1, &tensors, &state(len, 2)).await.unwrap();
    checkpoints(root.path(), &[1, 2]).await;
    let manifest = folder.verify(2).await.unwrap();
    assert_eq!(names(&step_folder(root.path(), 2)).len(), manifest.files.len() + 2 + 1);
    folder.prune(1).await.unwrap();
    assert_eq!(names(&step_folder(root.path(), 2)).len(), manifest.files.len() + 2);
    folder.verify(2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_workers_may_prune_while_others_save_and_load() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = checkpoints(root.path(), &[1]).await;
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (folder, tensors) = (folder.clone(), tensors.clone());
        workers.spawn(async move {
            let mut out = vec![0.0; len];
            for _ in 0..50 {
                folder.prune(2).await.unwrap();
                folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
            }
        });
    }
    for step in 2..60 {
        save(&folder, step, 2, &tensors, len).await;
    }
    workers.join_all().await;
    folder.prune(2).await.unwrap();
    assert_eq!(folder.steps().await.unwrap(), [58, 59]);
}
