//! A pulled checkpoint is whole, and an interrupted pull goes on.

use crate::support::{folder, layout, names, save, small, step_folder};
use std::path::Path;
use std::time::SystemTime;
use trainctl_checkpoint::{CheckpointError, Damage};

fn modified(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

#[tokio::test]
async fn brings_all_files_with_their_bytes_and_says_how_far_it_is() {
    // Files of several requests each.
    let (tensors, len) = layout(&[&[3_000_001], &[1_200_000]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let manifest = save(&folder, 7, 1, &tensors, len).await;
    let dest = root.path().join("some/where");

    let mut seen = Vec::new();
    let pulled = folder.pull(7, &dest, |at| seen.push((at.done_bytes, at.total_bytes))).await.unwrap();
    assert_eq!(pulled, manifest);
    let from = step_folder(root.path(), 7);
    assert_eq!(names(&dest), names(&from));
    for name in names(&dest) {
        assert!(std::fs::read(dest.join(&name)).unwrap() == std::fs::read(from.join(&name)).unwrap(), "{name}");
    }
    assert!(seen.len() > 2 && seen.is_sorted());
    assert_eq!(seen.last(), Some(&(manifest.bytes(), manifest.bytes())));
}

#[tokio::test]
async fn whole_files_are_kept_and_others_fetched_again() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let manifest = save(&folder, 7, 2, &tensors, len).await;
    let dest = root.path().join("dest");
    folder.pull(7, &dest, |_| ()).await.unwrap();

    let [whole, flipped, short, absent] = [0, 1, 2, 3].map(|at| dest.join(&manifest.files[at].name));
    let before = modified(&whole);
    let mut bytes = std::fs::read(&flipped).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&flipped, bytes).unwrap();
    std::fs::write(&short, "half").unwrap();
    std::fs::remove_file(&absent).unwrap();
    std::fs::write(absent.with_extension("safetensors.partial"), "left by a killed pull").unwrap();

    let mut last = 0;
    folder.pull(7, &dest, |at| last = at.done_bytes).await.unwrap();
    assert_eq!(last, manifest.bytes());
    assert_eq!(modified(&whole), before, "a whole file is not fetched again");
    assert_eq!(names(&dest), names(&step_folder(root.path(), 7)));
    for file in &manifest.files {
        let from = step_folder(root.path(), 7).join(&file.name);
        assert!(std::fs::read(dest.join(&file.name)).unwrap() == std::fs::read(from).unwrap(), "{}", file.name);
    }
}

#[tokio::test]
async fn a_pull_goes_on_within_a_file_where_it_was_cut() {
    let (tensors, len) = layout(&[&[3_000_001]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let manifest = save(&folder, 7, 1, &tensors, len).await;
    let file = &manifest.files[0];
    let bytes = std::fs::read(step_folder(root.path(), 7).join(&file.name)).unwrap();
    let dest = root.path().join("dest");
    std::fs::create_dir(&dest).unwrap();
    let cut = 9_000_001;
    std::fs::write(dest.join(format!("{}.partial", file.name)), &bytes[..cut]).unwrap();

    let mut seen = Vec::new();
    folder.pull(7, &dest, |at| seen.push(at.done_bytes)).await.unwrap();
    assert_eq!(seen[0], cut as u64, "what was there is not fetched again: {seen:?}");
    assert!(std::fs::read(dest.join(&file.name)).unwrap() == bytes);
    assert_eq!(names(&dest), names(&step_folder(root.path(), 7)));
}

#[tokio::test]
async fn a_damaged_file_never_arrives() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let manifest = save(&folder, 7, 1, &tensors, len).await;
    let name = &manifest.files[1].name;
    let path = step_folder(root.path(), 7).join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let dest = root.path().join("dest");
    let error = folder.pull(7, &dest, |_| ()).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(Damage::Digest { .. })), "{error}");
    assert_eq!(names(&dest), [manifest.files[0].name.clone()]);
}

#[tokio::test]
async fn a_destination_that_is_no_folder_is_named() {
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    save(&folder, 7, 1, &tensors, len).await;
    let dest = root.path().join("file");
    std::fs::write(&dest, "").unwrap();
    let error = folder.pull(7, &dest, |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("make {}", dest.display()));
}
