//! What members sum, and what must come of it.

use trainer_collective::{Memory, MemoryError};
use trainer_core::tree::{Shards, split};
use trainer_nccl::GroupSum;

/// The vector of a shard in a round.
pub(crate) fn vector(shard: u32, round: u64, length: usize) -> Vec<f32> {
    let seed = u64::from(shard) * 7919 + round * 104_729;
    let value = |i: u64| ((seed + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 8192.0 - 1024.0;
    (0..length as u64).map(|i| value(i) * 1.000_13).collect()
}

/// The tree, as its definition has it.
pub(crate) fn serial(node: &Shards, round: u64, length: usize) -> Vec<f32> {
    let Some((left, right)) = split(node) else { return vector(node.start, round, length) };
    let mut sum = serial(&left, round, length);
    sum.iter_mut().zip(serial(&right, round, length)).for_each(|(a, b)| *a += b);
    sum
}

pub(crate) fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|f| f.to_bits()).collect()
}

/// Equal shares of all shards, as far as they go.
pub(crate) fn shares(logical_shards: u32, world_size: u32) -> Vec<Shards> {
    (0..world_size).map(|r| r * logical_shards / world_size..(r + 1) * logical_shards / world_size).collect()
}

/// Computes this member's vectors of a round.
pub(crate) fn compute<M: Memory + AsMut<[f32]>>(sum: &mut GroupSum<M>, shards: Shards, round: u64) {
    let add = |sum: &mut GroupSum<M>, shard| -> Result<(), MemoryError> {
        let place = sum.next_vector();
        let values = vector(shard, round, place.len());
        sum.memory_mut().as_mut()[place].copy_from_slice(&values);
        sum.push(shard)
    };
    sum.begin();
    for shard in shards {
        add(sum, shard).unwrap();
    }
}

/// A copy of the last exchange's result.
pub(crate) fn result<M: Memory + AsMut<[f32]>>(sum: &mut GroupSum<M>) -> Vec<f32> {
    let place = sum.sum();
    sum.memory_mut().as_mut()[place].to_vec()
}
