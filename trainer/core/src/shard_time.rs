//! How long this worker computes one logical shard of a training step, so that the coordinator can give slow workers
//! fewer. Neighbours take a processor for some milliseconds at a time, which one short shard in a few pays for all: so
//! shards are timed in stretches that are long enough for a fair mean. One hiccup must not show: what counts is the
//! median of the newest stretches.

use std::collections::VecDeque;

/// Seconds of computing that make a stretch: many turns of a busy processor.
const STRETCH_S: f64 = 0.1;
/// Stretches that the median is of; odd.
const NEWEST: usize = 5;
/// Fewer than these say nothing.
const ENOUGH: usize = 3;

/// The newest stretches in the generation in which the worker trains.
#[derive(Clone, Debug, Default)]
pub struct ShardTime {
    /// Seconds a shard in each stretch, the newest last.
    newest: VecDeque<f64>,
    /// Of the stretch that is not whole yet.
    seconds: f64,
    shards: u64,
    /// In whole stretches, over all generations.
    timed: u64,
    /// The next one is the first of its generation.
    first: bool,
}

impl ShardTime {
    /// From now on in another generation, in which other workers may share this one's processor.
    pub fn begin(&mut self) {
        *self = Self { timed: self.timed, first: true, ..Self::default() };
    }

    /// A shard was computed in so many seconds. The first of a generation finds cold caches and isn't counted.
    pub fn took(&mut self, seconds: f64) {
        if std::mem::take(&mut self.first) {
            return;
        }
        self.seconds += seconds;
        self.shards += 1;
        if self.seconds < STRETCH_S {
            return;
        }
        if self.newest.len() == NEWEST {
            self.newest.pop_front();
        }
        self.newest.push_back(self.seconds / self.shards as f64);
        self.timed += self.shards;
        (self.seconds, self.shards) = (0.0, 0);
    }

    /// Seconds that a shard takes, once enough were timed in this generation.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        if self.newest.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<f64> = self.newest.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        Some(sorted[sorted.len() / 2])
    }

    /// Shards timed in all generations: a figure that grows whenever [`ShardTime::seconds`] may be a new one.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.timed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(time: &ShardTime, seconds: f64) -> bool {
        time.seconds().is_some_and(|found| (found / seconds - 1.0).abs() < 0.01)
    }

    #[test]
    fn a_hiccup_and_a_cold_start_do_not_show() {
        let mut time = ShardTime::default();
        time.begin();
        for seconds in [5.0, 0.2, 0.21, 9.0, 0.2] {
            time.took(seconds);
        }
        assert!(is(&time, 0.21) && time.timed() == 4, "{time:?}");
    }

    #[test]
    fn a_processor_that_is_taken_every_few_shards_shows() {
        let mut time = ShardTime::default();
        for n in 0..4_000 {
            time.took(if n % 10 == 0 { 0.021 } else { 0.001 });
        }
        assert!(is(&time, 0.003), "{time:?}");
    }

    #[test]
    fn a_lasting_change_shows_after_three_stretches() {
        let mut time = ShardTime::default();
        for _ in 0..100 {
            time.took(0.1);
        }
        for _ in 0..3 {
            time.took(0.4);
        }
        assert!(is(&time, 0.4), "{time:?}");
    }

    #[test]
    fn a_new_generation_is_timed_anew() {
        let mut time = ShardTime::default();
        for _ in 0..5 {
            time.took(0.1);
        }
        time.begin();
        for _ in 0..=3 {
            assert_eq!(time.seconds(), None);
            time.took(0.2);
        }
        assert!(is(&time, 0.2) && time.timed() == 8, "{time:?}");
    }
}
