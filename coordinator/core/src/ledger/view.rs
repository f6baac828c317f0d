//! What the outside sees of the ledger: copies, in terms that `cost` and the wire use.

use super::bill::{Bill, Sum};
use crate::event::{Machine, Market, Place, Price};
use crate::ids::{InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::state::State;

/// What a job has cost so far. All in US dollars.
#[derive(Clone, PartialEq, Debug)]
pub struct CostView {
    /// Instances, coordinator and storage.
    pub paid_usd: f64,
    /// Its instances: how long, for how much, and for how much on demand.
    pub instances: Sum,
    /// Instances that were paid for.
    pub instance_count: u64,
    /// Its part of the coordinator.
    pub coordinator_usd: f64,
    /// Its checkpoints, while it has not ended.
    pub storage_usd: f64,
    /// What it costs now.
    pub usd_per_hour: f64,
    /// What it may cost.
    pub budget_usd: Option<f64>,
    /// Updates applied.
    pub steps: u64,
    /// Instances taken from it.
    pub evictions: u32,
    /// Members that repeated a step, or stood still, because others were lost.
    pub repeating_usd: f64,
    /// Replacements, from their start until they became members.
    pub joining_usd: f64,
}

impl CostView {
    /// What the same instances would have cost more on demand.
    #[must_use]
    pub fn saved_usd(&self) -> f64 {
        self.instances.on_demand_usd - self.instances.paid_usd
    }

    /// Of an update; absent before the first.
    #[must_use]
    pub fn usd_per_step(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.paid_usd / self.steps as f64)
    }

    /// What an eviction has cost; absent before the first.
    #[must_use]
    pub fn usd_per_eviction(&self) -> Option<f64> {
        (self.evictions > 0).then(|| (self.repeating_usd + self.joining_usd) / f64::from(self.evictions))
    }
}

/// What a job has cost, instance by instance.
#[derive(Clone, PartialEq, Debug)]
pub struct CostReport {
    /// All in all.
    pub total: CostView,
    /// In the order of their start: those that run, and the newest of those that ended.
    pub instances: Vec<InstanceCost>,
    /// Ended ones that are not listed.
    pub unlisted: u64,
    /// What these cost.
    pub unlisted_sum: Sum,
}

/// What one instance has cost.
#[derive(Clone, PartialEq, Debug)]
pub struct InstanceCost {
    /// Which.
    pub instance: InstanceId,
    /// What ran on it.
    pub worker: WorkerId,
    /// From which pool, or place of a pool.
    pub pool: PoolName,
    /// Where it is.
    pub place: Place,
    /// On which terms.
    pub market: Market,
    /// As the provider named it, if it did.
    pub machine: Option<Machine>,
    /// Paid for from here on.
    pub start: Timestamp,
    /// Up to here; absent: it runs.
    pub end: Option<Timestamp>,
    /// So far.
    pub sum: Sum,
    /// It came in the place of one that was taken.
    pub replaces: bool,
    /// When it became a member of the group.
    pub joined: Option<Timestamp>,
    /// Its prices in order; when they moved very often, the newest.
    pub periods: Vec<PricePeriod>,
}

/// A time with one price.
#[derive(Clone, PartialEq, Debug)]
pub struct PricePeriod {
    /// From here.
    pub from: Timestamp,
    /// Up to here; absent: it goes on.
    pub to: Option<Timestamp>,
    /// At this price.
    pub price: Price,
}

/// `None`: the job never paid for anything.
pub(crate) fn summary(state: &State, now: Timestamp, job: &JobId) -> Option<CostView> {
    let paid = state.ledger().account(job).is_some_and(|account| !account.is_empty());
    paid.then(|| total(state, now, job))
}

/// `None`: there is no such job.
pub(crate) fn report(state: &State, now: Timestamp, job: &JobId) -> Option<CostReport> {
    state.job(job)?;
    let account = state.ledger().account(job);
    let instances = account.map_or_else(Vec::new, |account| account.bills());
    let (unlisted, unlisted_sum) = account.map(|account| account.dropped()).unwrap_or_default();
    Some(CostReport {
        total: total(state, now, job),
        instances: instances.into_iter().map(|bill| instance(bill, now)).collect(),
        unlisted,
        unlisted_sum,
    })
}

fn total(state: &State, now: Timestamp, job: &JobId) -> CostView {
    let (entry, submission) = state.job_of(job);
    let (shared, account) = (state.ledger().shared(), state.ledger().account(job));
    CostView {
        paid_usd: state.ledger().paid_usd(job, now),
        instances: account.map(|account| account.instances(now)).unwrap_or_default(),
        instance_count: account.map_or(0, |account| account.count()),
        coordinator_usd: account.map_or(0.0, |account| account.coordinator_usd(shared, now)),
        storage_usd: account.map_or(0.0, |account| account.stored.usd(now)),
        usd_per_hour: account.map_or(0.0, |account| account.usd_per_hour(shared)),
        budget_usd: submission.spec.policy.budget_usd,
        steps: entry.progress.step_max,
        evictions: entry.counters.evictions,
        repeating_usd: account.map_or(0.0, |account| account.evictions.repeating_usd()),
        joining_usd: account.map_or(0.0, |account| account.joining_usd(now)),
    }
}

fn instance(bill: &Bill, now: Timestamp) -> InstanceCost {
    InstanceCost {
        instance: bill.instance.clone(),
        worker: bill.worker.clone(),
        pool: bill.pool.clone(),
        place: bill.place.clone(),
        market: bill.market,
        machine: bill.machine.clone(),
        start: bill.start,
        end: bill.end,
        sum: bill.sum(now),
        replaces: bill.replaces,
        joined: bill.joined,
        periods: bill
            .periods()
            .map(|(period, to)| PricePeriod { from: period.from, to, price: period.price })
            .collect(),
    }
}
