//! What the coordinator's own machine costs, shared by the jobs that it looks after: at each moment the jobs that have
//! not ended bear equal parts. It is paid for while no coordinator runs on it, too.

use super::bill::usd;
use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};

/// What one job that was there from the beginning would have borne. A job bears the difference between its end and
/// its start.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shared {
    usd_per_hour: f64,
    /// Jobs that share it.
    jobs: u32,
    since: Timestamp,
    /// Up to `since`.
    each_usd: f64,
}

impl Shared {
    /// Up to now.
    pub(crate) fn each_usd(&self, now: Timestamp) -> f64 {
        self.each_usd + usd(now.since_ms(self.since), self.each_usd_per_hour())
    }

    /// A job's part of the price.
    pub(crate) fn each_usd_per_hour(&self) -> f64 {
        if self.jobs == 0 { 0.0 } else { self.usd_per_hour / f64::from(self.jobs) }
    }

    /// Shared by so many at this price from now on. False: nothing changed.
    pub(crate) fn share(&mut self, now: Timestamp, jobs: u32, usd_per_hour: f64) -> bool {
        if self.jobs == jobs && self.usd_per_hour == usd_per_hour {
            return false;
        }
        let each_usd = self.each_usd(now);
        *self = Self { usd_per_hour, jobs, since: now.max(self.since), each_usd };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_bear_equal_parts_of_the_time_that_they_share() {
        let hour = 3_600_000;
        let mut shared = Shared::default();
        assert!(shared.share(Timestamp(0), 1, 1.0));
        shared.share(Timestamp(hour), 2, 1.0);
        let second_from = shared.each_usd(Timestamp(hour));
        shared.share(Timestamp(3 * hour), 1, 1.0);
        let at_end = shared.each_usd(Timestamp(4 * hour));
        assert!((at_end - 3.0).abs() < 1e-12, "1 h alone, 2 h with another, 1 h alone: {at_end}");
        let second = shared.each_usd(Timestamp(3 * hour)) - second_from;
        assert!((second - 1.0).abs() < 1e-12, "{second}");
        assert!(!shared.share(Timestamp(9 * hour), 1, 1.0));
        shared.share(Timestamp(9 * hour), 0, 1.0);
        assert_eq!(shared.each_usd(Timestamp(9 * hour)), shared.each_usd(Timestamp(99 * hour)), "nobody is there");
    }
}
