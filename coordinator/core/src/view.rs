//! What the outside sees of jobs, workers, instances and pools: copies, in terms that `show` and the wire use.

use crate::action::Member;
use crate::corruption::{Corruption, NcclFailure, SaveFailure};
use crate::event::{Checkpoint, DownCause, Evaluation, PoolSpec, Progress};
use crate::ids::{Generation, InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::ledger::{self, CostView};
use crate::state::{
    Departure, Instance, InstanceState, Job, JobState, Link, Origin, Standing, State, StopPurpose, Worker,
};
use trainctl_jobs::NumericsSpec;

/// A job, as `show` prints it.
#[derive(Clone, PartialEq, Debug)]
pub struct JobView {
    /// Its name.
    pub job: JobId,
    /// queued, provisioning, rendezvous, running, recovering, suspended, succeeded, failed or cancelled.
    pub state: &'static str,
    /// Why it is in this state, in words; empty when there is nothing to say.
    pub reason: String,
    /// Updates applied, as last heard.
    pub step: u64,
    /// Updates in all.
    pub steps: u64,
    /// Members of the newest generation.
    pub world_size: u32,
    /// The newest generation.
    pub generation: Generation,
    /// Loss of the newest step.
    pub loss: Option<f64>,
    /// Of the whole group; 0 when nobody trains.
    pub samples_per_s: f64,
    /// Seconds to the last step at the present speed.
    pub eta_s: Option<f64>,
    /// The newest evaluation.
    pub evaluation: Option<Evaluation>,
    /// Newest digest of parameters, buffers and slots, and the step that it was taken at.
    pub state_digest: Option<(String, u64)>,
    /// Instances taken by a pool or killed from outside.
    pub evictions: u32,
    /// Steps that changed nothing because they were not finite.
    pub skipped_steps: u64,
    /// Audits that passed: logical shards that were computed twice, to the same bits.
    pub audits_passed: u64,
    /// Steps computed again because of changes of the group.
    pub steps_repeated: u64,
    /// Longest time between two steps over a change of the group.
    pub longest_pause_ms: f64,
    /// Messages of generations that were over.
    pub stale_messages: u64,
    /// The newest, by step.
    pub checkpoints: Vec<Checkpoint>,
    /// Times that workers held different states, the newest last.
    pub corruptions: Vec<Corruption>,
    /// The newest save that did not work, until a checkpoint commits.
    pub save_failure: Option<SaveFailure>,
    /// Members that keep the job from the NCCL that it asks for.
    pub nccl_failures: Vec<NcclFailure>,
    /// When it came in.
    pub submitted: Timestamp,
    /// When its first step was done.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The fewest workers that it starts with.
    pub workers_min: u32,
    /// The most that it takes.
    pub workers_max: u32,
    /// Numerics of its state, digest and words; absent before the first worker, or when numerics are `fast`.
    pub fingerprint: Option<(String, String)>,
    /// Decisions made so far, those that were dropped included.
    pub decisions: u64,
    /// Who computes how much of a step, in rank order.
    pub shares: Vec<Share>,
    /// Whether the result is the same bits whenever it is computed.
    pub numerics: NumericsSpec,
    /// What it has cost; absent when it paid nothing.
    pub cost: Option<CostView>,
}

/// A member's part in a step.
#[derive(Clone, PartialEq, Debug)]
pub struct Share {
    /// Who.
    pub worker: WorkerId,
    /// Logical shards that it computes.
    pub shards: u32,
    /// What one takes it, as it says; absent before it has computed a few.
    pub shard_seconds: Option<f64>,
}

/// A worker, as `worker ls` prints it.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerView {
    /// Its id.
    pub worker: WorkerId,
    /// Where it runs.
    pub instance: InstanceId,
    /// Of which pool.
    pub pool: PoolName,
    /// For which job.
    pub job: JobId,
    /// launching, attached, joining, training, draining or gone.
    pub state: &'static str,
    /// Its stream is open.
    pub attached: bool,
    /// In `generation`.
    pub rank: Option<u32>,
    /// Its logical shards in `generation`: the first, and the one after the last.
    pub shards: Option<(u32, u32)>,
    /// Its job's newest.
    pub generation: Generation,
    /// What it said last of its progress, and of its speed.
    pub progress: Option<Progress>,
    /// Its process.
    pub pid: Option<u32>,
    /// Where peers dial it; empty before it attached.
    pub address: String,
    /// Digest of its numerics; empty before it attached.
    pub fingerprint: String,
    /// When its instance was asked for.
    pub launched: Timestamp,
    /// When its pool takes it.
    pub notice_deadline: Option<Timestamp>,
    /// How it ended.
    pub gone: Option<DownCause>,
}

/// An instance that has not ended.
#[derive(Clone, PartialEq, Debug)]
pub struct InstanceView {
    /// Its id.
    pub instance: InstanceId,
    /// What runs on it.
    pub worker: WorkerId,
    /// For which job.
    pub job: JobId,
    /// From where.
    pub pool: PoolName,
    /// Its process, for local ones.
    pub pid: Option<u32>,
    /// launching, up or terminating.
    pub state: &'static str,
}

/// A pool, as `pool ls` prints it.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolView {
    /// As configured.
    pub spec: PoolSpec,
    /// Instances that have not ended.
    pub in_use: u32,
    /// Instances that it took.
    pub evictions: u32,
    /// Of one instance, to be expected in an hour, from what was seen.
    pub evictions_per_hour: f64,
    /// It had nothing to give, or something that concerns it had, and it is left alone until then.
    pub resting_until: Option<Timestamp>,
}

pub(crate) fn job(state: &State, now: Timestamp, job: &Job) -> JobView {
    let (_, submission) = state.job_of(&job.id);
    let steps = submission.spec.train.steps.unwrap_or_default();
    let progress = &job.progress;
    let speed = if job.group().is_some() { progress.samples_per_s } else { 0.0 };
    let left = steps.saturating_sub(progress.step) as f64 * f64::from(submission.spec.train.global_batch);
    JobView {
        job: job.id.clone(),
        state: state_name(job),
        reason: reason(job),
        step: progress.step,
        steps,
        world_size: world_size(state, job),
        generation: job.generation,
        loss: progress.loss,
        samples_per_s: speed,
        eta_s: (speed > 0.0).then(|| left / speed),
        evaluation: progress.evaluation.clone(),
        state_digest: progress.state_digest.clone(),
        evictions: job.counters.evictions,
        skipped_steps: progress.skipped_steps,
        audits_passed: progress.audits_passed,
        steps_repeated: job.counters.steps_repeated,
        longest_pause_ms: job.counters.longest_pause_ms,
        stale_messages: job.counters.stale_messages,
        checkpoints: job.checkpoints.clone(),
        corruptions: job.corruptions.clone(),
        save_failure: job.save_failure.clone(),
        nccl_failures: job.without_nccl(),
        submitted: submission.at,
        started: job.started,
        ended: job.ended(),
        workers_min: submission.workers_min(),
        workers_max: submission.workers_max(),
        fingerprint: job.numerics.as_ref().map(|numerics| (numerics.fingerprint.clone(), numerics.detail.clone())),
        decisions: job.counters.decisions,
        shares: shares(state, job),
        numerics: submission.spec.train.numerics,
        cost: ledger::summary(state, now, &job.id),
    }
}

fn shares(state: &State, job: &Job) -> Vec<Share> {
    let share = |member: &Member| Share {
        worker: member.worker.clone(),
        shards: member.end_shard - member.first_shard,
        shard_seconds: state.worker(&member.worker).and_then(shard_seconds),
    };
    job.group().map_or_else(Vec::new, |group| group.members.iter().map(share).collect())
}

fn shard_seconds(worker: &Worker) -> Option<f64> {
    Some(worker.progress.as_ref()?.shard_time?.seconds)
}

/// A group that saves and leaves has handed out its last generation and is still at work.
fn world_size(state: &State, job: &Job) -> u32 {
    let size = match &job.state {
        JobState::Running { group } => group.members.len(),
        JobState::Stopping { .. } => state.team(&job.id).iter().filter(|worker| worker.takes_part()).count(),
        _ => 0,
    };
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn state_name(job: &Job) -> &'static str {
    match &job.state {
        JobState::Queued => "queued",
        JobState::Provisioning => "provisioning",
        JobState::Rendezvous { .. } => "rendezvous",
        JobState::Running { group } if !group.effective && group.origin == Origin::Start => "rendezvous",
        JobState::Running { group } if !group.effective && group.origin == Origin::Recovery => "recovering",
        JobState::Running { .. } | JobState::Stopping { .. } => "running",
        JobState::Recovering { .. } => "recovering",
        JobState::Suspended { .. } => "suspended",
        JobState::Succeeded { .. } => "succeeded",
        JobState::Failed { .. } => "failed",
        JobState::Cancelled { .. } => "cancelled",
    }
}

fn reason(job: &Job) -> String {
    let shortage = || job.shortage.as_ref().map(|shortage| shortage.words());
    match &job.state {
        JobState::Queued | JobState::Provisioning | JobState::Rendezvous { .. } => shortage().unwrap_or_default(),
        JobState::Running { group } if group.effective => shortage().unwrap_or_default(),
        JobState::Running { group } => group.reason.clone(),
        JobState::Stopping { purpose: StopPurpose::Cancel, .. } => "it was cancelled and saves its state".to_owned(),
        JobState::Stopping { purpose: StopPurpose::Suspend, .. } => {
            "the coordinator is to stop and the job saves its state".to_owned()
        }
        JobState::Stopping { purpose: StopPurpose::Relocate, .. } => {
            "its last workers are taken and save its state".to_owned()
        }
        JobState::Stopping { purpose: StopPurpose::Budget, .. } => {
            "its budget covers no more and its workers save its state".to_owned()
        }
        JobState::Recovering { cause, .. } => {
            let cause = if cause.is_empty() { "its last workers saved and left".to_owned() } else { cause.clone() };
            shortage().map_or(cause.clone(), |shortage| format!("{cause}; {shortage}"))
        }
        JobState::Suspended { .. } => "it goes on when the coordinator runs again".to_owned(),
        JobState::Succeeded { .. } => String::new(),
        JobState::Failed { reason, .. } => reason.clone(),
        JobState::Cancelled { .. } => "someone cancelled it".to_owned(),
    }
}

pub(crate) fn worker(state: &State, worker: &Worker, instance: &Instance, gone: Option<&DownCause>) -> WorkerView {
    let (job, _) = state.job_of(&worker.job);
    let group = job.group().filter(|_| gone.is_none());
    let rank = group.and_then(|group| group.rank(&worker.id));
    let member = rank.and_then(|rank| group?.members.get(rank));
    let hello = worker.hello.as_ref();
    WorkerView {
        worker: worker.id.clone(),
        instance: worker.instance.clone(),
        pool: instance.pool.clone(),
        job: worker.job.clone(),
        state: if gone.is_some() { "gone" } else { worker_state(worker, instance) },
        attached: worker.attached() && gone.is_none(),
        rank: rank.and_then(|rank| u32::try_from(rank).ok()),
        shards: member.map(|member| (member.first_shard, member.end_shard)),
        generation: job.generation,
        progress: worker.progress.clone(),
        pid: hello.map(|hello| hello.pid).or(instance.pid),
        address: worker.address().to_owned(),
        fingerprint: hello.map_or_else(String::new, |hello| hello.fingerprint.clone()),
        launched: instance.launched,
        notice_deadline: match worker.departure {
            Some(Departure::Notice { deadline }) => Some(deadline),
            _ => None,
        },
        gone: gone.cloned(),
    }
}

fn worker_state(worker: &Worker, instance: &Instance) -> &'static str {
    match (&worker.standing, worker.link) {
        (Standing::Done | Standing::Lost { .. } | Standing::Leaving { .. } | Standing::Aside, _) => "draining",
        _ if instance.terminating() || worker.departure.is_some() => "draining",
        (Standing::Member, _) => "training",
        (_, Link::Never { .. }) => "launching",
        (Standing::Joining { .. } | Standing::Ready { .. }, _) => "joining",
        (Standing::Waiting, _) => "attached",
    }
}

pub(crate) fn instance(instance: &Instance) -> InstanceView {
    InstanceView {
        instance: instance.id.clone(),
        worker: instance.worker.clone(),
        job: instance.job.clone(),
        pool: instance.pool.clone(),
        pid: instance.pid,
        state: match instance.state {
            InstanceState::Launching => "launching",
            InstanceState::Up => "up",
            InstanceState::Terminating { .. } => "terminating",
        },
    }
}
