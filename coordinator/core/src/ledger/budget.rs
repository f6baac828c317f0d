//! When a job must stop so that what it pays can't pass its budget: as soon as what is left would just cover saving and
//! leaving, with all of its instances paid for up to the last moment that they may take.

use super::bill::usd;
use crate::decision::Reason;
use crate::ids::{JobId, PoolName, Timestamp, WorkerId};
use crate::state::{Doom, Job, State};
use std::collections::BTreeSet;

/// What a job with a budget has paid, and what stopping it can cost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Outlook {
    pub(crate) budget_usd: f64,
    pub(crate) paid_usd: f64,
    /// What it pays now.
    pub(crate) usd_per_hour: f64,
    /// What it pays at most from the decision to stop until its last instance is gone.
    pub(crate) reserve_usd: f64,
}

impl Outlook {
    /// Why these stop.
    pub(crate) fn reason(self, workers: Vec<WorkerId>) -> Reason {
        let Self { budget_usd, paid_usd, usd_per_hour, reserve_usd } = self;
        Reason::KeepBudget { budget_usd, paid_usd, usd_per_hour, reserve_usd, workers }
    }

    /// It must stop now.
    fn reached(&self) -> bool {
        self.paid_usd + self.reserve_usd >= self.budget_usd
    }

    /// When it must if nothing else happens before. It may be too early by a little, never too late.
    fn reached_at(&self, now: Timestamp) -> Option<Timestamp> {
        let left_usd = self.budget_usd - self.reserve_usd - self.paid_usd;
        if left_usd <= 0.0 || self.usd_per_hour <= 0.0 {
            return None;
        }
        // More than a u64 holds becomes its most.
        let ms = (left_usd / self.usd_per_hour * 3_600_000.0) as u64;
        Some(now.plus_ms(ms.max(1)))
    }
}

/// What is left of the job's budget, if it has one, covers no more than saving and leaving; or without a group, no start.
pub(crate) fn must_stop(state: &State, now: Timestamp, job: &Job) -> bool {
    !affords(state, now, &job.id, start_usd_per_hour(state, job))
}

/// When it must if nothing else happens before.
pub(crate) fn stops_at(state: &State, now: Timestamp, job: &Job) -> Option<Timestamp> {
    outlook_with(state, now, &job.id, start_usd_per_hour(state, job))?.reached_at(now)
}

/// What a job without a group lacks to start, at the lowest price of its pools.
fn start_usd_per_hour(state: &State, job: &Job) -> f64 {
    let Some(submission) =
        state.submission(&job.id).filter(|submission| job.groupless() && submission.spec.policy.budget_usd.is_some())
    else {
        return 0.0;
    };
    let have = state.team(&job.id).iter().filter(|worker| worker.counts()).count();
    let lacking = (submission.workers_min() as usize).saturating_sub(have);
    let listed: BTreeSet<PoolName> = submission.pools().collect();
    let pools = state.pools().filter(|pool| listed.contains(&pool.spec.of) && submission.may_be_in(&pool.spec.place));
    let prices = pools.map(|pool| pool.spec.price.map_or(0.0, |price| price.usd_per_hour));
    lacking as f64 * prices.min_by(f64::total_cmp).unwrap_or(0.0)
}

/// Why a job fails that its budget covers no longer.
pub(crate) fn doom(state: &State, now: Timestamp, job: &Job) -> Doom {
    let budget_usd = state.submission(&job.id).and_then(|submission| submission.spec.policy.budget_usd);
    Doom::Budget { budget_usd: budget_usd.unwrap_or_default(), paid_usd: state.ledger().paid_usd(&job.id, now) }
}

/// `None`: the job has no budget.
pub(crate) fn outlook(state: &State, now: Timestamp, job: &JobId) -> Option<Outlook> {
    outlook_with(state, now, job, 0.0)
}

/// Whether the budget covers saving and leaving also when instances of so much an hour come on top.
pub(crate) fn affords(state: &State, now: Timestamp, job: &JobId, more_usd_per_hour: f64) -> bool {
    outlook_with(state, now, job, more_usd_per_hour).is_none_or(|outlook| !outlook.reached())
}

fn outlook_with(state: &State, now: Timestamp, job: &JobId, more_usd_per_hour: f64) -> Option<Outlook> {
    let budget_usd = state.submission(job)?.spec.policy.budget_usd?;
    let (ledger, settings) = (state.ledger(), &state.settings);
    let account = ledger.account(job);
    let shared = ledger.shared();
    let instances = account.map_or(0.0, |account| account.instances_usd_per_hour());
    let stored = account.map_or(0.0, |account| account.stored.usd_per_hour());
    // Others may end meanwhile and leave the whole coordinator to this job.
    let coordinator_most = settings.coordinator_usd_per_hour;
    let most = instances + stored + coordinator_most + not_up(state, job) + more_usd_per_hour;
    let stop_ms = settings.settle_ms.saturating_add(settings.stop_ms).saturating_add(settings.exit_grace_ms);
    Some(Outlook {
        budget_usd,
        paid_usd: ledger.paid_usd(job, now),
        usd_per_hour: instances + stored + shared.each_usd_per_hour(),
        reserve_usd: usd(stop_ms, most),
    })
}

/// What the instances will cost that were asked for and are not paid for yet.
fn not_up(state: &State, job: &JobId) -> f64 {
    let team = state.team(job);
    let asked = team.iter().filter_map(|worker| state.instance(&worker.instance));
    let unbilled = asked.filter(|instance| state.ledger().bill(job, &instance.id).is_none());
    let prices = unbilled.filter_map(|instance| state.pool(&instance.pool)?.spec.price);
    prices.map(|price| price.usd_per_hour).sum()
}
