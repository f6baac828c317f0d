//! Saving states in a folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use trainctl_checkpoint::{Manifest, RunFolder, TensorInfo, state_digest};

pub(crate) use crate::states::{JOB, info, layout, state, values};

/// All kinds of shapes. Two parts have files of both groups each.
pub(crate) const SHAPES: [&[usize]; 9] = [&[64, 10], &[600], &[300], &[32, 10], &[3, 5, 7], &[90], &[], &[], &[0, 4]];

/// A small model with [`SHAPES`].
pub(crate) fn small() -> (Vec<TensorInfo>, usize) {
    layout(&SHAPES)
}

pub(crate) fn folder(root: &Path) -> RunFolder {
    RunFolder::open(root.to_str().unwrap(), JOB).unwrap()
}

pub(crate) fn step_folder(root: &Path, step: u64) -> PathBuf {
    root.join(JOB).join("checkpoints").join(step.to_string())
}

/// What is in a folder, hidden leftovers too; empty if it doesn't exist.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Saves and commits `state(len, step)` in `parts` parts.
pub(crate) async fn save(folder: &RunFolder, step: u64, parts: u32, tensors: &[TensorInfo], len: usize) -> Manifest {
    let state = state(len, step);
    let info = info(state_digest(tensors, &state, step));
    let mut committed = None;
    for part in 0..parts {
        assert_eq!(committed, None, "committed before part {part}");
        folder.write_part(step, part, parts, tensors, &state).await.unwrap();
        committed = folder.try_commit(step, parts, &info).await.unwrap();
    }
    committed.expect("all parts are there")
}

/// Says that a test could not run. Past the capture of test output: a skipped test must not look like a passed one.
pub(crate) fn skipped(what: &str, why: &str) {
    std::io::stderr().write_all(format!("\nSKIPPED: {what}: {why}\n\n").as_bytes()).unwrap();
}
