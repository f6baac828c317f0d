//! Jobs and pools of the simulation, and what to expect at its end.

use coordinator_core::{Differing, JobId, JobView, PoolSpec};
use std::collections::BTreeSet;
use trainctl_jobs::{
    AuditSpec, CheckpointSpec, ComputeSpec, DataSpec, JobSpec, LossSpec, ModelSpec, NonFiniteSpec, NumericsSpec,
    OptimizerSpec, PolicySpec, ResourcesSpec, ScheduleSpec, TrainSpec, WorkersSpec,
};

pub(crate) const LOGICAL_SHARDS: u32 = 16;

pub(crate) fn pool(name: &str, capacity: u32) -> PoolSpec {
    PoolSpec::local(name, true, capacity, 5_000)
}

pub(crate) fn job(name: &str, steps: u64, (min, max): (u32, u32), pools: &[&str]) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        data: DataSpec {
            manifest: "digits.manifest.json".to_owned(),
            digest: format!("blake3:{}", "0".repeat(64)),
            held_out: 0.1,
            held_out_seed: 0,
        },
        model: ModelSpec::Mlp { hidden: vec![8], dropout: 0.0 },
        train: TrainSpec {
            seed: 7,
            steps: Some(steps),
            epochs: None,
            global_batch: 64,
            logical_shards: LOGICAL_SHARDS,
            optimizer: OptimizerSpec::default(),
            schedule: ScheduleSpec::default(),
            clip_norm: None,
            loss: LossSpec::default(),
            compute: ComputeSpec::default(),
            numerics: NumericsSpec::Exact,
            on_nonfinite: NonFiniteSpec::default(),
            freeze: Vec::new(),
            eval_every: None,
            audit: AuditSpec::default(),
        },
        resources: ResourcesSpec {
            workers: WorkersSpec { min, max },
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            ..ResourcesSpec::default()
        },
        checkpoint: CheckpointSpec::default(),
        policy: PolicySpec::default(),
    }
}

/// What every worker's state is after so many updates: a pure function, as training is.
pub(crate) fn digest(job: &JobId, step: u64) -> String {
    format!("{job}@{step}")
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) jobs: Vec<JobView>,
    /// Every event that the scheduler saw and every action that it took, in words.
    pub(crate) history: Vec<String>,
    /// Processes that still run.
    pub(crate) left_behind: Vec<String>,
    /// Kinds of decisions taken.
    pub(crate) kinds: BTreeSet<&'static str>,
    /// Steps at which shards moved.
    pub(crate) moves: Vec<u64>,
    /// Decisions of each job, for a failure's message.
    pub(crate) decisions: String,
}

impl Ended {
    /// Every job ended: well, or for a reason that the faults explain.
    pub(crate) fn expect_ended(&self, seed: u64) {
        self.expect_clean(seed);
        for job in &self.jobs {
            let explained = match job.state {
                "succeeded" | "cancelled" => true,
                "failed" => ["in a row", "numerics", "repetitions", "right states"]
                    .iter()
                    .any(|reason| job.reason.contains(reason)),
                _ => false,
            };
            assert!(explained, "seed {seed}: {} is {}: {}\n{}", job.job, job.state, job.reason, self.decisions);
            self.check_success(seed, job);
            self.check_corruptions(seed, job);
        }
    }

    /// Whose shard was found to be wrong is not used any more, and nobody else.
    fn check_corruptions(&self, seed: u64, job: &JobView) {
        for corruption in &job.corruptions {
            let Differing { right: Some(right), digests, .. } = &corruption.differing else { continue };
            let wrong: Vec<_> = digests.iter().filter(|(_, digest)| *digest != right).map(|(w, _)| w.clone()).collect();
            assert_eq!(corruption.quarantined, wrong, "seed {seed}: {}\n{}", job.job, self.decisions);
            assert!(!corruption.open, "seed {seed}: {}\n{}", job.job, self.decisions);
        }
    }

    pub(crate) fn expect_succeeded(&self, seed: u64) {
        self.expect_clean(seed);
        for job in &self.jobs {
            let (id, state, reason) = (&job.job, job.state, &job.reason);
            assert_eq!(state, "succeeded", "seed {seed}: {id}: {reason}\n{}", self.decisions);
            self.check_success(seed, job);
        }
    }

    fn check_success(&self, seed: u64, job: &JobView) {
        if job.state == "succeeded" {
            assert_eq!(job.step, job.steps, "seed {seed}: {}", job.job);
            let expected = Some((digest(&job.job, job.steps), job.steps));
            assert_eq!(job.state_digest, expected, "seed {seed}: {}", job.job);
        }
    }

    fn expect_clean(&self, seed: u64) {
        assert!(self.left_behind.is_empty(), "seed {seed}: left behind: {:?}\n{}", self.left_behind, self.decisions);
    }
}
