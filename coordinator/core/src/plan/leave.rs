//! Who goes home: workers that are in no group and have a reason to go, and the instances of all that are done.

use super::Choice;
use crate::decision::DismissCause;
use crate::ids::Timestamp;
use crate::state::{Departure, InstanceState, Job, JobState, Standing, State, StopPurpose, Submission, Worker};

/// Workers to be told that there is nothing left for them to do.
pub(super) fn dismissals(state: &State, _now: Timestamp, jobs: &[(&Job, &Submission)]) -> Vec<Choice> {
    let of_job = |(job, _): &(&Job, &Submission)| {
        let leaving = |worker: &Worker| {
            let cause = dismissal(job, worker)?;
            Some(Choice::Dismiss { worker: worker.id.clone(), cause })
        };
        state.team(&job.id).into_iter().filter_map(leaving).collect::<Vec<_>>()
    };
    jobs.iter().flat_map(of_job).collect()
}

fn dismissal(job: &Job, worker: &Worker) -> Option<DismissCause> {
    if matches!(worker.standing, Standing::Done | Standing::Lost { .. }) {
        return None;
    }
    if job.ended().is_some() {
        return Some(DismissCause::JobEnded);
    }
    let stops = match &job.state {
        JobState::Suspended { .. } => true,
        JobState::Stopping { purpose, .. } => *purpose != StopPurpose::Relocate,
        _ => false,
    };
    if worker.takes_part() || spare(job, worker) {
        return None;
    }
    if stops {
        return Some(DismissCause::JobStops);
    }
    if worker.standing == Standing::Aside {
        return Some(DismissCause::HandedOver);
    }
    match worker.departure.as_ref()? {
        Departure::Notice { .. } => Some(DismissCause::Notice),
        Departure::Drain => Some(DismissCause::Asked),
        Departure::OtherNumerics => Some(DismissCause::OtherNumerics),
        Departure::GiveBack { to } => Some(DismissCause::OlderJob { job: to.clone() }),
        Departure::Replaced { by, cause } => Some(DismissCause::Replaced { by: by.clone(), why: cause.clone() }),
        Departure::NotNeeded { slack_ms } => Some(DismissCause::NotNeeded { slack_ms: *slack_ms }),
        Departure::TooLate => Some(DismissCause::TooLate),
    }
}

/// Nobody is known to train in the generation without it: what it holds may be needed yet.
pub(crate) fn spare(job: &Job, worker: &Worker) -> bool {
    worker.standing == Standing::Aside && job.group().is_some_and(|group| !group.effective)
}

/// Instances to be given back: those that are done may end by themselves, lost ones are killed at once.
pub(super) fn terminations(state: &State, now: Timestamp, jobs: &[(&Job, &Submission)]) -> Vec<Choice> {
    let ends = jobs.iter().flat_map(|(job, _)| state.team(&job.id)).filter_map(|worker| {
        let instance = state.instance(&worker.instance)?;
        let grace_ms = match (instance.state, &worker.standing) {
            (InstanceState::Terminating { again }, _) if again <= now => 0,
            (InstanceState::Terminating { .. }, _) => return None,
            (_, Standing::Done) if worker.hello.is_some() => state.settings.exit_grace_ms,
            (_, Standing::Done | Standing::Lost { .. }) => 0,
            _ => return None,
        };
        Some(Choice::Terminate { instance: instance.id.clone(), grace_ms })
    });
    ends.collect()
}
