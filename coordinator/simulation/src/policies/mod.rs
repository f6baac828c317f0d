//! Simpler policies than the scheduler's, to compare it with. They move all workers together: none, all on spot, or all
//! on demand, as "Can't Be Late" (Wu et al., NSDI 2024, section 5.5) has it for jobs of several instances. An eviction,
//! and every change between the two, stands still for the whole start-up delay; no step is ever lost.

mod direct;
mod greedy;
mod uniform;

use crate::market::Market;
use crate::outcome::Outcome;
use crate::setup::Conditions;
use crate::workload::Workload;
use serde::Serialize;

/// A policy that is told of the present only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// All workers on demand, from the start.
    OnDemand,
    /// Spot until the last safe moment, then on demand to the end.
    Greedy,
    /// Uniform progress with hysteresis (NSDI 2024, section 5.2.2).
    Uniform,
}

/// Where all workers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Idle,
    Spot,
    OnDemand,
}

/// What a policy may look at. Times are milliseconds; work is the time that all workers take for it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct View {
    now_ms: u64,
    /// Where the workers are; `Idle` when one of a spot group was just taken.
    place: Place,
    /// Enough spot nodes for all workers are there, those that it holds included.
    spot: bool,
    /// Done so far.
    done_ms: f64,
    /// The whole job.
    work_ms: f64,
    /// What a change costs.
    delay_ms: u64,
    deadline_ms: Option<u64>,
    /// It went on demand to stay there.
    settled: bool,
    /// From when on the workers train.
    ready_ms: u64,
}

impl View {
    /// The last moment at which waiting or trying spot once more can't miss the deadline: a change to spot that comes
    /// to nothing and the change to on-demand after it still fit.
    fn safe_until_ms(&self) -> f64 {
        let reserve_ms = 2.0 * self.delay_ms as f64;
        self.deadline_ms.map_or(f64::INFINITY, |deadline| deadline as f64 - (self.work_ms - self.done_ms) - reserve_ms)
    }
}

/// What a policy wants now.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Wish {
    place: Place,
    /// Stay on demand to the end.
    settle: bool,
    /// Ask again then, if nothing happens before.
    again_ms: f64,
}

impl Wish {
    fn to(place: Place) -> Self {
        Self { place, settle: false, again_ms: f64::INFINITY }
    }

    fn settle() -> Self {
        Self { place: Place::OnDemand, settle: true, again_ms: f64::INFINITY }
    }

    fn again(self, at_ms: f64) -> Self {
        Self { again_ms: at_ms, ..self }
    }
}

/// Runs the job under the policy until it is done, or to `horizon_ms`.
#[must_use]
pub fn run_policy(
    policy: Policy,
    market: &Market,
    workload: &Workload,
    conditions: &Conditions,
    horizon_ms: u64,
) -> Outcome {
    let rule: fn(&View) -> Wish = match policy {
        Policy::OnDemand => |_: &View| Wish::settle(),
        Policy::Greedy => greedy::wish,
        Policy::Uniform => uniform::wish,
    };
    direct::run(rule, market, workload, conditions, horizon_ms)
}
