//! A job as far as time and money go: steps, how long one takes on how many workers, and when it must be done.

use crate::setup::Conditions;
use trainctl_jobs::JobSpec;

/// A job to be planned.
#[derive(Clone, PartialEq, Debug)]
pub struct Workload {
    /// As submitted, with its steps known.
    pub spec: JobSpec,
    /// Updates in all.
    pub steps: u64,
    /// Workers that it takes when all are there.
    pub workers: u32,
    /// A step on all of them.
    pub step_ms: f64,
    /// From the submission.
    pub deadline_ms: Option<u64>,
}

/// Why a job can't be planned.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum WorkloadError {
    /// It has epochs and nobody counted its samples.
    #[error("train.steps: expected a count of steps, found none")]
    NoSteps,
    /// The time of a step is none.
    #[error("step time: expected seconds above 0, found {0}")]
    StepTime(f64),
    /// Not even capacity that is never taken is fast enough.
    #[error(
        "policy.deadline: expected at least {}, what {workers} on-demand workers need, found {}",
        humantime::format_duration(whole_seconds(*needed_ms)),
        humantime::format_duration(whole_seconds(*deadline_ms))
    )]
    Deadline {
        /// What it asks for.
        deadline_ms: u64,
        /// What it would take.
        needed_ms: u64,
        /// With so many.
        workers: u32,
    },
}

fn whole_seconds(ms: u64) -> std::time::Duration {
    std::time::Duration::from_secs(ms.div_ceil(1_000))
}

impl Workload {
    /// Of a job whose step takes so long on `measured_on` workers.
    ///
    /// # Errors
    /// It has no steps, a step takes no time, or the deadline can't be met on demand either.
    pub fn new(
        spec: &JobSpec,
        step_seconds: f64,
        measured_on: u32,
        conditions: &Conditions,
    ) -> Result<Self, WorkloadError> {
        let steps = spec.train.steps.ok_or(WorkloadError::NoSteps)?;
        if !(step_seconds.is_finite() && step_seconds > 0.0) {
            return Err(WorkloadError::StepTime(step_seconds));
        }
        let workers = spec.resources.workers.max.min(spec.train.logical_shards).max(1);
        let shards = |workers: u32| f64::from(spec.train.logical_shards.div_ceil(workers.max(1)));
        let step_ms = step_seconds * 1e3 * shards(workers) / shards(measured_on.min(spec.train.logical_shards));
        let deadline = spec.policy.deadline.as_deref().and_then(|text| humantime::parse_duration(text).ok());
        let deadline_ms = deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        let workload = Self { spec: spec.clone(), steps, workers, step_ms, deadline_ms };
        let needed_ms = workload.full_ms().ceil() as u64 + conditions.start_ms;
        match deadline_ms {
            Some(deadline_ms) if deadline_ms < needed_ms => {
                Err(WorkloadError::Deadline { deadline_ms, needed_ms, workers })
            }
            _ => Ok(workload),
        }
    }

    /// All steps on all workers, undisturbed.
    #[must_use]
    pub fn full_ms(&self) -> f64 {
        self.steps as f64 * self.step_ms
    }

    /// A step on so many workers: it takes as long as the one with most logical shards.
    #[must_use]
    pub fn step_ms_on(&self, workers: u32) -> f64 {
        let shards = |workers: u32| f64::from(self.spec.train.logical_shards.div_ceil(workers.max(1)));
        self.step_ms * shards(workers) / shards(self.workers)
    }

    /// Time of workers that all steps take at least, however many share them: with a count among which they are split
    /// evenly.
    #[must_use]
    pub fn worker_ms(&self) -> f64 {
        let of_step = |workers: u32| self.step_ms_on(workers) * f64::from(workers);
        self.steps as f64 * (1..=self.workers).map(of_step).fold(f64::INFINITY, f64::min)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use trainctl_jobs::parse;

    fn spec(steps: u64, workers: u32, shards: u32, deadline_min: u64) -> JobSpec {
        let zeros = "0".repeat(64);
        let policy = match deadline_min {
            0 => String::new(),
            _ => format!("deadline = \"{deadline_min} min\"\non_demand = \"to-meet-deadline\"\n"),
        };
        let text = format!(
            "name = \"job\"\n[data]\nmanifest = \"m.json\"\ndigest = \"blake3:{zeros}\"\n[model]\nkind = \"mlp\"\n\
             hidden = [8]\n[train]\nsteps = {steps}\nglobal_batch = {}\nlogical_shards = {shards}\n[resources]\n\
             workers = {{ min = 1, max = {workers} }}\n[policy]\n{policy}",
            shards * 8
        );
        parse(&text, "job.toml").unwrap_or_else(|error| panic!("{error}"))
    }

    /// One step a minute on all workers; 0: no deadline.
    pub(crate) fn workload(minutes: u64, workers: u32, deadline_min: u64) -> Workload {
        let conditions = Conditions { start_ms: 0, ..Conditions::default() };
        Workload::new(&spec(minutes, workers, workers, deadline_min), 60.0, workers, &conditions).unwrap()
    }

    #[test]
    fn a_step_takes_as_long_as_the_largest_share() {
        let conditions = Conditions::default();
        let workload = Workload::new(&spec(100, 8, 10, 0), 1.0, 8, &conditions).unwrap();
        let on: Vec<f64> = [1, 3, 5, 8].map(|workers| workload.step_ms_on(workers)).to_vec();
        assert_eq!(on, [5_000.0, 2_000.0, 1_000.0, 1_000.0]);
        // Five are as fast as eight; one alone wastes nothing either.
        assert_eq!(workload.worker_ms(), 100.0 * 5_000.0);
        let measured = Workload::new(&spec(100, 8, 8, 0), 4.0, 2, &conditions).unwrap();
        assert_eq!(measured.step_ms, 1_000.0);
    }

    #[test]
    fn a_deadline_that_nobody_can_meet_is_refused() {
        let refused = Workload::new(&spec(600, 8, 8, 600), 60.0, 8, &Conditions::default()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "policy.deadline: expected at least 10h 3m, what 8 on-demand workers need, found 10h"
        );
        assert_eq!(Workload::new(&spec(1, 1, 1, 0), 0.0, 1, &Conditions::default()), Err(WorkloadError::StepTime(0.0)));
    }
}
