//! What providers say of instances.

use crate::action::Action;
use crate::decision::Reason;
use crate::event::{DownCause, LaunchError};
use crate::ids::{InstanceId, Timestamp};
use crate::numerics;
use crate::rejection::Rejection;
use crate::state::{Departure, Doom, Gone, InstanceState, LossCause, Standing, State};
use std::collections::BTreeMap;

pub(super) fn up(
    state: &mut State,
    instance: &InstanceId,
    pid: Option<u32>,
    out: &mut Vec<Action>,
) -> Result<(), Rejection> {
    let Some(entry) = state.instance(instance) else {
        out.push(Action::Terminate { instance: instance.clone(), grace_ms: 0 });
        return Err(Rejection::UnknownInstance(instance.clone()));
    };
    let pool = entry.pool.clone();
    state.up(instance, pid);
    state.trust_pool(&pool);
    Ok(())
}

pub(super) fn down(
    state: &mut State,
    now: Timestamp,
    instance: &InstanceId,
    cause: &DownCause,
) -> Result<(), Rejection> {
    if state.instance(instance).is_none() {
        return Err(Rejection::UnknownInstance(instance.clone()));
    }
    gone(state, now, instance, cause);
    Ok(())
}

/// Takes the instance out and counts its end.
fn gone(state: &mut State, now: Timestamp, instance: &InstanceId, cause: &DownCause) {
    let gone = state.down(instance, cause);
    let job = gone.worker.job.clone();
    count_taken(state, &gone);
    if died_by_itself(state, &gone) {
        state.count_death(now, &gone.instance, last_words(&gone));
    }
    numerics::forget(state, &job);
}

/// What was at work and isn't there any more when the coordinator looks again was killed while nobody looked.
fn count_taken(state: &mut State, gone: &Gone) {
    let evicted = gone.cause == DownCause::Evicted;
    let job_over = state.job(&gone.worker.job).is_none_or(|job| job.ended().is_some());
    let killed = !gone.worker.is_done()
        && match gone.cause {
            DownCause::Killed(_) => true,
            DownCause::Vanished => gone.worker.hello.is_some() && !job_over,
            DownCause::Exited(_) | DownCause::Evicted | DownCause::Terminated => false,
        };
    if gone.instance.taken || !(evicted || killed) {
        return;
    }
    state.count_eviction(&gone.worker.job);
    if evicted {
        state.count_pool_eviction(&gone.instance.pool);
    }
}

/// Neither taken nor sent home: it died, whoever noticed first.
fn died_by_itself(state: &State, gone: &Gone) -> bool {
    let quarantined = matches!(gone.worker.standing, Standing::Lost { cause: LossCause::Corrupt { .. } });
    let planned = gone.worker.is_done() || gone.worker.departure.is_some() || gone.instance.taken || quarantined;
    let left = matches!(gone.worker.standing, Standing::Leaving { .. }) && gone.cause == DownCause::Exited(0);
    let job_over = state.job(&gone.worker.job).is_none_or(|job| job.ended().is_some() || job.wish.is_some());
    let died = match gone.cause {
        DownCause::Exited(_) | DownCause::Killed(_) => true,
        DownCause::Terminated => gone.worker.is_lost(),
        DownCause::Evicted | DownCause::Vanished => false,
    };
    died && !planned && !left && !job_over
}

fn last_words(gone: &Gone) -> String {
    let mut words = match &gone.worker.standing {
        Standing::Lost { cause } if gone.cause == DownCause::Terminated => cause.words(&gone.worker.id),
        _ => format!("{} {}", gone.worker.id, gone.cause.words()),
    };
    for said in [&gone.worker.failure, &gone.worker.last_lines].into_iter().flatten() {
        if !words.contains(said.as_str()) {
            words = format!("{words}: {said}");
        }
    }
    words
}

pub(super) fn launch_failed(
    state: &mut State,
    now: Timestamp,
    instance: &InstanceId,
    error: LaunchError,
) -> Result<(), Rejection> {
    let entry = state.instance(instance).ok_or_else(|| Rejection::UnknownInstance(instance.clone()))?;
    if entry.state == InstanceState::Up {
        return Err(Rejection::NotLaunching(instance.clone()));
    }
    let (job, pool) = (entry.job.clone(), entry.pool.clone());
    state.down(instance, &DownCause::Vanished);
    match error {
        LaunchError::NoCapacity => {
            let rested = state.pool(&pool).is_some_and(|pool| pool.resting(now));
            if !rested {
                let (failures, wait_ms) = state.rest_pool(now, &pool);
                state.decide(now, &job, Reason::BackOff { pool, wait_ms, failures });
            }
        }
        LaunchError::Rejected(reason) => state.doom(&job, Doom::LaunchRejected { pool, reason }),
    }
    Ok(())
}

/// The provider and the worker itself may both say so, each with its own guess of the deadline: the earlier holds.
pub(super) fn notice(state: &mut State, instance: &InstanceId, deadline: Timestamp) -> Result<(), Rejection> {
    let entry = state.instance(instance).ok_or_else(|| Rejection::UnknownInstance(instance.clone()))?;
    if entry.terminating() {
        return Ok(());
    }
    let (worker, job, pool) = (entry.worker.clone(), entry.job.clone(), entry.pool.clone());
    if state.taken(instance) {
        state.count_eviction(&job);
        state.count_pool_eviction(&pool);
    }
    let known = state.worker(&worker).and_then(|worker| worker.departure.clone());
    let deadline = match known {
        Some(Departure::Notice { deadline: known }) => known.min(deadline),
        _ => deadline,
    };
    state.depart(&worker, Departure::Notice { deadline });
    Ok(())
}

/// After a restart. Launching an instance that is listed would start nothing new, so one that isn't is launched
/// again: nobody knows whether the first call got through.
pub(super) fn listed(
    state: &mut State,
    now: Timestamp,
    instances: &[(InstanceId, Option<u32>)],
    out: &mut Vec<Action>,
) {
    let listed: BTreeMap<&InstanceId, Option<u32>> = instances.iter().map(|(id, pid)| (id, *pid)).collect();
    for id in listed.keys() {
        if state.instance(id).is_none() {
            out.push(Action::Terminate { instance: (*id).clone(), grace_ms: 0 });
        }
    }
    let known: Vec<(InstanceId, InstanceState)> =
        state.instances().map(|instance| (instance.id.clone(), instance.state)).collect();
    for (id, known) in known {
        match (known, listed.get(&id)) {
            (InstanceState::Terminating { .. }, Some(_)) => state.terminating(&id, now),
            (InstanceState::Terminating { .. }, None) => gone(state, now, &id, &DownCause::Terminated),
            (_, Some(pid)) => state.up(&id, *pid),
            (InstanceState::Launching, None) => launch_again(state, now, &id, out),
            (InstanceState::Up, None) => state.unlisted(&id),
        }
    }
    state.reconcile();
}

fn launch_again(state: &mut State, now: Timestamp, id: &InstanceId, out: &mut Vec<Action>) {
    let Some(instance) = state.instance(id) else { return };
    let wanted = state.job(&instance.job).is_some_and(|job| job.hungry())
        && state.worker(&instance.worker).is_some_and(|worker| worker.counts());
    if !wanted || state.suspending() {
        gone(state, now, id, &DownCause::Vanished);
        return;
    }
    out.push(Action::Launch {
        instance: id.clone(),
        worker: instance.worker.clone(),
        pool: instance.pool.clone(),
        job: instance.job.clone(),
    });
}
