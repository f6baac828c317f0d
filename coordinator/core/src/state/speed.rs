//! How fast a worker is: the last figures that it gave for one logical shard, as one measure.

use crate::event::ShardTime;
use crate::ids::{Generation, Timestamp};
use std::collections::VecDeque;

/// Reports that make a measure. Three heartbeats in a row outlast a hiccup.
const REPORTS: usize = 3;

/// Not persisted: a worker says it again soon.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Speed {
    generation: Generation,
    /// Shards timed by the newest report: one that did not time any since tells nothing new.
    timed: u64,
    /// Seconds a shard in this generation, the newest last.
    recent: VecDeque<f64>,
    newest: Timestamp,
    /// The last measure in any generation.
    known: Option<(Timestamp, f64)>,
}

/// Seconds that one logical shard takes a worker.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Measure {
    /// The fastest and the slowest of the last reports.
    pub(crate) range: (f64, f64),
    /// Their median.
    pub(crate) seconds: f64,
    /// When the newest of them came.
    pub(crate) at: Timestamp,
}

impl Speed {
    /// Takes a report in. Another generation may share a processor differently, so its measure begins anew.
    pub(crate) fn report(&mut self, now: Timestamp, generation: Generation, said: ShardTime) {
        if generation != self.generation {
            self.generation = generation;
            self.recent.clear();
        }
        if said.timed == self.timed || !said.seconds.is_finite() || said.seconds <= 0.0 {
            return;
        }
        self.timed = said.timed;
        self.newest = now;
        if self.recent.len() == REPORTS {
            self.recent.pop_front();
        }
        self.recent.push_back(said.seconds);
        if let Some(measure) = self.measure(generation) {
            self.known = Some((now, measure.seconds));
        }
    }

    /// In this generation; `None` before enough was reported.
    pub(crate) fn measure(&self, generation: Generation) -> Option<Measure> {
        if generation != self.generation || self.recent.len() < REPORTS {
            return None;
        }
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let range = (*sorted.first()?, *sorted.last()?);
        Some(Measure { range, seconds: sorted[REPORTS / 2], at: self.newest })
    }

    /// The last measure, whichever generation it is of, unless it is older than `age_ms_max`.
    pub(crate) fn known(&self, now: Timestamp, age_ms_max: u64) -> Option<f64> {
        let (at, seconds) = self.known?;
        (now.since_ms(at) <= age_ms_max).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reports: &[(u64, u64, f64)]) -> Speed {
        let mut speed = Speed::default();
        for (n, (generation, timed, seconds)) in reports.iter().enumerate() {
            let said = ShardTime { seconds: *seconds, timed: *timed };
            speed.report(Timestamp(n as i64), Generation(*generation), said);
        }
        speed
    }

    #[test]
    fn one_slow_report_is_a_hiccup() {
        let speed = told(&[(1, 8, 0.010), (1, 16, 0.090), (1, 24, 0.011)]);
        let measure = speed.measure(Generation(1)).unwrap();
        assert_eq!((measure.range, measure.seconds, measure.at), ((0.010, 0.090), 0.011, Timestamp(2)));
    }

    #[test]
    fn what_was_said_before_counts_once_and_nonsense_not_at_all() {
        let said_again = told(&[(1, 8, 0.01), (1, 8, 0.01), (1, 8, 0.01)]);
        assert_eq!(said_again.measure(Generation(1)), None);
        let nonsense = told(&[(1, 1, f64::NAN), (1, 2, 0.0), (1, 3, -1.0), (1, 4, f64::INFINITY)]);
        assert_eq!(nonsense.measure(Generation(1)), None);
    }

    #[test]
    fn a_new_generation_is_measured_anew_and_the_old_figure_is_known_for_a_while() {
        let speed = told(&[(1, 1, 0.01), (1, 2, 0.01), (1, 3, 0.01), (2, 4, 0.02)]);
        assert_eq!(speed.measure(Generation(1)), None);
        assert_eq!(speed.measure(Generation(2)), None);
        assert_eq!(speed.known(Timestamp(10), 60), Some(0.01));
        assert_eq!(speed.known(Timestamp(100), 60), None);
    }
}
