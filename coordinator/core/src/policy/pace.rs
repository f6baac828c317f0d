//! How fast a job goes on how many workers, as measured; and what it does at least on a number that was not tried.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The weight of a new measure beside what is known of the same number of workers.
const NEWEST: f64 = 0.5;

/// Steps a second by number of workers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pace(BTreeMap<u32, f64>);

impl Pace {
    /// So many workers were measured. What is no rate is dropped.
    pub fn learn(&mut self, workers: u32, steps_per_s: f64) {
        if workers == 0 || !steps_per_s.is_finite() || steps_per_s <= 0.0 {
            return;
        }
        let known = self.0.entry(workers).or_insert(steps_per_s);
        *known += NEWEST * (steps_per_s - *known);
    }

    /// This number of workers was measured.
    #[must_use]
    pub fn measured(&self, workers: u32) -> bool {
        self.0.contains_key(&workers)
    }

    /// Steps a second that so many workers do at least: as many as fewer of them do, and their share of what more of
    /// them do, since more workers never help by more than their number. `None`: nothing was measured.
    #[must_use]
    pub fn at_least(&self, workers: u32) -> Option<f64> {
        let fewer = self.0.range(..=workers).next_back().map(|(_, rate)| *rate);
        if self.measured(workers) {
            return fewer;
        }
        let share = |(more, rate): (&u32, &f64)| rate * f64::from(workers) / f64::from(*more);
        let more = self.0.range(workers..).next().map(share);
        fewer.into_iter().chain(more).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_not_tried_is_bounded_from_both_sides() {
        let mut pace = Pace::default();
        assert_eq!(pace.at_least(4), None);
        pace.learn(2, 10.0);
        pace.learn(8, 24.0);
        assert_eq!([1, 2, 4, 8, 16].map(|n| pace.at_least(n)), [5.0, 10.0, 12.0, 24.0, 24.0].map(Some));
    }

    #[test]
    fn new_measures_count_half_and_nonsense_not_at_all() {
        let mut pace = Pace::default();
        pace.learn(1, 10.0);
        pace.learn(1, 20.0);
        for nonsense in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            pace.learn(1, nonsense);
        }
        assert_eq!(pace.at_least(1), Some(15.0));
    }

    proptest! {
        /// Rates that grow with workers, less and less: `n^power`.
        #[test]
        fn it_never_promises_more_than_the_truth(
            power in 0.0f64..=1.0,
            measured in prop::collection::vec(1u32..64, 1..6),
            asked in 1u32..64,
        ) {
            let truth = |workers: u32| f64::from(workers).powf(power);
            let mut pace = Pace::default();
            measured.iter().for_each(|workers| pace.learn(*workers, truth(*workers)));
            prop_assert!(pace.at_least(asked).unwrap() <= truth(asked) * (1.0 + 1e-9));
        }
    }
}
