//! Which samples a logical shard trains on at a step: a function of seed, step and shard, with no reader's state.

use crate::permutation::Permutation;
use crate::split::Split;

/// The order of training. All samples of all steps form one sequence, epoch after epoch, each epoch in an order of
/// its own; a step takes the next `global_batch` of it, a shard its micro-batch of those. So no sample is lost or
/// seen twice within an epoch, whatever the batch, and an epoch may end within a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sampler {
    seed: u64,
    split: Split,
}

impl Sampler {
    /// The order that belongs to this seed.
    ///
    /// # Panics
    /// When there is nothing to train on.
    #[must_use]
    pub fn new(seed: u64, split: Split) -> Self {
        assert!(split.train_len() > 0, "a sampler of no samples");
        Self { seed, split }
    }

    /// The split that it draws from.
    #[must_use]
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Overwrites `out` with the rows of one shard's micro-batch. Steps count from 0.
    pub fn rows(&self, step: u64, shard: u32, micro_batch: u32, logical_shards: u32, out: &mut Vec<u64>) {
        debug_assert!(shard < logical_shards, "shard {shard} of {logical_shards}");
        out.clear();
        let (micro_batch, train_len) = (u128::from(micro_batch), self.split.train_len());
        let first = (u128::from(step) * u128::from(logical_shards) + u128::from(shard)) * micro_batch;
        let mut order: Option<(u64, Permutation)> = None;
        for number in first..first + micro_batch {
            let (epoch, position) = (number / u128::from(train_len), number % u128::from(train_len));
            let (epoch, position) = (epoch as u64, position as u64);
            if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                order = Some((epoch, Permutation::new("epoch", &[self.seed, epoch], train_len)));
            }
            if let Some((_, order)) = &order {
                out.push(self.split.train_row(order.at(position)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(sampler: &Sampler, steps: u64, micro_batch: u32, shards: u32) -> Vec<u64> {
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        for step in 0..steps {
            for shard in 0..shards {
                sampler.rows(step, shard, micro_batch, shards, &mut rows);
                assert_eq!(rows.len(), micro_batch as usize);
                all.extend_from_slice(&rows);
            }
        }
        all
    }

    #[test]
    fn epochs_differ_and_so_do_seeds() {
        let split = Split::new(100, 0.0, 0);
        let first = steps(&Sampler::new(1, split.clone()), 20, 5, 2);
        assert_ne!(first[..100], first[100..]);
        assert_ne!(first, steps(&Sampler::new(2, split), 20, 5, 2));
    }

    #[test]
    fn the_last_steps_of_a_very_long_run_have_samples() {
        let mut rows = Vec::new();
        Sampler::new(1, Split::new(3, 0.0, 0)).rows(u64::MAX, 63, 4, 64, &mut rows);
        assert!(rows.len() == 4 && rows.iter().all(|&row| row < 3), "{rows:?}");
    }

    proptest! {
        #[test]
        fn each_epoch_has_every_training_row_once(
            samples in 1_u64..400, share in 0.0..0.5, seed: u64, micro_batch in 1_u32..20, shards in 1_u32..9,
        ) {
            let split = Split::new(samples, share, seed ^ 1);
            let mut expected: Vec<u64> = (0..split.train_len()).map(|index| split.train_row(index)).collect();
            expected.sort_unstable();
            let train_len = expected.len();
            let wanted = (3 * train_len).div_ceil((micro_batch * shards) as usize);
            let sequence = steps(&Sampler::new(seed, split), wanted as u64, micro_batch, shards);
            for epoch in sequence.chunks_exact(train_len) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                prop_assert_eq!(&epoch, &expected);
            }
        }

        #[test]
        fn the_shards_of_a_step_are_the_step_however_many_there_are(samples in 1_u64..400, seed: u64, step in 0_u64..99) {
            let sampler = Sampler::new(seed, Split::new(samples, 0.1, 0));
            let cut = |micro_batch, shards| {
                let (mut all, mut rows) = (Vec::new(), Vec::new());
                for shard in 0..shards {
                    sampler.rows(step, shard, micro_batch, shards, &mut rows);
                    all.extend_from_slice(&rows);
                }
                all
            };
            prop_assert_eq!(cut(24, 1), cut(3, 8));
        }
    }
}
