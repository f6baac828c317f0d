//! What providers say of instances.

use crate::action::Action;
use crate::decision::Reason;
use crate::event::{DownCause, LaunchError, LaunchErrorKind, Machine, PoolSpec, Price};
use crate::ids::{InstanceId, PoolName, ProviderName, Timestamp};
use crate::numerics;
use crate::rejection::Rejection;
use crate::state::{Departure, Gone, InstanceState, LossCause, Reach, Standing, State};
use std::collections::BTreeMap;

pub(super) fn up(
    state: &mut State,
    now: Timestamp,
    instance: &InstanceId,
    (pid, machine): (Option<u32>, Option<&Machine>),
    out: &mut Vec<Action>,
) -> Result<(), Rejection> {
    let Some(entry) = state.instance(instance) else {
        out.push(Action::Terminate { instance: instance.clone(), grace_ms: 0 });
        return Err(Rejection::UnknownInstance(instance.clone()));
    };
    let pool = entry.pool.clone();
    state.pay(now, instance, true, machine);
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
    let Some(entry) = state.instance(instance) else {
        return Err(Rejection::UnknownInstance(instance.clone()));
    };
    let pool = entry.pool.clone();
    gone(state, now, instance, cause);
    state.return_quota(&pool);
    Ok(())
}

/// A pool as it is now; what its instances cost follows it.
pub(super) fn pool(state: &mut State, now: Timestamp, pool: PoolSpec) -> Result<(), Rejection> {
    if pool.price.is_some_and(|price| !price.is_sound()) {
        return Err(Rejection::NoPrice { of: pool.name.to_string() });
    }
    let (name, price) = (pool.name.clone(), pool.price);
    let before = state.pool(&name).and_then(|pool| pool.spec.price);
    state.announce_pool(pool);
    if price != before {
        state.follow_pool(now, &name);
    }
    Ok(())
}

/// What an instance costs has moved.
pub(super) fn price_moved(
    state: &mut State,
    now: Timestamp,
    instance: &InstanceId,
    price: Price,
) -> Result<(), Rejection> {
    if state.instance(instance).is_none() {
        return Err(Rejection::UnknownInstance(instance.clone()));
    }
    if !price.is_sound() {
        return Err(Rejection::NoPrice { of: instance.to_string() });
    }
    state.move_price(now, instance, price);
    Ok(())
}

/// Takes the instance out and counts its end.
fn gone(state: &mut State, now: Timestamp, instance: &InstanceId, cause: &DownCause) {
    let gone = state.down(now, instance, cause);
    state.stop_paying(now, &gone.instance);
    let job = gone.worker.job.clone();
    count_taken(state, now, &gone);
    if died_by_itself(state, &gone) {
        state.count_death(now, &gone.instance, last_words(&gone));
    }
    numerics::forget(state, &job);
}

/// What was at work and isn't there any more when the coordinator looks again was killed while nobody looked.
fn count_taken(state: &mut State, now: Timestamp, gone: &Gone) {
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
        state.count_pool_eviction(now, &gone.instance.pool);
    }
}

/// Neither taken nor sent home: it died, whoever noticed first.
fn died_by_itself(state: &State, gone: &Gone) -> bool {
    let quarantined = matches!(gone.worker.standing, Standing::Lost { cause: LossCause::Corrupt { .. } });
    let planned = gone.worker.is_done() || gone.worker.departure.is_some() || gone.instance.taken || quarantined;
    let job_over = state.job(&gone.worker.job).is_none_or(|job| job.ended().is_some() || job.wish.is_some());
    let died = match gone.cause {
        DownCause::Exited(_) | DownCause::Killed(_) => true,
        DownCause::Terminated => gone.worker.is_lost(),
        DownCause::Evicted | DownCause::Vanished => false,
    };
    died && !planned && !gone.worker.left_well(&gone.cause) && !job_over
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
    let gone = state.down(now, instance, &DownCause::Vanished);
    state.stop_paying(now, &gone.instance);
    let Some(spec) = state.pool(&pool).map(|pool| pool.spec.clone()) else { return Ok(()) };
    let reach = Reach::of(&spec, error.scope);
    match error.kind {
        LaunchErrorKind::NoCapacity | LaunchErrorKind::Quota | LaunchErrorKind::Price | LaunchErrorKind::Transient => {
            // Others that were asked at the same time say the same.
            if state.resting(&spec, now).is_none() {
                let (failures, wait_ms) = state.rest(now, reach.clone(), error.kind);
                let (reach, error) = (Some(reach), Some(error));
                state.decide(now, &job, Reason::BackOff { pool, wait_ms, failures, reach, error });
            }
        }
        LaunchErrorKind::Configuration => {
            if state.reject(now, &job, &pool, &error) {
                state.decide(now, &job, Reason::Reject { pool, reach, message: error.message });
            }
        }
    }
    Ok(())
}

/// The provider and the worker itself may both say so, each with its own guess of the deadline: the earlier holds.
pub(super) fn notice(
    state: &mut State,
    now: Timestamp,
    instance: &InstanceId,
    deadline: Timestamp,
) -> Result<(), Rejection> {
    let entry = state.instance(instance).ok_or_else(|| Rejection::UnknownInstance(instance.clone()))?;
    if entry.terminating() {
        return Ok(());
    }
    let (worker, job, pool) = (entry.worker.clone(), entry.job.clone(), entry.pool.clone());
    if state.taken(instance) {
        state.count_eviction(&job);
        state.count_pool_eviction(now, &pool);
    }
    let known = state.worker(&worker).and_then(|worker| worker.departure.clone());
    let deadline = match known {
        Some(Departure::Notice { deadline: known }) => known.min(deadline),
        _ => deadline,
    };
    state.depart(&worker, Departure::Notice { deadline });
    Ok(())
}

/// What is at risk is replaced before it goes; a notice may still come first.
pub(super) fn rebalance(state: &mut State, instance: &InstanceId) -> Result<(), Rejection> {
    let entry = state.instance(instance).ok_or_else(|| Rejection::UnknownInstance(instance.clone()))?;
    let worker = entry.worker.clone();
    if !entry.terminating() && state.worker(&worker).is_some_and(|worker| worker.counts() && !worker.at_risk) {
        state.risk(&worker);
    }
    Ok(())
}

/// After a restart. Launching an instance that is listed would start nothing new, so one that isn't is launched
/// again: nobody knows whether the first call got through.
pub(super) fn listed(
    state: &mut State,
    now: Timestamp,
    provider: ProviderName,
    instances: &[(InstanceId, Option<u32>)],
    out: &mut Vec<Action>,
) {
    let listed: BTreeMap<&InstanceId, Option<u32>> = instances.iter().map(|(id, pid)| (id, *pid)).collect();
    for id in listed.keys() {
        if state.instance(id).is_none() {
            out.push(Action::Terminate { instance: (*id).clone(), grace_ms: 0 });
        }
    }
    // An instance whose pool was never announced again can be anybody's.
    let of_provider = |pool: &PoolName| state.pool(pool).is_none_or(|pool| pool.spec.place.provider == provider);
    let known = state.instances().filter(|instance| of_provider(&instance.pool));
    let known: Vec<(InstanceId, InstanceState)> = known.map(|instance| (instance.id.clone(), instance.state)).collect();
    for (id, known) in known {
        match (known, listed.get(&id)) {
            (InstanceState::Terminating { .. }, Some(_)) => {
                state.pay(now, &id, false, None);
                state.terminating(&id, now);
            }
            (InstanceState::Terminating { .. }, None) => gone(state, now, &id, &DownCause::Terminated),
            (_, Some(pid)) => {
                state.pay(now, &id, false, None);
                state.up(&id, *pid);
            }
            (InstanceState::Launching, None) => launch_again(state, now, &id, out),
            (InstanceState::Up, None) => state.unlisted(&id),
        }
    }
    state.reconcile(provider);
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
        generation: state.job_of(&instance.job).0.generation,
    });
}
