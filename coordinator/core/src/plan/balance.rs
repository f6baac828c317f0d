//! When logical shards move from slow members to fast ones: measured, for certain, and not for the last few steps.

use super::Choice;
use crate::ids::{Timestamp, WorkerId};
use crate::shares::{fastest, moves, pays, step_seconds};
use crate::state::{Group, Job, Measure, State, Submission};

/// New counts for a group that trains undisturbed. They must pay even if those who have too much are as fast as they
/// ever were in the last reports, and all as slow after it as they ever were.
pub(super) fn rebalance(
    state: &State,
    now: Timestamp,
    job: &Job,
    submission: &Submission,
    group: &Group,
) -> Option<Choice> {
    let settings = &state.settings;
    let rested = job.moved.is_none_or(|at| now >= at.plus_ms(settings.move_rest_ms));
    if !submission.by_speed() || !group.effective || !rested || group.members.len() < 2 {
        return None;
    }
    let measures: Vec<Measure> =
        group.members.iter().map(|member| measure(state, group, &member.worker)).collect::<Option<_>>()?;
    let seconds: Vec<f64> = measures.iter().map(|measure| measure.seconds).collect();
    let present: Vec<u32> = group.members.iter().map(|member| member.end_shard - member.first_shard).collect();
    let next = fastest(&present, &seconds);
    let (before, after) = (step_seconds(&present, &seconds), step_seconds(&next, &seconds));

    let fresh = |measure: &Measure| {
        let age_s = now.since_ms(measure.at).saturating_sub(settings.silence_ms()) as f64 / 1e3;
        age_s <= 2.0 * before
    };
    let lows: Vec<f64> = measures.iter().map(|measure| measure.range.0).collect();
    let highs: Vec<f64> = measures.iter().map(|measure| measure.range.1).collect();
    let certain = pays(step_seconds(&present, &lows), step_seconds(&next, &highs));
    let steps_left = submission.spec.train.steps.unwrap_or_default().saturating_sub(job.progress.step);
    let saves_ms = (before - after) * steps_left as f64 * 1e3;
    if !measures.iter().all(fresh) || !certain || saves_ms < settings.move_saves_ms_min as f64 {
        return None;
    }
    let workers: Vec<WorkerId> = group.members.iter().map(|member| member.worker.clone()).collect();
    let moves = moves(&workers, &present, &next);
    let seconds = workers.iter().cloned().zip(seconds).collect();
    Some(Choice::MoveShards { job: job.id.clone(), workers, counts: next, moves, seconds, before, after })
}

/// Of a member that will hear of the change.
fn measure(state: &State, group: &Group, worker: &WorkerId) -> Option<Measure> {
    let worker = state.worker(worker)?;
    if !worker.attached() || !worker.counts() {
        return None;
    }
    worker.speed.measure(group.generation)
}
