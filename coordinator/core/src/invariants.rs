//! What must be true after every event, whatever happened.

use crate::corruption::Corruption;
use crate::ids::{Generation, WorkerId};
use crate::plan::spare;
use crate::state::{Group, Job, JobState, Standing, State, Submission, Worker};
use std::collections::{BTreeMap, BTreeSet};

/// # Panics
/// When something does not hold, naming it.
pub(crate) fn check(state: &State) {
    for (job, submission) in state.queue() {
        check_job(state, job, submission);
    }
    for worker in state.workers() {
        check_worker(state, worker);
    }
    for instance in state.instances() {
        let worker = state.worker(&instance.worker);
        assert!(worker.is_some_and(|worker| worker.instance == instance.id), "{} has no worker", instance.id);
        let known = state.job(&instance.job).is_some() && state.pool(&instance.pool).is_some();
        assert!(known, "{} is of no known job or pool", instance.id);
    }
    check_tally(state);
    state.ledger().check(|job, id| state.instance(id).is_some_and(|instance| instance.job == *job));
    assert!(state.gone().count() <= state.settings.gone_max, "too many workers that are gone are kept");
}

/// What is counted as it changes is what counting anew gives.
fn check_tally(state: &State) {
    let (mut in_use, mut staying, mut queues) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for instance in state.instances() {
        *in_use.entry(&instance.pool).or_insert(0) += 1;
    }
    for (job, submission) in state.queue() {
        for (pool, workers) in state.count(&job.id).pools {
            *staying.entry(pool).or_insert(0) += workers;
            *queues.entry(submission.queue()).or_insert(0) += workers;
        }
    }
    for pool in state.pools() {
        let name = &pool.spec.name;
        assert_eq!(pool.in_use, in_use.get(name).copied().unwrap_or(0), "instances in {name}");
        // After a restart jobs are counted with the first event.
        if state.marks.is_empty() {
            assert_eq!(pool.staying, staying.get(name).copied().unwrap_or(0), "workers in {name}");
        }
    }
    for (queue, workers) in queues.into_iter().filter(|_| state.marks.is_empty()) {
        assert_eq!(state.tally().queue(queue), workers, "workers of queue {queue}");
    }
}

fn check_job(state: &State, job: &Job, submission: &Submission) {
    let id = &job.id;
    let team = state.team(id);
    if let Some(group) = job.group() {
        check_group(state, job, group, submission);
    } else {
        let at_work: Vec<_> = team.iter().filter(|worker| worker.takes_part()).map(|worker| &worker.id).collect();
        assert!(at_work.is_empty(), "{id} has no group and {at_work:?} take part in it");
    }
    if job.ended().is_some() || matches!(job.state, JobState::Suspended { .. }) {
        for worker in &team {
            let terminating = state.instance(&worker.instance).is_some_and(|instance| instance.terminating());
            assert!(terminating, "{id} has ended and {} is not asked to end", worker.instance);
        }
    }
    let counted = team.iter().filter(|worker| worker.counts()).count();
    let max = submission.workers_max() as usize;
    let counts = |id: &WorkerId| team.iter().any(|worker| worker.id == *id && worker.counts());
    let on_top = team.iter().filter(|worker| worker.counts() && worker.replaces.as_ref().is_some_and(counts)).count();
    assert!(counted <= max + on_top, "{id} has {counted} workers, {on_top} to replace others, and takes {max}");
    let attached = team.iter().any(|worker| worker.counts() && worker.attached());
    match &job.state {
        JobState::Queued => assert!(counted == 0, "{id} is queued and has {counted} workers"),
        JobState::Provisioning => assert!(counted > 0 && !attached, "{id} is provisioning and a worker is attached"),
        JobState::Rendezvous { .. } => assert!(attached, "{id} is at its rendezvous and nobody is attached"),
        JobState::Recovering { first_attached, .. } => {
            assert_eq!(first_attached.is_some(), attached, "{id} recovers and mistakes who is attached");
        }
        _ => {}
    }
    let kept = state.decisions(id).count();
    assert!(kept <= state.settings.decisions_max, "{id} keeps {kept} decisions");
    let numbers: Vec<u64> = state.decisions(id).map(|decision| decision.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{id} lacks a decision");
    assert!(job.checkpoints.len() <= state.settings.checkpoints_max, "{id} lists too many checkpoints");
    check_corruptions(state, job);
}

fn check_corruptions(state: &State, job: &Job) {
    let (id, corruptions) = (&job.id, &job.corruptions);
    assert!(corruptions.len() <= state.settings.corruptions_max, "{id} lists too many corruptions");
    assert_eq!(
        corruptions.last().map_or(0, |newest| newest.number),
        job.counters.rollbacks,
        "{id}: the newest is lacking"
    );
    assert!(corruptions.windows(2).all(|pair| pair[0].number + 1 == pair[1].number), "{id} lacks a corruption");
    for (at, corruption) in corruptions.iter().enumerate() {
        let Corruption { number, differing, quarantined, open, .. } = corruption;
        let told = quarantined.iter().all(|worker| differing.digests.contains_key(worker));
        assert!(told, "{id}, corruption {number}: one of {quarantined:?} told nothing");
        let all = quarantined.len() == differing.digests.len();
        assert!(!all || differing.right.is_some(), "{id}, corruption {number}: all are blamed by nobody");
        let undecided = quarantined.is_empty() && differing.right.is_none();
        let may_be_open = undecided && at + 1 == corruptions.len();
        assert!(!open || may_be_open, "{id}, corruption {number}: open and decided");
        for worker in quarantined.iter().filter_map(|worker| state.worker(worker)) {
            let out = worker.is_lost() || worker.is_done() || worker.job != *id;
            assert!(out, "{id}, corruption {number}: {} is in quarantine and in use", worker.id);
        }
    }
}

fn check_group(state: &State, job: &Job, group: &Group, submission: &Submission) {
    let (id, generation) = (&job.id, group.generation);
    assert_eq!(generation, job.generation, "{id}: the group is not of the newest generation");
    assert!(group.oldest_live <= generation, "{id}: generation {generation} is older than what it replaces");
    assert!(!group.effective || group.oldest_live == generation, "{id}: {generation} trains and an older one too");
    assert!(generation > Generation::default(), "{id}: generation 0 is no group");
    assert!(group.broken.is_none(), "{id}: generation {generation} is broken and was left so");
    let stopping = matches!(job.state, JobState::Stopping { .. });
    assert_eq!(group.members.is_empty(), stopping, "{id}: members {:?}", group.members);
    let mut next_shard = 0;
    for member in &group.members {
        assert_eq!(member.first_shard, next_shard, "{id}: shards of {} don't follow", member.worker);
        assert!(member.end_shard > member.first_shard, "{id}: {} has no shard", member.worker);
        next_shard = member.end_shard;
        let worker = state.worker(&member.worker);
        let stands = worker.is_some_and(|worker| worker.standing == Standing::Member && worker.job == *id);
        assert!(stands, "{id}: {} is in generation {generation} and does not stand as a member", member.worker);
    }
    let shards = submission.spec.train.logical_shards;
    assert!(stopping || next_shard == shards, "{id}: {next_shard} of {shards} shards are owned");
    let distinct: BTreeSet<_> = group.members.iter().map(|member| &member.worker).collect();
    assert_eq!(distinct.len(), group.members.len(), "{id}: a worker is twice in generation {generation}");
    for worker in state.team(id) {
        if worker.standing == Standing::Member {
            assert!(group.has(&worker.id), "{id}: {} stands as a member and is in no generation", worker.id);
        }
    }
}

fn check_worker(state: &State, worker: &Worker) {
    let id = &worker.id;
    let instance = state.instance(&worker.instance);
    assert!(instance.is_some_and(|instance| instance.worker == *id), "{id} has no instance");
    let over = matches!(worker.standing, Standing::Done | Standing::Lost { .. });
    let terminating = instance.is_some_and(|instance| instance.terminating());
    assert!(!over || terminating, "{id} is done and its instance is not asked to end");
    let attached_once = worker.hello.is_some() || matches!(worker.standing, Standing::Waiting) || over;
    assert!(attached_once, "{id} stands as {:?} and never attached", worker.standing);
    if let Standing::Joining { donor } = &worker.standing {
        let (job, _) = state.job_of(&worker.job);
        assert!(job.group().is_some(), "{id} fetches the state from {donor} and there is no group");
    }
    let (job, _) = state.job_of(&worker.job);
    let spare = spare(job, worker);
    assert!(spare || worker.standing != Standing::Aside, "{id} stands aside and nobody needs what it holds");
    let out_of_group = worker.departure.is_none() || over || worker.takes_part() || spare;
    assert!(out_of_group, "{id} is to leave, is in no group, and was not sent home");
}
