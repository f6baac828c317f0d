//! States to save, and the saving of them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use trainctl_checkpoint::{CommitInfo, Digest, Group, Manifest, RunFolder, TensorInfo, state_digest};

pub(crate) const JOB: &str = "digits";

/// Tensors of these shapes, alternately of both groups, each at a multiple of 16 elements, and the state's length.
pub(crate) fn layout(shapes: &[&[usize]]) -> (Vec<TensorInfo>, usize) {
    let mut offset = 0;
    let mut tensors = Vec::new();
    for (at, shape) in shapes.iter().enumerate() {
        let group = Group::ALL[at % 2];
        let name = match group {
            Group::Model => format!("layers.{at}.weight"),
            Group::Optimizer => format!("layers.{}.weight.exp_avg", at - 1),
        };
        let len = shape.iter().product();
        tensors.push(TensorInfo { name, group, shape: shape.to_vec(), offset, len });
        offset += len.next_multiple_of(16);
    }
    (tensors, offset)
}

/// All kinds of shapes. Two parts have files of both groups each.
pub(crate) const SHAPES: [&[usize]; 9] = [&[64, 10], &[600], &[300], &[32, 10], &[3, 5, 7], &[90], &[], &[], &[0, 4]];

/// A small model with [`SHAPES`].
pub(crate) fn small() -> (Vec<TensorInfo>, usize) {
    layout(&SHAPES)
}

/// The state after `step` updates: any bits, NaN and infinities too.
pub(crate) fn state(len: usize, step: u64) -> Vec<f32> {
    let mut bits = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        f32::from_bits((bits >> 32) as u32)
    };
    (0..len).map(|_| next()).collect()
}

/// The values of all tensors, bit for bit, without what lies between them.
pub(crate) fn values(tensors: &[TensorInfo], state: &[f32]) -> Vec<u32> {
    let values = tensors.iter().flat_map(|tensor| &state[tensor.offset..tensor.offset + tensor.len]);
    values.map(|value| value.to_bits()).collect()
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

pub(crate) fn info(state_digest: Digest) -> CommitInfo {
    CommitInfo {
        loss: Some(0.25),
        world_size: 3,
        generation: 7,
        why: "every 10 steps".to_owned(),
        state_digest,
        created_ms: 1_700_000_000_000,
    }
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
