//! What people ask for.

use crate::action::Action;
use crate::decision::Reason;
use crate::ids::{JobId, Timestamp, WorkerId};
use crate::rejection::Rejection;
use crate::state::{Departure, JobState, Standing, State, Wish};
use trainctl_jobs::JobSpec;

pub(super) fn submit(
    state: &mut State,
    now: Timestamp,
    job: &JobId,
    spec: JobSpec,
    manifest_json: String,
) -> Result<(), Rejection> {
    if !state.may_submit(job, &spec) {
        return Err(Rejection::JobExists(job.clone()));
    }
    let ahead = state.jobs().filter(|job| job.ended().is_none()).count();
    if state.job(job).is_some() {
        let budget_usd = spec.policy.budget_usd;
        state.reopen(now, job, spec, manifest_json);
        let paid_usd = state.ledger().paid_usd(job, now);
        state.decide(now, job, Reason::RaiseBudget { budget_usd, paid_usd });
    } else {
        state.submit(now, job, spec, manifest_json);
    }
    state.decide(now, job, Reason::Queue { ahead: u32::try_from(ahead).unwrap_or(u32::MAX) });
    if state.suspending() {
        state.wish(job, Wish::Suspend);
    }
    Ok(())
}

pub(super) fn cancel(state: &mut State, job: &JobId) -> Result<(), Rejection> {
    let entry = state.job(job).ok_or_else(|| Rejection::UnknownJob(job.clone()))?;
    if entry.ended().is_some() {
        return Err(Rejection::JobEnded(job.clone()));
    }
    state.wish(job, Wish::Cancel);
    Ok(())
}

/// A job that is to be cancelled stays so.
pub(super) fn suspend(state: &mut State) {
    state.stop_buying_for_good();
    let active = state
        .jobs()
        .filter(|job| job.ended().is_none() && job.wish.is_none() && !matches!(job.state, JobState::Suspended { .. }));
    let active: Vec<JobId> = active.map(|job| job.id.clone()).collect();
    for job in active {
        state.wish(&job, Wish::Suspend);
    }
}

pub(super) fn drain(state: &mut State, worker: &WorkerId) -> Result<(), Rejection> {
    let entry = state.worker(worker).ok_or_else(|| Rejection::UnknownWorker(worker.clone()))?;
    if matches!(entry.standing, Standing::Done | Standing::Lost { .. }) {
        return Err(Rejection::WorkerLeaving(worker.clone()));
    }
    if entry.departure.is_none() {
        state.depart(worker, Departure::Drain);
    }
    Ok(())
}

pub(super) fn evict(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    notice_ms: u64,
    out: &mut Vec<Action>,
) -> Result<(), Rejection> {
    let entry = state.worker(worker).ok_or_else(|| Rejection::UnknownWorker(worker.clone()))?;
    if matches!(entry.standing, Standing::Done | Standing::Lost { .. }) {
        return Err(Rejection::WorkerLeaving(worker.clone()));
    }
    let (job, instance) = (entry.job.clone(), entry.instance.clone());
    state.decide(now, &job, Reason::Drill { worker: worker.clone(), notice_ms });
    out.push(Action::Evict { instance, notice_ms });
    Ok(())
}
