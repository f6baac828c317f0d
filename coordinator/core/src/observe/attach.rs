//! A worker attaches: is it one that was asked for, do its numerics fit, and what must it be told (again).

use crate::action::{Action, ToWorker};
use crate::decision::Reason;
use crate::event::Holding;
use crate::ids::{Generation, InstanceId, JobId, Timestamp, WorkerId};
use crate::numerics;
use crate::rejection::Rejection;
use crate::state::{Hello, LossCause, Standing, State};

pub(super) fn attached(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    instance: &InstanceId,
    hello: Hello,
    holding: Option<Holding>,
    out: &mut Vec<Action>,
) -> Result<(), Rejection> {
    let job = check_identity(state, worker, instance, holding.as_ref(), out)?;
    let entry = state.worker(worker).ok_or_else(|| Rejection::UnknownWorker(worker.clone()))?;
    let restarted = entry.hello.as_ref().is_some_and(|known| known.pid != hello.pid);
    if entry.hello.is_none() {
        state.measure_start(now, instance);
    }
    state.attach(now, worker, hello);
    state.pay(now, instance, false, None);
    state.up(instance, None);
    if state.adopt(worker) {
        let step = holding.as_ref().and_then(|holding| holding.step);
        state.decide(now, &job, Reason::Adopt { worker: worker.clone(), step });
    }
    numerics::check(state, now, &job, worker);
    if restarted {
        restart(state, worker);
    }
    let heard = holding.as_ref().map_or(Generation::default(), |holding| holding.generation);
    heard_of(state, &job, worker, heard);
    tell(state, &job, worker, holding.as_ref(), now, out);
    Ok(())
}

fn check_identity(
    state: &mut State,
    worker: &WorkerId,
    instance: &InstanceId,
    holding: Option<&Holding>,
    out: &mut Vec<Action>,
) -> Result<JobId, Rejection> {
    let exit =
        |reason: &str| Action::Send { worker: worker.clone(), message: ToWorker::Exit { reason: reason.to_owned() } };
    let Some(entry) = state.instance(instance) else {
        out.push(exit("the coordinator did not ask for this instance"));
        out.push(Action::Terminate { instance: instance.clone(), grace_ms: state.settings.exit_grace_ms });
        return Err(Rejection::UnknownInstance(instance.clone()));
    };
    if entry.worker != *worker {
        out.push(exit("this instance is another worker's"));
        let expected = entry.worker.clone();
        return Err(Rejection::WrongWorker { instance: instance.clone(), expected, found: worker.clone() });
    }
    let job = entry.job.clone();
    match holding {
        Some(holding) if holding.job != job => {
            let found = holding.job.clone();
            out.push(exit("it holds the state of another job"));
            state.lose(worker, LossCause::Failed { reason: format!("it holds the state of {found}") });
            Err(Rejection::WrongJob { worker: worker.clone(), expected: job, found })
        }
        _ => Ok(job),
    }
}

/// The same worker id from another process: whatever it held is gone.
fn restart(state: &mut State, worker: &WorkerId) {
    let Some(entry) = state.worker(worker) else { return };
    match entry.standing {
        Standing::Member | Standing::Leaving { .. } | Standing::Aside => state.lose(worker, LossCause::StateGone),
        Standing::Joining { .. } | Standing::Ready { .. } => state.stand(worker, Standing::Waiting),
        Standing::Waiting | Standing::Done | Standing::Lost { .. } => {}
    }
}

/// Generations never repeat, also when a record of one was lost.
fn heard_of(state: &mut State, job: &JobId, worker: &WorkerId, heard: Generation) {
    let (entry, _) = state.job_of(job);
    if heard > entry.generation {
        let why = format!("{worker} has heard of generation {heard} and the records end at {}", entry.generation);
        state.raise_generation(job, heard);
        state.break_group(job, worker, why);
    }
}

/// What matters is told at every attach: a worker may have missed it.
fn tell(
    state: &mut State,
    job: &JobId,
    worker: &WorkerId,
    holding: Option<&Holding>,
    now: Timestamp,
    out: &mut Vec<Action>,
) {
    let (entry, _) = state.job_of(job);
    let Some(of_worker) = state.worker(worker) else { return };
    let expect_fingerprint = entry.numerics.as_ref().map(|numerics| numerics.fingerprint.clone());
    let mut send = |message| out.push(Action::Send { worker: worker.clone(), message });
    send(ToWorker::Welcome { job: job.clone(), expect_fingerprint });
    let heard = holding.map_or(Generation::default(), |holding| holding.generation);
    let step = holding.and_then(|holding| holding.step);
    match (&of_worker.standing, entry.group()) {
        (Standing::Done | Standing::Lost { .. }, _) => {
            send(ToWorker::Exit { reason: "it is not part of the job any more".to_owned() });
        }
        (Standing::Member | Standing::Leaving { .. }, Some(group)) if heard < group.generation => {
            // One that missed an immediate change is still in a generation that can't reach a step boundary.
            let immediate = group.immediate || heard < group.oldest_live;
            send(ToWorker::Assign {
                generation: group.generation,
                immediate,
                members: group.members.clone(),
                reason: group.reason.clone(),
                rollback: entry.corruptions.last().cloned(),
            });
        }
        (Standing::Joining { donor }, Some(_)) => {
            if let Some(message) = state.joining(job, donor) {
                send(message);
            }
        }
        (Standing::Ready { .. }, _) if step.is_none() => state.stand(worker, Standing::Waiting),
        (Standing::Waiting, None) if step.is_some() && entry.groupless() => {
            // It had the whole state when the last member went.
            let step = step.unwrap_or_default();
            state.stand(worker, Standing::Ready { donor: None, step, since: now });
        }
        _ => {}
    }
}
