//! Which samples are trained on and which are kept for evaluation.

use crate::permutation::Permutation;

/// A data set's samples in two parts, chosen by a key: the first ones of a keyed order are held out. Counts are
/// exact, nothing is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    order: Permutation,
    held_out_len: u64,
}

impl Split {
    /// Keeps `share` of `samples` out, rounded to the nearest count; above 0 it is at least one sample, and one is
    /// always left to train on.
    ///
    /// # Panics
    /// When `share` is not in 0..1.
    #[must_use]
    pub fn new(samples: u64, share: f64, seed: u64) -> Self {
        assert!((0.0..1.0).contains(&share), "a share of {share}");
        let least = u64::from(share > 0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "0 <= share < 1: the product is a count of samples; both operations are exact in IEEE 754"
        )]
        let wanted = (samples as f64 * share).round() as u64;
        let held_out_len = wanted.max(least).min(samples.saturating_sub(1));
        Self { order: Permutation::new("held out", &[seed], samples), held_out_len }
    }

    /// Samples to train on.
    #[must_use]
    pub fn train_len(&self) -> u64 {
        self.order.len() - self.held_out_len
    }

    /// Samples to evaluate on.
    #[must_use]
    pub fn held_out_len(&self) -> u64 {
        self.held_out_len
    }

    /// The row of training sample `index`.
    ///
    /// # Panics
    /// When `index` is not below `train_len`.
    #[must_use]
    pub fn train_row(&self, index: u64) -> u64 {
        self.order.at(self.held_out_len + index)
    }

    /// The row of held-out sample `index`.
    ///
    /// # Panics
    /// When `index` is not below `held_out_len`.
    #[must_use]
    pub fn held_out_row(&self, index: u64) -> u64 {
        assert!(index < self.held_out_len, "held-out sample {index} of {}", self.held_out_len);
        self.order.at(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_are_exact() {
        for (samples, share, held_out) in [
            (1797, 0.1, 180),
            (10_000, 0.1, 1000),
            (10, 0.0, 0),
            (10, 0.001, 1),
            (10, 0.999, 9),
            (2, 0.5, 1),
            (1, 0.5, 0),
            (0, 0.1, 0),
        ] {
            let split = Split::new(samples, share, 3);
            assert_eq!(split.held_out_len(), held_out, "{share} of {samples}");
            assert_eq!(split.train_len(), samples - held_out);
        }
    }

    #[test]
    fn another_seed_holds_out_others() {
        let rows = |seed| {
            let split = Split::new(1000, 0.1, seed);
            (0..100).map(|index| split.held_out_row(index)).collect::<std::collections::BTreeSet<_>>()
        };
        let shared = rows(1).intersection(&rows(2)).count();
        // Of 100 and 100 among 1000, 10 are shared by chance, standard deviation 2.9.
        assert!(shared < 28, "{shared}");
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_part(samples in 1_u64..3000, share in 0.0..1.0, seed: u64) {
            let split = Split::new(samples, share, seed);
            let train = (0..split.train_len()).map(|index| split.train_row(index));
            let held_out = (0..split.held_out_len()).map(|index| split.held_out_row(index));
            let mut rows: Vec<u64> = train.chain(held_out).collect();
            rows.sort_unstable();
            prop_assert!(rows.iter().copied().eq(0..samples));
        }
    }
}
