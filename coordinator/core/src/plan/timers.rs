//! What follows from time alone: who was silent for too long, and when to look again.

use super::Choice;
use crate::ids::Timestamp;
use crate::state::{InstanceState, JobState, Link, LossCause, Standing, State, Worker};

/// Workers that are treated as dead by now.
pub(super) fn losses(state: &State, now: Timestamp) -> Vec<Choice> {
    let lost = state.workers().filter_map(|worker| {
        let (at, cause) = lost_at(state, worker)?;
        (at <= now).then(|| Choice::Lose { worker: worker.id.clone(), cause })
    });
    lost.collect()
}

/// When a worker is treated as dead if nothing more is heard of it.
fn lost_at(state: &State, worker: &Worker) -> Option<(Timestamp, LossCause)> {
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
    let stuck = stuck_since(state, worker).map(|since| (since.plus_ms(ms), LossCause::StopTimedOut { ms }));
    Some(match stuck {
        Some(stuck) if stuck.0 < silent.0 => stuck,
        _ => silent,
    })
}

/// A worker that was told to leave, or whose peers have finished, has so long to follow.
fn stuck_since(state: &State, worker: &Worker) -> Option<Timestamp> {
    let (job, _) = state.job_of(&worker.job);
    match worker.standing {
        Standing::Leaving { since } => Some(since),
        Standing::Member if !job.finishes.contains_key(&worker.id) => job.first_finish,
        _ => None,
    }
}

/// The next time after `now` at which planning may choose something that it does not choose now. It may be too
/// early, never too late.
pub(crate) fn next_deadline(state: &State, now: Timestamp) -> Option<Timestamp> {
    let settings = &state.settings;
    let losses = state.workers().filter_map(|worker| Some(lost_at(state, worker)?.0));
    let batches = state.workers().filter_map(|worker| match worker.standing {
        Standing::Ready { since, .. } => Some(since.plus_ms(settings.join_batch_ms)),
        _ => None,
    });
    let groups = state.jobs().filter_map(|job| match &job.state {
        JobState::Rendezvous { first_attached } | JobState::Recovering { first_attached: Some(first_attached), .. } => {
            Some(first_attached.plus_ms(settings.first_group_wait_ms))
        }
        JobState::Running { group } if !group.effective => Some(group.assigned.plus_ms(settings.settle_ms)),
        _ => None,
    });
    let rests = state.jobs().filter_map(|job| match &job.state {
        JobState::Running { .. } => Some(job.moved?.plus_ms(settings.move_rest_ms)),
        _ => None,
    });
    let ends = state.instances().filter_map(|instance| match instance.state {
        InstanceState::Terminating { again } => Some(again),
        _ => None,
    });
    let pools = state.pools().filter_map(|pool| Some(pool.backoff?.until));
    losses.chain(batches).chain(groups).chain(rests).chain(ends).chain(pools).filter(|at| *at > now).min()
}
