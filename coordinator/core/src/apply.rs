//! Does what was planned: changes the state, says so to workers and providers, and records the decision.

use crate::action::{Action, Member, ToWorker};
use crate::decision::{DismissCause, Reason};
use crate::ids::{InstanceId, JobId, Timestamp, WorkerId};
use crate::ledger;
use crate::membership;
use crate::numerics;
use crate::plan::{Choice, Outcome, Purchase};
use crate::shares;
use crate::state::transitions::Assignment;
use crate::state::{JobState, Origin, Standing, State, StopPurpose};

/// Applies one choice.
pub(crate) fn apply(state: &mut State, now: Timestamp, choice: Choice, out: &mut Vec<Action>) {
    match choice {
        Choice::Lose { worker, cause } => {
            let job = job_of(state, &worker);
            state.lose(&worker, cause.clone());
            state.decide(now, &job, Reason::GiveUp { worker, cause });
        }
        Choice::ChooseNumerics { job, numerics } => {
            numerics::choose(state, now, &job, numerics);
        }
        Choice::FormGroup { job, workers, missing, waited_ms, held } => {
            let recovery = state.job_of(&job).0.generation.0 > 0;
            let origin = match (held, recovery) {
                (true, _) => Origin::Change,
                (false, true) => Origin::Recovery,
                (false, false) => Origin::Start,
            };
            let reason = Reason::FormGroup { workers: workers.clone(), missing, waited_ms, recovery, held };
            assign(state, now, &job, &workers, Handing { immediate: true, origin, reason }, out);
        }
        Choice::Regroup { job, workers, lost, why } => {
            let origin = origin_after(state, &job);
            let world_size = size(&workers);
            let reason = Reason::GoOnWithout { workers: lost, why, world_size };
            assign(state, now, &job, &workers, Handing { immediate: true, origin, reason }, out);
        }
        Choice::Change { job, workers, leaving, added } => {
            let origin = origin_after(state, &job);
            let world_size = size(&workers);
            let reason = match leaving.is_empty() {
                true => Reason::AddMembers { workers: added, world_size },
                false => Reason::Drain { workers: leaving, added, world_size },
            };
            assign(state, now, &job, &workers, Handing { immediate: false, origin, reason }, out);
        }
        Choice::MoveShards { job, workers, counts, moves, seconds, before, after } => {
            let origin = origin_after(state, &job);
            let reason = Reason::MoveShards { moves, seconds, before_seconds: before, after_seconds: after };
            let members = membership::members(order(state, &workers), &counts);
            state.moved_shards(now, &job);
            hand_out(state, now, &job, members, None, Handing { immediate: false, origin, reason }, out);
        }
        Choice::Stop { job, purpose } => stop(state, now, &job, purpose, out),
        Choice::Recover { job, why, saved } => {
            state.recover(&job, why.clone());
            let reason = Reason::Recover { why, saved };
            if reason.is_loss() {
                state.charge_loss(&job);
            }
            state.decide(now, &job, reason);
        }
        Choice::Join { worker, donor, instead_of } => join(state, now, worker, donor, instead_of, out),
        Choice::End { job, outcome } => end(state, now, &job, outcome),
        Choice::Dismiss { worker, cause } => dismiss(state, now, &worker, cause, out),
        Choice::Terminate { instance, grace_ms } => terminate(state, now, instance, grace_ms, out),
        Choice::Launch(purchase) => launch(state, now, *purchase, out),
        Choice::Note { job, shortage } => {
            if let Some(shortage) = shortage.clone() {
                state.decide(now, &job, Reason::Wait { shortage });
            }
            state.set_shortage(&job, shortage);
        }
        Choice::Depart { worker, departure } => state.depart(&worker, departure),
        Choice::Hurry { job, hurried, outlook } => {
            state.set_hurried(&job, hurried);
            let reason = if hurried { Reason::Hurry { outlook } } else { Reason::Relax { outlook } };
            state.decide(now, &job, reason);
        }
    }
}

fn launch(state: &mut State, now: Timestamp, purchase: Purchase, out: &mut Vec<Action>) {
    let Purchase { job, pool, have, want, free, passed_over, cause, terms, replaces } = purchase;
    let (instance, worker) = state.launch(now, &job, &pool, replaces);
    out.push(Action::Launch {
        instance: instance.clone(),
        worker: worker.clone(),
        pool: pool.clone(),
        job: job.clone(),
        generation: state.job_of(&job).0.generation,
    });
    let reason = Reason::Launch { worker, instance, pool, have, want, free, passed_over, cause, terms };
    state.decide(now, &job, reason);
}

/// How a generation is handed out.
struct Handing {
    immediate: bool,
    origin: Origin,
    reason: Reason,
}

fn job_of(state: &State, worker: &WorkerId) -> JobId {
    state.worker(worker).map_or_else(|| panic!("worker {worker} is not known"), |worker| worker.job.clone())
}

fn size(workers: &[WorkerId]) -> u32 {
    u32::try_from(workers.len()).unwrap_or(u32::MAX)
}

/// A group that has not trained yet passes on where its state comes from; one whose states differed has none.
fn origin_after(state: &State, job: &JobId) -> Origin {
    match state.job_of(job).0.group() {
        Some(group) if group.rollbacks < state.job_of(job).0.counters.rollbacks => Origin::Recovery,
        Some(group) if !group.effective => group.origin,
        _ => Origin::Change,
    }
}

fn assign(
    state: &mut State,
    now: Timestamp,
    job: &JobId,
    workers: &[WorkerId],
    handing: Handing,
    out: &mut Vec<Action>,
) {
    let counts = first_counts(state, now, job, workers);
    let members = membership::members(order(state, workers), &counts);
    hand_out(state, now, job, members, None, handing, out);
}

/// Workers with their addresses.
fn order(state: &State, workers: &[WorkerId]) -> Vec<(WorkerId, String)> {
    let address = |worker: &WorkerId| state.worker(worker).map_or("", |worker| worker.address()).to_owned();
    workers.iter().map(|worker| (worker.clone(), address(worker))).collect()
}

/// A new group starts even, unless what is known of its members says that it pays to start otherwise. Whoever was
/// not measured yet is taken to be like most: the lower median of those who were.
fn first_counts(state: &State, now: Timestamp, job: &JobId, workers: &[WorkerId]) -> Vec<u32> {
    let (_, submission) = state.job_of(job);
    let even = shares::even(workers.len(), submission.spec.train.logical_shards);
    let known = |worker: &WorkerId| state.worker(worker)?.speed.known(now, state.settings.speed_known_ms);
    let known: Vec<Option<f64>> = workers.iter().map(known).collect();
    let mut sorted: Vec<f64> = known.iter().copied().flatten().collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() || !submission.by_speed() {
        return even;
    }
    let usual = sorted[(sorted.len() - 1) / 2];
    let seconds: Vec<f64> = known.into_iter().map(|known| known.unwrap_or(usual)).collect();
    let next = shares::fastest(&even, &seconds);
    let pays = shares::pays(shares::step_seconds(&even, &seconds), shares::step_seconds(&next, &seconds));
    if pays { next } else { even }
}

fn stop(state: &mut State, now: Timestamp, job: &JobId, purpose: StopPurpose, out: &mut Vec<Action>) {
    let team = state.team(job);
    let workers = team.iter().filter(|worker| worker.takes_part()).map(|worker| worker.id.clone()).collect();
    let reason = match ledger::outlook(state, now, job).filter(|_| purpose == StopPurpose::Budget) {
        Some(outlook) => outlook.reason(workers),
        None => Reason::SaveAndLeave { purpose, workers },
    };
    let origin = origin_after(state, job);
    hand_out(state, now, job, Vec::new(), Some(purpose), Handing { immediate: false, origin, reason }, out);
}

/// Everyone who is in the new generation or may still be at work in an older one is told.
fn hand_out(
    state: &mut State,
    now: Timestamp,
    job: &JobId,
    members: Vec<Member>,
    stop: Option<StopPurpose>,
    handing: Handing,
    out: &mut Vec<Action>,
) {
    let Handing { immediate, origin, reason } = handing;
    let words = reason.what();
    if reason.is_loss() {
        state.charge_loss(job);
    }
    let assignment = Assignment { members: members.clone(), immediate, origin, reason: words.clone() };
    let generation = state.assign(now, job, assignment, stop);
    let rollback = state.job_of(job).0.corruptions.last().cloned();
    for worker in state.team(job).into_iter().filter(|worker| worker.takes_part() && worker.attached()) {
        let (members, reason, rollback) = (members.clone(), words.clone(), rollback.clone());
        let message = ToWorker::Assign { generation, immediate, members, reason, rollback };
        out.push(Action::Send { worker: worker.id.clone(), message });
    }
    state.decide(now, job, reason);
}

fn join(
    state: &mut State,
    now: Timestamp,
    worker: WorkerId,
    donor: WorkerId,
    instead_of: Option<WorkerId>,
    out: &mut Vec<Action>,
) {
    let job = job_of(state, &worker);
    let Some(message) = state.joining(&job, &donor) else { panic!("{job}: donor {donor} is no member") };
    state.stand(&worker, Standing::Joining { donor: donor.clone() });
    out.push(Action::Send { worker: worker.clone(), message });
    state.decide(now, &job, Reason::Join { worker, donor, instead_of });
}

fn end(state: &mut State, now: Timestamp, job: &JobId, outcome: Outcome) {
    let (next, reason) = match outcome {
        Outcome::Succeeded { workers, digest } => {
            (JobState::Succeeded { at: now }, Reason::Succeed { workers, digest })
        }
        Outcome::Failed(doom) => {
            state.doom(job, doom.clone());
            (JobState::Failed { at: now, reason: doom.words() }, Reason::Fail { doom })
        }
        Outcome::Cancelled => (JobState::Cancelled { at: now }, Reason::Cancel),
        Outcome::Suspended => (JobState::Suspended { at: now }, Reason::Suspend),
    };
    state.end(job, next);
    state.charge_end(now, job);
    state.decide(now, job, reason);
}

fn dismiss(state: &mut State, now: Timestamp, worker: &WorkerId, cause: DismissCause, out: &mut Vec<Action>) {
    let job = job_of(state, worker);
    let reason = Reason::Dismiss { worker: worker.clone(), cause: cause.clone() };
    if state.worker(worker).is_some_and(|worker| worker.attached()) {
        let message = ToWorker::Exit { reason: reason.why() };
        out.push(Action::Send { worker: worker.clone(), message });
    }
    state.stand(worker, Standing::Done);
    // The end of the job, the refusal of the numerics and the change of the group are decisions of their own, which say
    // it all.
    if !matches!(cause, DismissCause::JobEnded | DismissCause::OtherNumerics | DismissCause::HandedOver) {
        state.decide(now, &job, reason);
    }
}

fn terminate(state: &mut State, now: Timestamp, instance: InstanceId, grace_ms: u64, out: &mut Vec<Action>) {
    let again = now.plus_ms(grace_ms).plus_ms(state.settings.terminate_again_ms);
    state.terminating(&instance, again);
    out.push(Action::Terminate { instance, grace_ms });
}
