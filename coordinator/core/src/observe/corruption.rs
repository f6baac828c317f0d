//! What workers say of states that differ, and of saves and of NCCL that don't work.

use super::workers::{Timeliness, known, live, stale, timeliness};
use crate::corruption::{Differing, NcclFailure, SaveFailure, Subject};
use crate::decision::Reason;
use crate::ids::{Generation, JobId, Timestamp, WorkerId};
use crate::rejection::Rejection;
use crate::state::{Doom, Job, LossCause, State};

/// All members say it, the first that is heard counts: after that their generation is over. They have dropped their
/// states, so a new group begins at the last agreement. When their generation ended otherwise in the same round, it is
/// news all the same: what went on may hold a wrong state.
pub(super) fn corrupt(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    generation: Generation,
    differing: Differing,
) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    let shards = state.job_of(&job).1.spec.train.logical_shards;
    let possible = differing.is_real() && differing.shard.is_none_or(|shard| shard < shards);
    if !possible || !differing.digests.keys().all(|member| state.ever_launched(member)) {
        return Err(Rejection::OutOfPlace { worker: worker.clone(), message: "states that differ" });
    }
    if let Timeliness::Over = timeliness(state, entry, generation)?
        && !is_news(state.job_of(&job).0, &differing)
    {
        return stale(state, &job, worker, "states that differ");
    }
    let verdict = differing.verdict().map(|(right, blamed)| (right.to_owned(), blamed));
    let blamed = verdict.as_ref().map_or_else(Vec::new, |(_, blamed)| blamed.clone());
    let in_a_row = state.roll_back(now, &job, differing.clone(), blamed.clone());
    state.break_group(&job, worker, differing.brief());
    state.decide(now, &job, Reason::RollBack { differing: differing.clone(), quarantined: blamed });
    if in_a_row > state.settings.rollback_limit {
        state.doom(&job, Doom::Corruption { differing, repetitions: in_a_row - 1 });
    } else if let Some((right, blamed)) = verdict {
        quarantine(state, now, &job, &differing, &blamed, &right);
    }
    Ok(())
}

/// Nobody said it yet, and there is a group that it may concern.
fn is_news(job: &Job, differing: &Differing) -> bool {
    job.group().is_some() && job.corruptions.iter().all(|known| known.differing != *differing)
}

/// What was disputed was computed again, and the members agree.
pub(super) fn settled(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    generation: Generation,
    (step, subject): (u64, Subject),
    digest: &str,
) -> Result<(), Rejection> {
    let job = live(state, worker, generation, "states that agree again")?;
    let newest = state.job_of(&job).0.corruptions.last();
    let disputed = newest.filter(|corruption| {
        corruption.open && (corruption.differing.step, corruption.differing.subject) == (step, subject)
    });
    // Nothing is open when a majority had decided, or another member said it before.
    let Some(differing) = disputed.map(|corruption| corruption.differing.clone()) else { return Ok(()) };
    let blamed = differing.others_than(digest);
    state.settle(&job, blamed.clone());
    state.decide(now, &job, Reason::Settle { step, digest: digest.to_owned(), quarantined: blamed.clone() });
    quarantine(state, now, &job, &differing, &blamed, digest);
    Ok(())
}

/// Its instance is never used again; a pool that gave several such is not bought from any more.
fn quarantine(state: &mut State, now: Timestamp, job: &JobId, differing: &Differing, blamed: &[WorkerId], right: &str) {
    let limit = state.settings.quarantine_limit;
    for worker in blamed {
        let Some(entry) = state.worker(worker).filter(|worker| worker.job == *job) else { continue };
        let pool = state.instance(&entry.instance).map(|instance| state.configured(&instance.pool));
        let found = differing.digests.get(worker).cloned().unwrap_or_default();
        let (step, shard, expected) = (differing.step, differing.shard, right.to_owned());
        state.lose(worker, LossCause::Corrupt { step, shard, found, expected });
        if let Some(pool) = pool {
            let quarantined = state.count_quarantine(job, &pool);
            if quarantined == limit {
                state.decide(now, job, Reason::Distrust { pool, quarantined });
            }
        }
    }
}

/// Said by each worker whose part did not get written; the first since the last checkpoint is a decision's worth.
pub(super) fn save_failed(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    step: u64,
    reason: String,
) -> Result<(), Rejection> {
    let job = known(state, worker)?.job.clone();
    let failure = SaveFailure { step, worker: worker.clone(), reason, at: now };
    if state.job_of(&job).0.save_failure.is_none() {
        let SaveFailure { worker, reason, .. } = failure.clone();
        state.decide(now, &job, Reason::SaveFailed { worker, step, reason });
    }
    state.save_failed(&job, failure);
    Ok(())
}

/// Said in each generation by every member that can't. As long as one of them is there nothing is decided anew.
pub(super) fn nccl_failed(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    generation: Generation,
    reason: String,
) -> Result<(), Rejection> {
    let job = live(state, worker, generation, "a member without NCCL")?;
    let failures = state.job_of(&job).0.without_nccl();
    if failures.iter().any(|failure| (&failure.worker, &failure.reason) == (worker, &reason)) {
        return Ok(());
    }
    if failures.iter().all(|failure| failure.worker == *worker) {
        state.decide(now, &job, Reason::NcclFailed { worker: worker.clone(), reason: reason.clone() });
    }
    state.nccl_failed(&job, NcclFailure { worker: worker.clone(), reason, at: now });
    Ok(())
}
