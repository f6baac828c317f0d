//! States to save.

use trainctl_checkpoint::{CommitInfo, Digest, Group, TensorInfo};

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
        tensors.push(TensorInfo { name, group, shape: shape.to_vec(), offset, len, constant: false, absent: None });
        offset += len.next_multiple_of(16);
    }
    (tensors, offset)
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

pub(crate) fn info(state_digest: Digest) -> CommitInfo {
    CommitInfo {
        loss: Some(0.25),
        world_size: 3,
        generation: 7,
        audits_passed: 0,
        why: "every 10 steps".to_owned(),
        state_digest,
        created_ms: 1_700_000_000_000,
    }
}
