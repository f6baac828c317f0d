//! How often an offer's instances are taken away, from what was seen: evictions over instance hours, both of which fade
//! with time, so that a zone that was bad an hour ago is not shunned for ever.

use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};

const HOUR_MS: f64 = 3_600_000.0;

/// What was seen of an offer, faded.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Hazard {
    evictions: f64,
    instance_hours: f64,
    /// Up to when.
    at: Timestamp,
}

/// What is assumed of an offer of which nothing was seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prior {
    /// Evictions of one instance in an hour.
    pub per_hour: f64,
    /// As many instance hours seen weigh as much as the assumption.
    pub hours: f64,
}

impl Hazard {
    /// Time passed since the last call, with so many instances in use.
    pub fn watch(&mut self, now: Timestamp, instances: u32, half_life_ms: u64) {
        let elapsed_ms = now.since_ms(self.at) as f64;
        let half_life_ms = half_life_ms.max(1) as f64;
        let kept = (-elapsed_ms / half_life_ms).exp2();
        self.evictions *= kept;
        // The integral of a constant number of instances under the same fading.
        let watched = half_life_ms / std::f64::consts::LN_2 * (1.0 - kept) / HOUR_MS;
        self.instance_hours = self.instance_hours * kept + f64::from(instances) * watched;
        self.at = now.max(self.at);
    }

    /// One was taken, at the time of the last [`Hazard::watch`].
    pub fn evicted(&mut self) {
        self.evictions += 1.0;
    }

    /// Evictions of one instance to be expected in an hour.
    #[must_use]
    pub fn per_hour(mut self, now: Timestamp, instances: u32, half_life_ms: u64, prior: Prior) -> f64 {
        self.watch(now, instances, half_life_ms);
        let hours = self.instance_hours + prior.hours.max(1e-3);
        (self.evictions + prior.per_hour.max(0.0) * prior.hours.max(1e-3)) / hours
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;
    const PRIOR: Prior = Prior { per_hour: 0.1, hours: 1.0 };

    fn at(hours: f64) -> Timestamp {
        Timestamp((hours * HOUR as f64) as i64)
    }

    #[test]
    fn with_nothing_seen_the_assumption_holds() {
        let rate = Hazard::default().per_hour(at(50.0), 0, HOUR, PRIOR);
        assert!((rate - 0.1).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn a_steady_rate_is_found() {
        let mut hazard = Hazard::default();
        // Ten instances, five taken each hour: one in two.
        for n in 1..=100 {
            hazard.watch(at(f64::from(n) * 0.2), 10, HOUR);
            hazard.evicted();
        }
        let rate = hazard.per_hour(at(20.0), 10, HOUR, PRIOR);
        assert!((0.4..0.6).contains(&rate), "{rate}");
    }

    #[test]
    fn a_bad_hour_fades() {
        let mut hazard = Hazard::default();
        hazard.watch(at(1.0), 0, HOUR);
        hazard.watch(at(1.5), 4, HOUR);
        (0..4).for_each(|_| hazard.evicted());
        let rates = [1.5, 2.5, 4.5, 9.5].map(|hours| hazard.per_hour(at(hours), 0, HOUR, PRIOR));
        assert!(rates.is_sorted_by(|a, b| a > b), "{rates:?}");
        assert!(rates[0] > 1.0 && rates[3] < 0.15, "{rates:?}");
    }

    proptest! {
        #[test]
        fn looking_more_often_tells_the_same(
            spans in prop::collection::vec((1u64..HOUR, 0u32..20), 1..20),
            pieces in 1u64..7,
        ) {
            let (mut whole, mut pieced, mut now) = (Hazard::default(), Hazard::default(), 0);
            for (span, instances) in spans {
                for piece in 1..=pieces {
                    pieced.watch(Timestamp(now + (span * piece / pieces) as i64), instances, HOUR);
                }
                now += span as i64;
                whole.watch(Timestamp(now), instances, HOUR);
                whole.evicted();
                pieced.evicted();
            }
            let rate = |hazard: Hazard| hazard.per_hour(Timestamp(now), 0, HOUR, PRIOR);
            prop_assert!((rate(whole) - rate(pieced)).abs() <= 1e-6 * (1.0 + rate(whole)));
        }

        #[test]
        fn a_clock_that_goes_back_does_no_harm(at in any::<i32>(), back in 0i64..1_000_000_000) {
            let mut hazard = Hazard::default();
            hazard.watch(Timestamp(i64::from(at)), 3, HOUR);
            hazard.watch(Timestamp(i64::from(at) - back), 3, HOUR);
            let rate = hazard.per_hour(Timestamp(i64::from(at) - back), 3, HOUR, PRIOR);
            prop_assert!(rate.is_finite() && rate >= 0.0);
        }
    }
}
