//! Many windows of many traces, each under every policy, and what comes of it on the whole.

use crate::bound::bound;
use crate::market::Market;
use crate::outcome::Outcome;
use crate::policies::{Policy, run_policy};
use crate::setup::Conditions;
use crate::trace::Trace;
use crate::workload::Workload;
use crate::world::run_scheduler;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is looked at beyond the deadline, so that a missed one is seen to end.
const DEADLINES: u64 = 2;
/// Without a deadline: so many times the work.
const WORKS: u64 = 20;

/// Who bought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Buyer {
    /// The real scheduler, as the job's policy has it.
    Trainctl,
    /// All workers on demand, from the start.
    OnDemand,
    /// Spot until the last safe moment, then on demand to the end.
    GreedySpot,
    /// Uniform progress with hysteresis.
    UniformProgress,
    /// The bound of one who knows the future.
    Bound,
}

impl Buyer {
    /// In the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Trainctl, Self::OnDemand, Self::GreedySpot, Self::UniformProgress, Self::Bound];
}

/// Where a window begins, and what came of it under each policy.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WindowRow {
    /// Which trace, by its place among those given.
    pub trace: usize,
    /// From the trace's begin.
    pub offset_seconds: f64,
    /// In the order of [`Buyer::ALL`].
    pub outcomes: [Outcome; 5],
}

/// The middle and the edges of a figure over all windows.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// Half are not above it.
    pub median: f64,
    /// One in twenty is not above it.
    pub p5: f64,
    /// One in twenty is above it.
    pub p95: f64,
}

/// A policy over all windows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PolicySummary {
    /// Whose.
    pub policy: Buyer,
    /// US dollars.
    pub cost_usd: Spread,
    /// From submission to end, of those that ended.
    pub finish_seconds: Option<Spread>,
    /// On-demand workers' part of the time of all workers.
    pub on_demand_share: f64,
    /// Instances taken in a window, on average.
    pub evictions: f64,
    /// Windows in which the deadline passed before the job was done.
    pub missed: usize,
    /// Windows in which it was not done at all.
    pub unfinished: usize,
}

/// What a plan found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Study {
    /// In the order of [`Buyer::ALL`].
    pub policies: Vec<PolicySummary>,
    /// All windows, trace by trace.
    pub windows: Vec<WindowRow>,
}

impl Spread {
    /// By nearest rank; none of no figures.
    #[must_use]
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (share * figures.len() as f64).ceil() as usize;
            figures.get(rank.max(1) - 1).copied()
        };
        Some(Self { median: rank(0.5)?, p5: rank(0.05)?, p95: rank(0.95)? })
    }
}

/// Runs `windows` windows, spread evenly over the traces and over each of them, on all processors. `done` hears after
/// each how many are done.
#[must_use]
pub fn study(
    traces: &[Trace],
    windows: usize,
    workload: &Workload,
    conditions: &Conditions,
    done: &(dyn Fn(usize) + Sync),
) -> Study {
    let starts = starts(traces, windows);
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let rows: Mutex<Vec<Option<WindowRow>>> = Mutex::new(vec![None; starts.len()]);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((trace, offset_ms)) = starts.get(at).copied() else { return };
            let row = window(&traces[trace], trace, offset_ms, workload, conditions);
            rows.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(row);
            done(finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    let windows: Vec<WindowRow> = rows.into_iter().flatten().collect();
    let summary = |(at, policy): (usize, Buyer)| summary(policy, windows.iter().map(|row| &row.outcomes[at]));
    Study { policies: Buyer::ALL.into_iter().enumerate().filter_map(summary).collect(), windows }
}

/// Trace and offset of each window; traces get as many as each other, or one more.
fn starts(traces: &[Trace], windows: usize) -> Vec<(usize, u64)> {
    let mut starts = Vec::new();
    for (at, trace) in traces.iter().enumerate() {
        let count = windows / traces.len() + usize::from(at < windows % traces.len());
        let offset = |n: usize| ((n as f64 + 0.5) / count as f64 * trace.length_ms as f64) as u64;
        starts.extend((0..count).map(|n| (at, offset(n))));
    }
    starts
}

/// What is simulated of a window.
fn horizon_ms(workload: &Workload, conditions: &Conditions) -> u64 {
    let work_ms = workload.full_ms() as u64 + conditions.start_ms;
    workload.deadline_ms.map_or(WORKS * work_ms, |deadline_ms| DEADLINES * deadline_ms)
}

/// One window under every policy.
fn window(trace: &Trace, at: usize, offset_ms: u64, workload: &Workload, conditions: &Conditions) -> WindowRow {
    let horizon_ms = horizon_ms(workload, conditions);
    let market = Market::window(trace, offset_ms, horizon_ms);
    let outcomes = Buyer::ALL.map(|buyer| match buyer {
        Buyer::Trainctl => run_scheduler(&market, workload, conditions, horizon_ms),
        Buyer::OnDemand => run_policy(Policy::OnDemand, &market, workload, conditions, horizon_ms),
        Buyer::GreedySpot => run_policy(Policy::Greedy, &market, workload, conditions, horizon_ms),
        Buyer::UniformProgress => run_policy(Policy::Uniform, &market, workload, conditions, horizon_ms),
        Buyer::Bound => bound(&market, workload, conditions, horizon_ms),
    });
    WindowRow { trace: at, offset_seconds: offset_ms as f64 / 1e3, outcomes }
}

fn summary<'o>(policy: Buyer, outcomes: impl Iterator<Item = &'o Outcome> + Clone) -> Option<PolicySummary> {
    let sum = |figure: fn(&Outcome) -> f64| outcomes.clone().map(figure).sum::<f64>();
    let (spot, on_demand) = (sum(|outcome| outcome.spot_hours), sum(|outcome| outcome.on_demand_hours));
    let windows = outcomes.clone().count();
    Some(PolicySummary {
        policy,
        cost_usd: Spread::of(outcomes.clone().map(|outcome| outcome.cost_usd).collect())?,
        finish_seconds: Spread::of(outcomes.clone().filter_map(|outcome| outcome.finish_seconds).collect()),
        on_demand_share: if spot + on_demand > 0.0 { on_demand / (spot + on_demand) } else { 0.0 },
        evictions: sum(|outcome| outcome.evictions as f64) / windows.max(1) as f64,
        missed: outcomes.clone().filter(|outcome| outcome.finish_seconds.is_some() && !outcome.in_time).count(),
        unfinished: outcomes.filter(|outcome| outcome.finish_seconds.is_none()).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Format, Presence, Zone};

    #[test]
    fn ranks_are_figures_that_occurred() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((spread.p5, spread.median, spread.p95), (5.0, 50.0, 95.0));
        let one = Spread::of(vec![7.0]).unwrap();
        assert_eq!((one.p5, one.median, one.p95), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn windows_are_spread_over_traces_and_their_length() {
        let trace = |length_ms| Trace {
            source: "t".into(),
            format: Format::Bamboo,
            zones: vec![Zone { name: "z".to_owned(), nodes: vec![Presence { from_ms: 0, until_ms: length_ms }] }],
            length_ms,
        };
        let found = starts(&[trace(1_000), trace(100)], 5);
        assert_eq!(found, [(0, 166), (0, 500), (0, 833), (1, 25), (1, 75)]);
    }
}
