//! What is saved comes back bit for bit, however it was partitioned.

use crate::support::{JOB, folder, layout, names, save, small, state, step_folder, values};
use trainctl_checkpoint::{CheckpointError, Group, RunFolder, state_digest};

#[tokio::test]
async fn any_number_of_parts_gives_the_same_state() {
    let (tensors, len) = small();
    for parts in [1, 2, 3, 7, 20] {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let saved = save(&folder, 12, parts, &tensors, len).await;

        let mut out = vec![f32::NAN; len];
        let loaded = folder.load(12, &tensors, &mut out).await.unwrap();
        assert_eq!(loaded, saved);
        assert_eq!(values(&tensors, &out), values(&tensors, &state(len, 12)), "{parts} parts");
        assert_eq!(state_digest(&tensors, &out, 12), saved.state_digest);
        assert_eq!(folder.verify(12).await.unwrap(), saved);
    }
}

#[tokio::test]
async fn a_committed_folder_holds_the_files_of_the_manifest_and_nothing_else() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let manifest = save(&folder(root.path()), 12, 2, &tensors, len).await;

    let mut expected: Vec<String> = manifest.files.iter().map(|file| file.name.clone()).collect();
    expected.extend(["manifest.json".to_owned(), "model.safetensors.index.json".to_owned()]);
    expected.sort();
    assert_eq!(names(&step_folder(root.path(), 12)), expected);
    assert!(expected.contains(&"model-00001-of-00003.safetensors".to_owned()));
    assert!(expected.contains(&"optimizer-00002-of-00003.safetensors".to_owned()));
    let on_disk: u64 =
        manifest.files.iter().map(|f| step_folder(root.path(), 12).join(&f.name).metadata().unwrap().len()).sum();
    assert_eq!(manifest.bytes(), on_disk);
}

#[tokio::test]
async fn files_of_many_chunks_survive() {
    // Two tensors that no chunk's border meets evenly: a file of 21 MB and one of 9 MB.
    let (tensors, len) = layout(&[&[5_300_001], &[2_200_003]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    save(&folder, 3, 1, &tensors, len).await;

    let mut out = vec![0.0; len];
    folder.load(3, &tensors, &mut out).await.unwrap();
    assert!(values(&tensors, &out) == values(&tensors, &state(len, 3)), "loaded other values than were saved");
}

#[tokio::test]
async fn what_lies_between_tensors_is_neither_saved_nor_touched() {
    let (tensors, len) = layout(&[&[3], &[5]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    save(&folder, 1, 1, &tensors, len).await;

    let mut out = vec![42.0; len];
    folder.load(1, &tensors, &mut out).await.unwrap();
    assert_eq!(out[3..16], [42.0; 13]);
    assert_eq!(out[21..], [42.0; 11]);
}

#[tokio::test]
async fn loads_into_another_layout_of_the_same_tensors() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let saved = save(&folder, 5, 3, &tensors, len).await;

    let mut elsewhere: Vec<_> = tensors.iter().rev().cloned().collect();
    for tensor in &mut elsewhere {
        tensor.offset += 32;
    }
    let mut out = vec![0.0; len + 32];
    folder.load(5, &elsewhere, &mut out).await.unwrap();
    assert_eq!(state_digest(&elsewhere, &out, 5), saved.state_digest);
}

#[tokio::test]
async fn a_run_without_checkpoints_has_none() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let mut out = vec![42.0; len];
    assert!(folder.load_newest(&tensors, &mut out).await.unwrap().is_none());
    assert_eq!(out, vec![42.0; len]);
    assert_eq!(folder.steps().await.unwrap(), Vec::<u64>::new());

    let error = folder.verify(4).await.unwrap_err();
    assert!(matches!(error, CheckpointError::NotCommitted { step: 4, .. }), "{error}");
    assert!(error.to_string().ends_with("digits/checkpoints/4/manifest.json is absent"), "{error}");
}

#[tokio::test]
async fn lists_by_step_and_loads_the_newest() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    for step in [100, 9, 20] {
        save(&folder, step, 2, &tensors, len).await;
    }
    // A save under way, another program's folder and a user's note are no checkpoints.
    folder.write_part(120, 0, 2, &tensors, &state(len, 120)).await.unwrap();
    std::fs::create_dir(step_folder(root.path(), 0).with_file_name("007")).unwrap();
    std::fs::write(step_folder(root.path(), 0).with_file_name("README"), "mine").unwrap();

    assert_eq!(folder.steps().await.unwrap(), [9, 20, 100]);
    let listed: Vec<_> = folder.list().await.unwrap().into_iter().map(|l| (l.step, l.manifest.unwrap().step)).collect();
    assert_eq!(listed, [(9, 9), (20, 20), (100, 100)]);

    let mut out = vec![0.0; len];
    let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    assert_eq!((loaded.manifest.step, loaded.skipped.len()), (100, 0));
    assert_eq!(values(&tensors, &out), values(&tensors, &state(len, 100)));
}

#[tokio::test]
async fn wrong_layouts_and_parts_are_rejected_before_anything_is_written() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let state = state(len, 1);

    let error = folder.write_part(1, 0, 1, &tensors, &state[..len - 100]).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Layout(_)), "{error}");
    for (part, parts) in [(2, 2), (0, 0)] {
        let error = folder.write_part(1, part, parts, &tensors, &state).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Part { .. }), "{error}");
    }
    assert_eq!(names(&root.path().join(JOB)), Vec::<String>::new());
}

#[tokio::test]
async fn a_job_name_is_one_folder() {
    for name in ["", "..", ".hidden", "a/b", "a\nb"] {
        let error = RunFolder::open("/tmp", name).unwrap_err();
        assert!(matches!(error, CheckpointError::JobName { .. }), "{error}");
    }
    let error = RunFolder::open("relative/folder", "digits").unwrap_err();
    assert!(matches!(error, CheckpointError::Open(_)) && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn saves_run_as_background_tasks() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let (to_task, of_task) = (folder.clone(), tensors.clone());
    let saved = tokio::spawn(async move { save(&to_task, 2, 2, &of_task, len).await });
    let manifest = saved.await.unwrap();
    let (of_task, to_task) = (tensors, folder);
    let loaded = tokio::spawn(async move {
        let mut out = vec![0.0; len];
        let loaded = to_task.load_newest(&of_task, &mut out).await.unwrap().unwrap();
        to_task.prune(1).await.unwrap();
        loaded.manifest
    });
    assert_eq!(loaded.await.unwrap(), manifest);
    assert!(manifest.files.iter().any(|file| file.group == Group::Optimizer));
}
