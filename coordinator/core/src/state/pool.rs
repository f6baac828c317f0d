//! A pool: what it holds, and what was seen of it.

use crate::event::{Market, PoolSpec};
use crate::ids::Timestamp;
use crate::policy::{Hazard, Prior};
use crate::settings::Settings;
use serde::{Deserialize, Serialize};

/// A source of instances.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Pool {
    /// As configured; after a restart its capacity is 0 until the driver announces it again.
    pub(crate) spec: PoolSpec,
    /// Instances that it took.
    pub(crate) evictions: u32,
    /// How often.
    #[serde(default)]
    pub(crate) hazard: Hazard,
    /// From a launch until the worker attached, the slowest of the newest; absent: none was seen.
    #[serde(default)]
    pub(crate) start_ms: Option<u64>,
    /// Its instances that have not ended, on their way out or not.
    #[serde(skip)]
    pub(crate) in_use: u32,
    /// Those of them whose workers are neither lost nor on their way out, as jobs were last counted.
    #[serde(skip)]
    pub(crate) staying: u32,
}

impl Pool {
    pub(crate) fn new(spec: PoolSpec) -> Self {
        Self { spec, evictions: 0, hazard: Hazard::default(), start_ms: None, in_use: 0, staying: 0 }
    }

    /// Evictions of one instance to be expected in an hour.
    pub(crate) fn evictions_per_hour(&self, now: Timestamp, settings: &Settings) -> f64 {
        let prior = match self.spec.market {
            Market::Spot => settings.hazard_prior,
            Market::Own | Market::OnDemand => Prior { per_hour: 0.0, ..settings.hazard_prior },
        };
        self.hazard.per_hour(now, self.in_use, settings.hazard_half_life_ms, prior)
    }

    /// Nobody takes its instances away.
    pub(crate) fn secure(&self) -> bool {
        self.spec.market != Market::Spot
    }

    /// An instance took so long to start. Slower ones count at once, faster ones little by little.
    pub(crate) fn started_in(&mut self, ms: u64) {
        let faded = self.start_ms.map_or(0, |known| known - known / 4 + ms / 4);
        self.start_ms = Some(ms.max(faded));
    }
}
