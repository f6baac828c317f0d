//! Every file in turn is missing, truncated, flipped, half-written or someone else's. Never is that silent, and a
//! job goes on from the newest whole checkpoint.

use crate::support::{SHAPES, folder, layout, names, save, small, state, step_folder, values};
use serde_json::{Value, json};
use std::path::Path;
use trainctl_checkpoint::{CheckpointError, Damage, RunFolder};

const WHOLE: u64 = 10;
const DAMAGED: u64 = 20;

async fn two_checkpoints(root: &Path) -> RunFolder {
    let (tensors, len) = small();
    let folder = folder(root);
    save(&folder, WHOLE, 2, &tensors, len).await;
    save(&folder, DAMAGED, 2, &tensors, len).await;
    folder
}

/// The typed reason, after checking that loading skips the damaged checkpoint for it and gives the older one.
async fn reason_to_fall_back(folder: &RunFolder) -> CheckpointError {
    let (tensors, len) = small();
    let mut out = vec![0.0; len];
    let mut loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
    assert_eq!(loaded.manifest.step, WHOLE);
    assert_eq!(values(&tensors, &out), values(&tensors, &state(len, WHOLE)));
    assert_eq!(loaded.skipped.iter().map(|skipped| skipped.step).collect::<Vec<_>>(), [DAMAGED]);
    let of_verify = folder.verify(DAMAGED).await.unwrap_err();
    let skipped = loaded.skipped.remove(0).reason;
    assert_eq!(of_verify.to_string(), skipped.to_string());
    skipped
}

fn tensor_files(root: &Path) -> Vec<String> {
    let files: Vec<_> =
        names(&step_folder(root, DAMAGED)).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert_eq!(files.len(), 6);
    files
}

#[tokio::test]
async fn each_file_missing() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    for name in tensor_files(root.path()) {
        let path = step_folder(root.path(), DAMAGED).join(&name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let reason = reason_to_fall_back(&folder).await;
        let CheckpointError::Damaged(Damage::Missing { object, expected_bytes }) = reason else { panic!("{reason}") };
        assert!(object.ends_with(&format!("digits/checkpoints/20/{name}")), "{object}");
        assert_eq!(expected_bytes, bytes.len() as u64);
        std::fs::write(&path, bytes).unwrap();
    }
    folder.verify(DAMAGED).await.unwrap();
}

#[tokio::test]
async fn each_file_truncated_or_grown() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    for name in tensor_files(root.path()) {
        let path = step_folder(root.path(), DAMAGED).join(&name);
        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 1, 8, bytes.len() / 2, bytes.len() - 1, bytes.len() + 1] {
            let mut changed = bytes.clone();
            changed.resize(len, 0);
            std::fs::write(&path, changed).unwrap();
            let reason = reason_to_fall_back(&folder).await;
            let CheckpointError::Damaged(Damage::Size { object, expected_bytes, found_bytes }) = reason else {
                panic!("{reason}")
            };
            assert!(object.ends_with(&name), "{object}");
            assert_eq!((expected_bytes, found_bytes), (bytes.len() as u64, len as u64));
        }
        std::fs::write(&path, bytes).unwrap();
    }
    folder.verify(DAMAGED).await.unwrap();
}

#[tokio::test]
async fn each_file_with_one_bit_flipped() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    for name in tensor_files(root.path()) {
        let path = step_folder(root.path(), DAMAGED).join(&name);
        let bytes = std::fs::read(&path).unwrap();
        // In the header's length, in the header, where values start, and in the last value.
        for at in [0, 7, 12, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, flipped).unwrap();
            let reason = reason_to_fall_back(&folder).await;
            let CheckpointError::Damaged(Damage::Digest { object, expected, found }) = reason else {
                panic!("{reason}")
            };
            assert!(object.ends_with(&name) && expected != found, "{object}");
        }
        std::fs::write(&path, bytes).unwrap();
    }
    folder.verify(DAMAGED).await.unwrap();
}

#[tokio::test]
async fn files_swapped_between_steps() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    let name = &tensor_files(root.path())[0];
    std::fs::copy(step_folder(root.path(), WHOLE).join(name), step_folder(root.path(), DAMAGED).join(name)).unwrap();
    let reason = reason_to_fall_back(&folder).await;
    assert!(matches!(reason, CheckpointError::Damaged(Damage::Digest { .. })), "{reason}");
}

#[tokio::test]
async fn a_manifest_half_written_or_foreign() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    let path = step_folder(root.path(), DAMAGED).join("manifest.json");
    let whole = std::fs::read(&path).unwrap();
    let contents: [&[u8]; 7] =
        [b"", b"{", &whole[..whole.len() / 2], b"null", b"[1,2]", br#"{"name":"other"}"#, b"\xff\xfe"];
    for bytes in contents {
        std::fs::write(&path, bytes).unwrap();
        let reason = reason_to_fall_back(&folder).await;
        let CheckpointError::Damaged(Damage::Foreign { object, expected, .. }) = reason else { panic!("{reason}") };
        assert!(object.ends_with("checkpoints/20/manifest.json"), "{object}");
        assert_eq!(expected, "a checkpoint manifest");
    }
    let listed = folder.list().await.unwrap();
    assert!(listed[0].manifest.is_ok() && listed[1].manifest.is_err());
}

async fn edited(root: &Path, folder: &RunFolder, edit: impl Fn(&mut Value)) -> CheckpointError {
    let path = step_folder(root, DAMAGED).join("manifest.json");
    let whole = std::fs::read(&path).unwrap();
    let mut manifest: Value = serde_json::from_slice(&whole).unwrap();
    edit(&mut manifest);
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let reason = reason_to_fall_back(folder).await;
    std::fs::write(&path, whole).unwrap();
    reason
}

#[tokio::test]
async fn a_manifest_of_a_newer_program_is_not_called_damaged() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    let reason = edited(root.path(), &folder, |manifest| {
        *manifest = json!({"format_version": 3, "tensors": "another way"});
    })
    .await;
    assert!(matches!(reason, CheckpointError::FormatVersion { supported: 2, found: 3, .. }), "{reason}");
    assert!(reason.to_string().ends_with("expected format_version 2 or older, found 3"), "{reason}");
}

#[tokio::test]
async fn a_manifest_edited_by_hand_gives_itself_away() {
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    type Edit = fn(&mut Value);
    let edits: [(Edit, &str); 7] = [
        (|m| m["step"] = json!(21), "one of step 21"),
        (|m| m["files"][0]["name"] = json!("../10/model-00001-of-00003.safetensors"), "a file named \"../10"),
        (|m| m["files"][1] = m["files"][0].clone(), "model-00001-of-00003.safetensors twice"),
        (|m| m["files"][0]["tensors"][0]["shape"] = json!([1_u64 << 62, 1_u64 << 62]), "of shape [4611686018427387904"),
        (|m| m["files"][0]["digest"] = json!("md5:1234"), "expected \"blake3:\" and 64 lower-case hex digits"),
        (|m| m["files"][0]["step"] = json!(20), "of the later step 20"),
        (|m| m["files"][0]["bytes"] = json!(-1), "invalid value: integer `-1`"),
    ];
    for (edit, found) in edits {
        let reason = edited(root.path(), &folder, edit).await;
        assert!(matches!(reason, CheckpointError::Damaged(Damage::Foreign { .. })), "{reason}");
        assert!(reason.to_string().contains(found), "{reason}");
    }
    let dropped = edited(root.path(), &folder, |m| drop(m["files"].as_array_mut().unwrap().remove(0))).await;
    assert!(matches!(dropped, CheckpointError::Damaged(Damage::State { .. })), "{dropped}");
}

#[tokio::test]
async fn a_damaged_index_fails_verify_but_costs_no_progress() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    let path = step_folder(root.path(), DAMAGED).join("model.safetensors.index.json");
    for bytes in [None, Some("{}")] {
        match bytes {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
        let error = folder.verify(DAMAGED).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged(_)), "{error}");
        assert!(error.to_string().contains("model.safetensors.index.json"), "{error}");
        let loaded = folder.load_newest(&tensors, &mut vec![0.0; len]).await.unwrap().unwrap();
        assert_eq!((loaded.manifest.step, loaded.skipped.len()), (DAMAGED, 0));
    }
}

#[tokio::test]
async fn another_model_is_told_by_its_first_differing_tensor() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    let mut out = vec![0.0; len];

    let mut wider = tensors.clone();
    wider[0].shape = vec![10, 64];
    let error = folder.load(DAMAGED, &wider, &mut out).await.unwrap_err();
    let text = "model tensor \"layers.0.weight\": expected shape [10, 64], found shape [64, 10]";
    assert!(error.to_string().ends_with(text), "{error}");

    let fewer = &tensors[..tensors.len() - 1];
    let error = folder.load(DAMAGED, fewer, &mut out).await.unwrap_err();
    let text = "model tensor \"layers.8.weight\": expected no such tensor, found shape [0, 4]";
    assert!(error.to_string().ends_with(text), "{error}");

    let (more, more_len) = layout(&[&SHAPES[..], &[&[2]]].concat());
    let error = folder.load_newest(&more, &mut vec![0.0; more_len]).await.unwrap_err();
    let CheckpointError::NoneWhole { skipped, .. } = &error else { panic!("{error}") };
    assert_eq!(skipped.iter().map(|skipped| skipped.step).collect::<Vec<_>>(), [DAMAGED, WHOLE]);
    assert!(skipped.iter().all(|skipped| matches!(skipped.reason, CheckpointError::Tensor { .. })));
    let text = "optimizer tensor \"layers.8.weight.exp_avg\": expected shape [2], found no such tensor";
    assert!(error.to_string().ends_with(text), "{error}");
}

#[tokio::test]
async fn no_whole_checkpoint_is_an_error_with_all_reasons() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = two_checkpoints(root.path()).await;
    std::fs::write(step_folder(root.path(), DAMAGED).join("manifest.json"), "").unwrap();
    std::fs::remove_file(step_folder(root.path(), WHOLE).join("optimizer-00002-of-00003.safetensors")).unwrap();
    let error = folder.load_newest(&tensors, &mut vec![0.0; len]).await.unwrap_err();
    let CheckpointError::NoneWhole { skipped, .. } = &error else { panic!("{error}") };
    assert!(matches!(skipped[0].reason, CheckpointError::Damaged(Damage::Foreign { .. })));
    assert!(matches!(skipped[1].reason, CheckpointError::Damaged(Damage::Missing { .. })));
    assert!(error.to_string().contains("none of the 2 checkpoints"), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_part_record_that_is_rubbish_stops_the_commit_until_its_part_is_saved_again() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let state = state(len, 5);
    let info = crate::support::info(trainctl_checkpoint::state_digest(&tensors, &state, 5));
    for part in 0..2 {
        folder.write_part(5, part, 2, &tensors, &state).await.unwrap();
    }
    std::fs::write(step_folder(root.path(), 5).join("part-00001-of-00002.json"), "{}").unwrap();
    let error = folder.try_commit(5, 2, &info).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(Damage::Foreign { expected: "a part record", .. })), "{error}");
    folder.write_part(5, 0, 2, &tensors, &state).await.unwrap();
    assert!(folder.try_commit(5, 2, &info).await.unwrap().is_some());
}
