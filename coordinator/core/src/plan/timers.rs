//! What follows from time alone: who was silent for too long, and when to look again.

use super::Choice;
use super::fleet::hurries_at;
use crate::event::Market;
use crate::ids::Timestamp;
use crate::ledger;
use crate::state::{InstanceState, Job, JobState, Link, LossCause, Standing, State, Submission, Worker};

/// Workers that are treated as dead by now.
pub(super) fn losses(state: &State, now: Timestamp, jobs: &[(&Job, &Submission)]) -> Vec<Choice> {
    let of_job = |(job, _): &(&Job, &Submission)| {
        let lost = |worker: &Worker| {
            let (at, cause) = lost_at(state, job, worker)?;
            (at <= now).then(|| Choice::Lose { worker: worker.id.clone(), cause })
        };
        state.team(&job.id).into_iter().filter_map(lost).collect::<Vec<_>>()
    };
    jobs.iter().flat_map(of_job).collect()
}

/// When a worker is treated as dead if nothing more is heard of it.
fn lost_at(state: &State, job: &Job, worker: &Worker) -> Option<(Timestamp, LossCause)> {
    let settings = &state.settings;
    if matches!(worker.standing, Standing::Done | Standing::Lost { .. }) {
        return None;
    }
    let unlisted = state.instance(&worker.instance).is_some_and(|instance| instance.unlisted);
    let unlisted_ms = settings.silence_ms().saturating_add(settings.unlisted_extra_ms);
    let silent = match worker.link {
        Link::Attached { heard } => {
            let ms = settings.silence_ms();
            (heard.plus_ms(ms), LossCause::Silent { ms })
        }
        Link::Never { since } => {
            let ms = if unlisted { unlisted_ms } else { settings.attach_ms };
            (since.plus_ms(ms), LossCause::NeverAttached { ms })
        }
        Link::Detached { since } => {
            let ms = if unlisted { unlisted_ms } else { settings.reattach_ms };
            (since.plus_ms(ms), LossCause::NotBack { ms })
        }
    };
    let ms = settings.stop_ms;
    let stuck = stuck_since(job, worker).map(|since| (since.plus_ms(ms), LossCause::StopTimedOut { ms }));
    Some(match stuck {
        Some(stuck) if stuck.0 < silent.0 => stuck,
        _ => silent,
    })
}

/// A worker that was told to leave, or whose peers have finished, has so long to follow.
fn stuck_since(job: &Job, worker: &Worker) -> Option<Timestamp> {
    match worker.standing {
        Standing::Leaving { since } => Some(since),
        Standing::Member if !job.finishes.contains_key(&worker.id) => job.first_finish,
        _ => None,
    }
}

/// The next time after `now` at which planning may choose something that it does not choose now. It may be too
/// early, never too late.
pub(crate) fn next_deadline(state: &State, now: Timestamp) -> Option<Timestamp> {
    let rests = state.rests().map(|rest| rest.until);
    let reviews = state.review().into_iter().chain(state.short_review());
    rests.chain(state.wakes.first()).chain(reviews).filter(|at| *at > now).min()
}

/// Every job of which anything changed gets its time anew, and is known by whether it looks at offers or deadlines.
pub(crate) fn reckon(state: &mut State, now: Timestamp) {
    let reckoned = |entry: (&Job, &Submission)| {
        let open = entry.0.ended().is_none();
        let (watchful, dated) = (open && waits_for_offers(state, entry.0), open && entry.1.deadline().is_some());
        (entry.0.id.clone(), wake_at(state, now, entry, watchful), watchful, dated)
    };
    let reckoned: Vec<_> = state.touched().into_iter().map(reckoned).collect();
    for (job, at, watchful, dated) in reckoned {
        state.wakes.set(&job, at);
        state.set_watchful(&job, watchful, dated);
    }
}

/// The same of what concerns one job.
fn wake_at(state: &State, now: Timestamp, entry: (&Job, &Submission), watchful: bool) -> Option<Timestamp> {
    let (job, settings) = (entry.0, &state.settings);
    let team = state.team(&job.id);
    let losses = team.iter().filter_map(|worker| Some(lost_at(state, job, worker)?.0));
    let batches = team.iter().filter_map(|worker| match worker.standing {
        Standing::Ready { since, .. } => Some(since.plus_ms(settings.join_batch_ms)),
        _ => None,
    });
    let ends = team.iter().filter_map(|worker| match state.instance(&worker.instance)?.state {
        InstanceState::Terminating { again } => Some(again),
        _ => None,
    });
    let group = match &job.state {
        JobState::Rendezvous { first_attached } | JobState::Recovering { first_attached: Some(first_attached), .. } => {
            Some(first_attached.plus_ms(settings.first_group_wait_ms))
        }
        JobState::Running { group } if !group.effective => Some(group.assigned.plus_ms(settings.settle_ms)),
        _ => None,
    };
    let rest = match &job.state {
        JobState::Running { .. } => job.moved.map(|moved| moved.plus_ms(settings.move_rest_ms)),
        _ => None,
    };
    let open = job.ended().is_none();
    let budget =
        (open && !matches!(job.state, JobState::Stopping { .. })).then(|| ledger::stops_at(state, now, job)).flatten();
    let deadline = open.then(|| hurries_at(state, now, entry)).flatten();
    // Heartbeats tell how fast it is, and so what its deadline allows.
    let reviewed = open && (job.hurried || watchful);
    let review = reviewed.then(|| now.plus_ms(settings.review_ms));
    let rejected = job.rejected.iter().filter(|_| open).map(|rejected| rejected.at.plus_ms(settings.rejected_rest_ms));
    let singles = [group, rest, budget, deadline, review].into_iter().flatten();
    losses.chain(batches).chain(ends).chain(rejected).chain(singles).filter(|at| *at > now).min()
}

/// It has workers that go when others can be had in their place.
fn waits_for_offers(state: &State, job: &Job) -> bool {
    let at_risk = |worker: &Worker| worker.at_risk && worker.counts();
    state.pools_of(&job.id).any(|pool| pool.spec.market == Market::OnDemand)
        || state.team(&job.id).into_iter().any(at_risk)
}
