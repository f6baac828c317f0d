//! What workers say over their streams. Messages of generations that are over are dropped and counted.

use crate::event::{Checkpoint, Evaluation, Progress};
use crate::ids::{Generation, JobId, Timestamp, WorkerId};
use crate::rejection::Rejection;
use crate::state::{Doom, Finish, LossCause, Origin, Standing, State, Suspicion, Worker};

/// What a worker says of the first step of a generation.
pub(super) struct Resumption {
    pub(super) step: u64,
    pub(super) pause_ms: f64,
    pub(super) steps_repeated: u64,
}

/// What a worker says at the end of the job.
pub(super) struct End {
    pub(super) step: u64,
    pub(super) loss: Option<f64>,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) state_digest: String,
}

pub(super) fn known<'s>(state: &'s State, worker: &WorkerId) -> Result<&'s Worker, Rejection> {
    let entry = state.worker(worker).ok_or_else(|| Rejection::UnknownWorker(worker.clone()))?;
    match entry.hello {
        Some(_) => Ok(entry),
        None => Err(Rejection::NotAttached(worker.clone())),
    }
}

pub(super) fn stale(state: &mut State, job: &JobId, worker: &WorkerId, message: &'static str) -> Result<(), Rejection> {
    state.count_stale(job);
    Err(Rejection::Stale { worker: worker.clone(), message })
}

/// How a generation that a worker names relates to those that may still be at work.
pub(super) enum Timeliness {
    Over,
    Live,
}

pub(super) fn timeliness(state: &State, worker: &Worker, generation: Generation) -> Result<Timeliness, Rejection> {
    let (job, _) = state.job_of(&worker.job);
    if generation > job.generation {
        let (worker, newest) = (worker.id.clone(), job.generation);
        return Err(Rejection::FutureGeneration { worker, newest, found: generation });
    }
    let oldest_live = job.group().map_or(Generation(u64::MAX), |group| group.oldest_live);
    Ok(if generation < oldest_live || !worker.takes_part() { Timeliness::Over } else { Timeliness::Live })
}

/// The job of a worker that says something of a generation which may still be at work; else it comes too late.
pub(super) fn live(
    state: &mut State,
    worker: &WorkerId,
    generation: Generation,
    message: &'static str,
) -> Result<JobId, Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    match timeliness(state, entry, generation)? {
        Timeliness::Live => Ok(job),
        Timeliness::Over => stale(state, &job, worker, message).map(|()| job),
    }
}

pub(super) fn detached(state: &mut State, now: Timestamp, worker: &WorkerId) -> Result<(), Rejection> {
    known(state, worker)?;
    state.detach(now, worker);
    confirm(state, worker);
    Ok(())
}

/// If both a peer and this coordinator have lost it, it is dead, provided that what is at work needs it.
fn confirm(state: &mut State, suspect: &WorkerId) {
    let Some(entry) = state.worker(suspect) else { return };
    let Some(Suspicion { generation, by, detail }) = entry.suspicion.clone() else { return };
    let timely = state.job_of(&entry.job).0.group().is_some_and(|group| generation >= group.oldest_live);
    if timely && state.cut_off(entry) && state.needs(&entry.job, &entry.standing) {
        state.lose(suspect, LossCause::PeerLost { by, detail });
    }
}

/// Always a sign of life; progress only from those at work in a generation that is not over. A generation is known
/// to train when a member that follows nobody says so twice, with more steps the second time.
pub(super) fn heartbeat(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    progress: Progress,
) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let (job, takes_part) = (entry.job.clone(), entry.takes_part());
    let timely = timeliness(state, entry, progress.generation);
    let advanced = entry.progress.as_ref().is_some_and(|before| {
        before.generation == progress.generation && before.step.is_some() && progress.step > before.step
    });
    state.heard(now, worker, progress.clone());
    let timely = timely?;
    // A count of the whole job is true in any generation.
    state.audits_passed(now, &job, progress.audits_passed);
    match timely {
        Timeliness::Over if takes_part => return stale(state, &job, worker, "the progress in a heartbeat"),
        Timeliness::Over => return Ok(()),
        Timeliness::Live => {}
    }
    let group = state.job_of(&job).0.group();
    let trains = group.is_some_and(|group| {
        !group.effective && group.generation == progress.generation && !group.followers.contains(worker)
    });
    if let Some(said) = progress.shard_time {
        state.timed(now, worker, progress.generation, said);
    }
    if trains && advanced {
        state.took_effect(&job, progress.generation);
    }
    state.progress(now, &job, &progress);
    state.measure_pace(now, &job, &progress);
    Ok(())
}

/// The accused is dropped at once, also when the two accuse each other: whoever is heard first stays. When it may just
/// have gone on to a newer generation, the stream to it decides.
pub(super) fn peer_lost(
    state: &mut State,
    worker: &WorkerId,
    generation: Generation,
    peer: &WorkerId,
    detail: String,
    unsure: bool,
) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    if worker == peer {
        return Err(Rejection::OutOfPlace { worker: worker.clone(), message: "a lost connection to itself" });
    }
    let timely = timeliness(state, entry, generation)?;
    let accused = state.worker(peer).filter(|peer| peer.job == job);
    let needed = accused.is_some_and(|accused| state.needs(&job, &accused.standing));
    match (timely, needed, unsure) {
        (Timeliness::Live, true, false) => state.lose(peer, LossCause::PeerLost { by: worker.clone(), detail }),
        (Timeliness::Live, true, true) => {
            state.suspect(peer, Suspicion { generation, by: worker.clone(), detail });
            confirm(state, peer);
        }
        // It did go on, and what it left behind is over.
        (_, _, true) => {}
        _ => return stale(state, &job, worker, "a lost peer"),
    }
    Ok(())
}

/// A joiner whose group vanished meanwhile holds the only copy of the state: it is noted all the same.
pub(super) fn ready(state: &mut State, now: Timestamp, worker: &WorkerId, step: u64) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    let donor = match &entry.standing {
        Standing::Joining { donor } => Some(donor.clone()),
        Standing::Waiting if state.job_of(&job).0.groupless() => None,
        Standing::Ready { .. } => return Ok(()),
        _ => return stale(state, &job, worker, "a joiner's readiness"),
    };
    state.stand(worker, Standing::Ready { donor, step, since: now });
    Ok(())
}

pub(super) fn resumed(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    generation: Generation,
    said: Resumption,
) -> Result<(), Rejection> {
    const MESSAGE: &str = "the first step of a generation";
    known(state, worker)?;
    if !said.pause_ms.is_finite() {
        return Err(Rejection::NotFinite { worker: worker.clone(), message: MESSAGE });
    }
    let job = live(state, worker, generation, MESSAGE)?;
    let mut repeated = said.steps_repeated;
    if let Some(group) = state.job_of(&job).0.group()
        && group.generation == generation
        && group.origin == Origin::Recovery
    {
        // Nobody of the new group knows how far the old one was.
        let (before, first) = (group.step_before, !group.effective);
        repeated = repeated.max(before.saturating_sub(said.step.saturating_sub(1)));
        if first {
            state.fell_back_to(&job, said.step);
        }
        // A heartbeat may have shown before that it trains.
        state.went_back_to(&job, said.step.saturating_sub(1));
    }
    state.count_change(&job, generation, said.pause_ms, repeated);
    state.charge_pause(now, &job, generation, said.pause_ms, repeated);
    state.took_effect(&job, generation);
    state.reached(now, &job, said.step);
    Ok(())
}

pub(super) fn evaluated(state: &mut State, worker: &WorkerId, evaluation: Evaluation) -> Result<(), Rejection> {
    let job = known(state, worker)?.job.clone();
    if !is_finite(&evaluation) {
        return Err(Rejection::NotFinite { worker: worker.clone(), message: "an evaluation" });
    }
    state.evaluated(&job, evaluation);
    Ok(())
}

fn is_finite(evaluation: &Evaluation) -> bool {
    evaluation.loss.is_finite() && evaluation.accuracy.is_none_or(f64::is_finite)
}

/// A committed checkpoint is a fact whoever says so, from whichever generation.
pub(super) fn checkpoint(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    checkpoint: Checkpoint,
) -> Result<(), Rejection> {
    let job = known(state, worker)?.job.clone();
    if !checkpoint.seconds.is_finite() || !checkpoint.stall_ms.is_finite() {
        return Err(Rejection::NotFinite { worker: worker.clone(), message: "a checkpoint" });
    }
    state.checkpoint(&job, checkpoint);
    state.charge_storage(now, &job);
    Ok(())
}

pub(super) fn left(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    generation: Generation,
    step: u64,
) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    let newest = state.job_of(&job).0.generation;
    if generation > newest {
        return Err(Rejection::FutureGeneration { worker: worker.clone(), newest, found: generation });
    }
    match entry.standing {
        Standing::Leaving { .. } | Standing::Aside => {
            state.stand(worker, Standing::Done);
            state.reached(now, &job, step);
        }
        Standing::Done | Standing::Lost { .. } => return stale(state, &job, worker, "its leave"),
        Standing::Member | Standing::Waiting | Standing::Joining { .. } | Standing::Ready { .. } => {
            state.lose(worker, LossCause::LeftUnasked);
        }
    }
    Ok(())
}

/// It is out of its group, and the only one to hold the state should the generation without it come to nothing.
pub(super) fn aside(
    state: &mut State,
    now: Timestamp,
    worker: &WorkerId,
    generation: Generation,
    step: u64,
) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    match (&entry.standing, timeliness(state, entry, generation)?) {
        (Standing::Leaving { .. }, Timeliness::Live) => {
            state.stand(worker, Standing::Aside);
            state.reached(now, &job, step);
            Ok(())
        }
        (Standing::Aside, _) => Ok(()),
        _ => stale(state, &job, worker, "that it stands aside"),
    }
}

pub(super) fn finished(state: &mut State, now: Timestamp, worker: &WorkerId, end: End) -> Result<(), Rejection> {
    let entry = known(state, worker)?;
    let job = entry.job.clone();
    if !entry.takes_part() {
        return stale(state, &job, worker, "its end");
    }
    let (_, submission) = state.job_of(&job);
    if let Some(expected) = submission.spec.train.steps.filter(|expected| *expected != end.step) {
        return Err(Rejection::WrongLastStep { worker: worker.clone(), expected, found: end.step });
    }
    if let Some(evaluation) = end.evaluation.filter(is_finite) {
        state.evaluated(&job, evaluation);
    }
    let progress = Progress {
        generation: state.job_of(&job).0.generation,
        step: Some(end.step),
        loss: end.loss,
        samples_per_s: f64::NAN,
        state_digest: None,
        shard_time: None,
        skipped_steps: 0,
        audits_passed: 0,
    };
    state.progress(now, &job, &progress);
    state.finished(now, &job, worker, Finish { step: end.step, digest: end.state_digest });
    Ok(())
}

pub(super) fn failed(state: &mut State, worker: &WorkerId, job_fails: bool, reason: String) -> Result<(), Rejection> {
    let entry = state.worker(worker).ok_or_else(|| Rejection::UnknownWorker(worker.clone()))?;
    let job = entry.job.clone();
    if matches!(entry.standing, Standing::Done | Standing::Lost { .. }) {
        state.note_failure(worker, reason);
        return stale(state, &job, worker, "its failure");
    }
    state.note_failure(worker, reason.clone());
    if job_fails {
        state.doom(&job, Doom::WorkerSays { worker: worker.clone(), reason: reason.clone() });
    }
    state.lose(worker, LossCause::Failed { reason });
    Ok(())
}

pub(super) fn logged(state: &mut State, worker: &WorkerId, lines: String) -> Result<(), Rejection> {
    if state.worker(worker).is_none() {
        return Err(Rejection::UnknownWorker(worker.clone()));
    }
    state.note_last_lines(worker, lines);
    Ok(())
}
