//! What a run of a job came to.

use crate::setup::Prices;
use serde::Serialize;

/// A job's run in one window of a trace under one policy.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Outcome {
    /// What all its instances cost.
    pub cost_usd: f64,
    /// From the submission to the last step; absent: it did not get there.
    pub finish_seconds: Option<f64>,
    /// Time of spot workers, from their request on.
    pub spot_hours: f64,
    /// Time of on-demand workers.
    pub on_demand_hours: f64,
    /// Instances that were taken.
    pub evictions: u64,
    /// Done by the deadline, where there is one.
    pub in_time: bool,
    /// Why it did not end, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Time of workers that is paid for.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Bill {
    pub(crate) spot_ms: f64,
    pub(crate) on_demand_ms: f64,
    pub(crate) evictions: u64,
}

impl Bill {
    pub(crate) fn outcome(
        &self,
        prices: &Prices,
        finish_ms: Option<f64>,
        deadline_ms: Option<u64>,
        failure: Option<String>,
    ) -> Outcome {
        // Times add up to within a millisecond.
        let in_time = finish_ms.is_some_and(|at| deadline_ms.is_none_or(|deadline| at <= deadline as f64 + 1.0));
        Outcome {
            cost_usd: prices.usd(self.spot_ms, self.on_demand_ms),
            finish_seconds: finish_ms.map(|at| at / 1e3),
            spot_hours: self.spot_ms / 3.6e6,
            on_demand_hours: self.on_demand_ms / 3.6e6,
            evictions: self.evictions,
            in_time,
            failure,
        }
    }
}
