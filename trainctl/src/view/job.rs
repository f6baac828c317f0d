//! A job: the object of `show`, `ls`, `watch`, `submit` and `cancel`.

use crate::format::rfc3339;
use crate::view::{Checkpoint, Corruption, Cost, NcclFailure, SaveFailure, present};
use serde::Serialize;
use trainctl_proto::v1;

/// One job.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Job {
    /// Its name.
    pub(crate) job: String,
    /// queued, provisioning, rendezvous, running, recovering, suspended, succeeded, failed or cancelled.
    pub(crate) state: String,
    /// Updates applied.
    pub(crate) step: u64,
    /// Updates in all.
    pub(crate) steps: u64,
    /// Workers that share a step now.
    pub(crate) world_size: u32,
    /// Counts changes of membership.
    pub(crate) generation: u64,
    /// Of the newest step.
    pub(crate) loss: Option<f64>,
    /// Of the held-out samples, the newest.
    pub(crate) eval: Option<Evaluation>,
    /// Of parameters, buffers and slots.
    pub(crate) state_digest: Option<String>,
    /// The step at which it was taken.
    pub(crate) state_digest_step: Option<u64>,
    /// Instances that their pools took.
    pub(crate) evictions: u32,
    /// Steps that changed nothing because they were not finite.
    pub(crate) skipped_steps: u64,
    /// Audits that passed: logical shards that were computed twice, to the same bits.
    pub(crate) audits_passed: u64,
    /// Steps computed again.
    pub(crate) steps_repeated: u64,
    /// The longest that training stood still for a change of membership.
    pub(crate) longest_pause_ms: f64,
    /// Oldest first.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// RFC 3339.
    pub(crate) submitted: Option<String>,
    /// RFC 3339: the first step.
    pub(crate) started: Option<String>,
    /// RFC 3339.
    pub(crate) ended: Option<String>,
    /// Why it is in this state.
    pub(crate) reason: Option<String>,
    /// Of the whole group.
    pub(crate) samples_per_s: f64,
    /// Seconds to go.
    pub(crate) eta_s: Option<f64>,
    /// It waits for so many.
    pub(crate) workers_min: u32,
    /// It takes so many.
    pub(crate) workers_max: u32,
    /// Below it, in a folder of the job's name.
    pub(crate) checkpoint_root: Option<String>,
    /// Of the data manifest.
    pub(crate) data_digest: Option<String>,
    /// Of the group's numerics.
    pub(crate) fingerprint: Option<String>,
    /// `exact`; or `fast`: computed again, it would give other bits.
    pub(crate) numerics: Option<String>,
    /// Who computes how much of a step, in rank order.
    pub(crate) shares: Vec<Share>,
    /// Times that workers held different states or computed a shard differently, oldest first.
    pub(crate) corruptions: Vec<Corruption>,
    /// The newest save that did not work, until a checkpoint commits.
    pub(crate) save_failure: Option<SaveFailure>,
    /// Members that keep the job from the NCCL that it asks for.
    pub(crate) nccl_failures: Vec<NcclFailure>,
    /// What it has cost; null when it paid nothing.
    pub(crate) cost: Option<Cost>,
    /// As resolved; only where one job is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spec: Option<serde_json::Value>,
}

/// The held-out split, evaluated.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Evaluation {
    /// Updates applied.
    pub(crate) step: u64,
    /// Mean over the samples.
    pub(crate) loss: f64,
    /// Share that is right; null for regression.
    pub(crate) accuracy: Option<f64>,
}

/// A worker's part in a step.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Share {
    /// Who.
    pub(crate) worker: String,
    /// Logical shards that it computes.
    pub(crate) shards: u32,
    /// Seconds that one takes it.
    pub(crate) shard_seconds: Option<f64>,
}

impl From<v1::Share> for Share {
    fn from(from: v1::Share) -> Self {
        let shard_seconds = Some(from.shard_seconds).filter(|seconds| *seconds > 0.0);
        Self { worker: from.worker, shards: from.shards, shard_seconds }
    }
}

impl From<v1::JobStatus> for Job {
    fn from(from: v1::JobStatus) -> Self {
        let state_digest = present(from.state_digest);
        Self {
            state_digest_step: state_digest.is_some().then_some(from.state_digest_step),
            state_digest,
            job: from.job,
            state: from.state,
            step: from.step,
            steps: from.steps,
            world_size: from.world_size,
            generation: from.generation,
            loss: from.loss,
            eval: from.eval.map(|eval| Evaluation { step: eval.step, loss: eval.loss, accuracy: eval.accuracy }),
            evictions: from.evictions,
            skipped_steps: from.skipped_steps,
            audits_passed: from.audits_passed,
            steps_repeated: from.steps_repeated,
            longest_pause_ms: from.longest_pause_ms,
            checkpoints: from.checkpoints.into_iter().map(Checkpoint::from).collect(),
            submitted: rfc3339(from.submitted_ms),
            started: rfc3339(from.started_ms),
            ended: rfc3339(from.ended_ms),
            reason: present(from.reason),
            samples_per_s: from.samples_per_s,
            eta_s: Some(from.eta_s).filter(|eta_s| *eta_s > 0.0),
            workers_min: from.workers_min,
            workers_max: from.workers_max,
            checkpoint_root: present(from.checkpoint_root),
            data_digest: present(from.data_digest),
            fingerprint: present(from.fingerprint),
            numerics: present(from.numerics),
            shares: from.shares.into_iter().map(Share::from).collect(),
            corruptions: from.corruptions.into_iter().map(Corruption::from).collect(),
            save_failure: from.save_failure.map(SaveFailure::from),
            nccl_failures: from.nccl_failures.into_iter().map(NcclFailure::from).collect(),
            cost: from.cost.map(Cost::from),
            spec: present(from.spec_json).and_then(|json| serde_json::from_str(&json).ok()),
        }
    }
}

/// Whether a job in this state will never change again.
pub(crate) fn ended(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled")
}

/// Whether a job in this state did what it was for.
pub(crate) fn succeeded(state: &str) -> bool {
    state == "succeeded"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_yet_is_null() {
        let job = Job::from(v1::JobStatus { job: "digits".into(), state: "queued".into(), ..Default::default() });
        let json = serde_json::to_value(&job).unwrap();
        for key in ["loss", "eval", "state_digest", "started", "ended", "reason", "eta_s", "save_failure", "cost"] {
            assert!(json[key].is_null(), "{key}: {}", json[key]);
        }
        assert_eq!(json["checkpoints"], serde_json::json!([]));
        assert!(json.get("spec").is_none());
    }

    #[test]
    fn times_are_rfc_3339() {
        let status =
            v1::JobStatus { started_ms: 1_700_000_000_250, state_digest: "blake3:00".into(), ..Default::default() };
        let job = Job::from(status);
        assert_eq!(job.started.as_deref(), Some("2023-11-14T22:13:20.250Z"));
        assert_eq!(job.state_digest_step, Some(0));
    }
}
