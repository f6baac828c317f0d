//! What is assumed of a cloud, alike for every policy.

use serde::Serialize;

/// US dollars for a worker and an hour.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Prices {
    /// Of an instance that may be taken.
    pub spot_usd_per_hour: f64,
    /// Of one that is not.
    pub on_demand_usd_per_hour: f64,
}

impl Prices {
    /// What so much time of workers costs.
    #[must_use]
    pub fn usd(&self, spot_ms: f64, on_demand_ms: f64) -> f64 {
        (spot_ms * self.spot_usd_per_hour + on_demand_ms * self.on_demand_usd_per_hour) / 3.6e6
    }
}

/// Prices and delays.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Conditions {
    /// What instances cost, from the request to the end.
    pub prices: Prices,
    /// From the request for an instance to its first step: boot, program, state.
    pub start_ms: u64,
    /// The part of it in which a worker fetches the state; the rest is over before it attaches.
    pub transfer_ms: u64,
    /// How long before it is taken an instance hears of it.
    pub notice_ms: u64,
    /// Between two heartbeats of a virtual worker.
    pub heartbeat_ms: u64,
    /// Between two checkpoints where the job says `auto`.
    pub checkpoint_ms: u64,
}

impl Default for Conditions {
    /// One dollar on demand and 30 % of it on spot, three minutes to start, AWS's two minutes of notice.
    fn default() -> Self {
        Self {
            prices: Prices { spot_usd_per_hour: 0.3, on_demand_usd_per_hour: 1.0 },
            start_ms: 180_000,
            transfer_ms: 20_000,
            notice_ms: 120_000,
            heartbeat_ms: 60_000,
            checkpoint_ms: 600_000,
        }
    }
}
