//! Single tensors: their figures, how two differ, and one file of a model.

use crate::support::{folder, info, layout, save, state, step_folder};
use trainctl_checkpoint::{
    CheckpointError, Damage, Figures, FileEntry, Group, Manifest, TensorEntry, compare, measure, state_digest,
};

fn first(manifest: &Manifest) -> (&FileEntry, &TensorEntry) {
    let file = manifest.files.iter().find(|file| file.group == Group::Model).unwrap();
    (file, &file.tensors[0])
}

#[tokio::test]
async fn figures_are_those_of_the_values() {
    // Of several requests, the last one short.
    let (tensors, len) = layout(&[&[2_500_003]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let finite = |step: usize| (0..len).map(|at| (at * step % 1009) as f32 / 64.0).collect::<Vec<f32>>();
    let (ours, theirs) = (finite(7), finite(8));
    let mut manifests = Vec::new();
    for (step, state) in [(7, &ours), (8, &theirs)] {
        folder.write_part(step, 0, 1, &tensors, state).await.unwrap();
        let committed = folder.try_commit(step, 1, &info(state_digest(&tensors, state, step))).await.unwrap();
        manifests.push(committed.expect("the only part is there"));
    }
    let (a, b) = (&manifests[0], &manifests[1]);
    let (file, tensor) = first(a);
    let place = tensors.iter().find(|info| info.group == Group::Model && info.name == tensor.name).unwrap();
    let (ours, theirs) = (place.values(&ours), place.values(&theirs));

    let figures = measure(folder.tensor(a, file, tensor)).await.unwrap();
    let norm = ours.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let max_abs = ours.iter().fold(0.0, |most: f64, &value| most.max(f64::from(value.abs())));
    assert_eq!(figures, Figures { norm, max_abs, nonfinite: 0 });

    let (other_file, other) = first(b);
    let difference = compare(folder.tensor(a, file, tensor), folder.tensor(b, other_file, other)).await.unwrap();
    let apart = || ours.iter().zip(theirs).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    assert_eq!(difference.max_abs, apart().fold(0.0, f64::max));
    assert_eq!(difference.values as usize, ours.iter().zip(theirs).filter(|(a, b)| a.to_bits() != b.to_bits()).count());
    let relative = (apart().map(|apart| apart * apart).sum::<f64>() / norm.powi(2)).sqrt();
    assert!((difference.relative_norm - relative).abs() < 1e-12 * relative, "{difference:?}");
    let same = compare(folder.tensor(a, file, tensor), folder.tensor(a, file, tensor)).await.unwrap();
    assert_eq!((same.values, same.max_abs, same.relative_norm), (0, 0.0, 0.0));
}

#[tokio::test]
async fn a_flipped_and_a_truncated_file_are_told() {
    let (tensors, len) = layout(&[&[1000]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let manifest = save(&folder, 7, 1, &tensors, len).await;
    let (file, tensor) = first(&manifest);
    let path = step_folder(root.path(), 7).join(&file.name);
    let whole = std::fs::read(&path).unwrap();

    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let error = measure(folder.tensor(&manifest, file, tensor)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(Damage::Digest { .. })), "{error}");
    let dest = root.path().join("model.safetensors");
    assert!(folder.export_model(7, &dest, |_| ()).await.is_err());
    assert!(!dest.exists() && !root.path().join("model.safetensors.partial").exists());

    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = measure(folder.tensor(&manifest, file, tensor)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(Damage::Size { .. })), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = measure(folder.tensor(&manifest, file, tensor)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(Damage::Missing { .. })), "{error}");
}

#[tokio::test]
async fn one_file_holds_the_model_of_all_parts() {
    let (tensors, len) = layout(&[&[7, 11], &[30_000], &[]]);
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    save(&folder, 7, 3, &tensors, len).await;
    let dest = root.path().join("model.safetensors");
    folder.export_model(7, &dest, |_| ()).await.unwrap();
    let bytes = std::fs::read(&dest).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let model: Vec<_> = tensors.iter().filter(|tensor| tensor.group == Group::Model).collect();
    assert_eq!(file.len(), model.len());
    let state = state(len, 7);
    for info in model {
        let found = file.tensor(&info.name).unwrap();
        assert_eq!(found.shape(), info.shape);
        let expected: Vec<u8> = info.values(&state).iter().flat_map(|value| value.to_le_bytes()).collect();
        assert!(found.data() == expected, "{}", info.name);
    }
}
