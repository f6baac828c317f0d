//! Which numerics a job with `exact` numerics is computed with. They are chosen when the first group is about to
//! form: those that most of the attached workers have. From the first step on they stand for good, since other
//! kernels would give other bits; until then a pool that gives others only changes the choice.

use crate::decision::Reason;
use crate::ids::{JobId, Timestamp, WorkerId};
use crate::state::{Departure, Numerics, State, Worker};
use std::collections::BTreeMap;

fn of(worker: &Worker) -> Option<Numerics> {
    let hello = worker.hello.as_ref()?;
    Some(Numerics { fingerprint: hello.fingerprint.clone(), detail: hello.fingerprint_detail.clone() })
}

/// What most of these workers have; of two that are as frequent, what the earliest launched one has.
pub(crate) fn most_frequent(workers: &[&Worker]) -> Option<Numerics> {
    let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
    for numerics in workers.iter().filter_map(|worker| of(worker)) {
        *frequency.entry(numerics.fingerprint).or_insert(0) += 1;
    }
    let candidates = workers.iter().filter_map(|worker| Some((worker.number, of(worker)?)));
    let best = candidates
        .max_by_key(|(number, numerics)| (frequency.get(&numerics.fingerprint).copied(), std::cmp::Reverse(*number)));
    best.map(|(_, numerics)| numerics)
}

/// Chooses them, and sends home those that have others.
pub(crate) fn choose(state: &mut State, now: Timestamp, job: &JobId, chosen: Numerics) {
    state.set_numerics(job, Some(chosen.clone()));
    let team: Vec<(WorkerId, Numerics)> = state
        .team(job)
        .into_iter()
        .filter(|worker| worker.counts())
        .filter_map(|worker| Some((worker.id.clone(), of(worker)?)))
        .filter(|(_, numerics)| numerics.fingerprint != chosen.fingerprint)
        .collect();
    for (worker, found) in team {
        refuse(state, now, job, &worker, &chosen, found);
    }
}

/// A worker attached: one with other numerics than the job's goes home.
pub(crate) fn check(state: &mut State, now: Timestamp, job: &JobId, worker: &WorkerId) {
    let (entry, _) = state.job_of(job);
    let (Some(expected), Some(of_worker)) = (entry.numerics.clone(), state.worker(worker)) else { return };
    let Some(found) = of(of_worker) else { return };
    if !of_worker.counts() || entry.ended().is_some() {
        return;
    }
    if found.fingerprint != expected.fingerprint {
        return refuse(state, now, job, worker, &expected, found);
    }
    let pool = state.instance(&of_worker.instance).map(|instance| state.configured(&instance.pool));
    if let Some(pool) = pool {
        state.count_refusal(job, &pool, false);
    }
}

fn refuse(state: &mut State, now: Timestamp, job: &JobId, worker: &WorkerId, expected: &Numerics, found: Numerics) {
    let instance = state.worker(worker).and_then(|worker| state.instance(&worker.instance));
    let Some(pool) = instance.map(|instance| state.configured(&instance.pool)) else { return };
    let refused = state.count_refusal(job, &pool, true);
    let limit = state.settings.refusal_limit;
    if refused >= limit && state.job_of(job).0.generation.0 == 0 {
        state.clear_refusals(job);
        return choose(state, now, job, found);
    }
    state.depart(worker, Departure::OtherNumerics);
    let reason = Reason::RefuseNumerics {
        worker: worker.clone(),
        pool: pool.clone(),
        expected: expected.detail.clone(),
        found: found.detail,
    };
    state.decide(now, job, reason);
    if refused == limit {
        state.decide(now, job, Reason::StopBuying { pool, refused });
    }
}

/// Before the first group nothing was computed: when nobody is left with the chosen numerics, they are chosen anew.
pub(crate) fn forget(state: &mut State, job: &JobId) {
    let (entry, _) = state.job_of(job);
    let Some(chosen) = &entry.numerics else { return };
    let fits = |worker: &Worker| {
        worker.counts() && of(worker).is_some_and(|numerics| numerics.fingerprint == chosen.fingerprint)
    };
    if entry.generation.0 == 0 && !state.team(job).into_iter().any(fits) {
        state.set_numerics(job, None);
        state.clear_refusals(job);
    }
}
