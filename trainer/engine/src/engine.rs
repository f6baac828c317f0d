//! A job's replica with its data: which samples a shard computes on, in training and in evaluation.

use crate::batch::Batch;
use crate::cells;
use crate::device::Device;
use crate::error::{Doing, EngineError};
use crate::model::torchscript::{Torchscript, misfit};
use crate::model::{self, Instance};
use crate::replica::{Recipe, Replica, StepStats};
use crate::seed::{Purpose, mix};
use crate::task::{Input, Output, Score, Task};
use crate::torch;
use crate::trial;
use std::cell::Cell;
use std::ops::Range;
use trainctl_checkpoint::TensorInfo;
use trainctl_data::{Dataset, Sampler, Split};
use trainctl_jobs::{JobSpec, ModelSpec};

/// Everything that a worker computes of a job.
///
/// The state is one flat vector, described by [`Engine::tensors`]; it may be read and replaced as a whole between
/// calls. Nothing else in here outlives a call, so that the same state gives the same next one on every worker of one
/// [fingerprint](crate::fingerprint()).
pub struct Engine {
    replica: Replica,
    data: Dataset,
    sampler: Sampler,
    seed: u64,
    logical_shards: u32,
    micro_batch: u32,
    batch: Batch,
    rows: Vec<u64>,
    /// Whether the model is a module of the user's.
    own_module: bool,
}

/// The held-out samples, scored.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Evaluation {
    /// Mean over the predictions.
    pub loss: f64,
    /// Share of the predictions that is right; absent for regression.
    pub accuracy: Option<f64>,
}

/// Elements of an evaluation round's vector: sum of losses, right predictions, predictions.
const EVAL_LEN: usize = 3;

impl Engine {
    /// An engine in the state that the job's seed says, which computes on `device`. `spec` is resolved: `train.steps` is
    /// set.
    ///
    /// # Errors
    /// When model, loss and data don't fit together, or memory is short.
    pub fn new(spec: &JobSpec, data: Dataset, device: Device) -> Result<Self, EngineError> {
        let train = &spec.train;
        let Some(steps) = train.steps else {
            return Err(EngineError::Spec {
                field: "train.steps",
                expected: "a count of steps".to_owned(),
                found: "none".to_owned(),
                hint: "resolve the spec first: it turns train.epochs into steps",
            });
        };
        if train.logical_shards == 0
            || !train.global_batch.is_multiple_of(train.logical_shards)
            || train.global_batch == 0
        {
            return Err(EngineError::Spec {
                field: "train.global_batch",
                expected: format!("a multiple of train.logical_shards = {}, above 0", train.logical_shards),
                found: train.global_batch.to_string(),
                hint: "every logical shard takes an equal micro-batch of each step",
            });
        }
        let task = Task::new(spec, &data)?;
        let recipe = Recipe {
            seed: train.seed,
            steps,
            logical_shards: train.logical_shards,
            optimizer: train.optimizer.clone(),
            schedule: train.schedule.clone(),
            clip_norm: train.clip_norm,
            compute: train.compute,
            on_nonfinite: train.on_nonfinite,
            freeze: train.freeze.clone(),
        };
        let samples = match task.input {
            Input::Tokens { context } => data.windows(context as u32),
            Input::Features(_) => data.rows(),
        };
        let split = Split::new(samples, spec.data.held_out, spec.data.held_out_seed);
        if split.train_len() == 0 {
            return Err(EngineError::Spec {
                field: "data.manifest",
                expected: "at least one sample to train on".to_owned(),
                found: format!("{samples}"),
                hint: "text must be longer than model.context",
            });
        }
        let micro_batch = train.global_batch / train.logical_shards;
        let mut batch = Batch::new(&task, micro_batch as usize).doing("allocate a batch")?;
        let sampler = Sampler::new(train.seed, split);
        let mut rows = Vec::new();
        sampler.rows(0, 0, micro_batch, train.logical_shards, &mut rows);
        batch.fill(&data, &rows)?;
        let replica = if let ModelSpec::Torchscript { path, digest, .. } = &spec.model {
            torch::pin_threads();
            let mut others = Batch::new(&task, micro_batch as usize).doing("allocate a batch")?;
            sampler.rows(1, 0, micro_batch, train.logical_shards, &mut rows);
            others.fill(&data, &rows)?;
            let made = || {
                let model = Torchscript::load(path, digest, &task, [batch.input(), others.input()])?;
                let mut replica = Replica::new(task.clone(), Box::new(model), recipe, device.into())?;
                trial::run(&mut replica, &batch, train.seed)?;
                Ok(replica)
            };
            made().map_err(|error| misfit::explain(error, &task, micro_batch))?
        } else {
            let model = model::build(&spec.model, &task)?;
            Replica::new(task, model, recipe, device.into())?
        };
        Ok(Self {
            replica,
            data,
            sampler,
            seed: train.seed,
            logical_shards: train.logical_shards,
            micro_batch,
            batch,
            rows,
            own_module: matches!(spec.model, ModelSpec::Torchscript { .. }),
        })
    }

    /// The tensors of the state, in order; all offsets are multiples of 16 elements.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        self.replica.tensors()
    }

    /// Parameters, buffers and slots. Elements between tensors are zero.
    #[must_use]
    pub fn state(&self) -> &[f32] {
        self.replica.state()
    }

    /// The same, to be replaced by another worker's or a checkpoint's.
    pub fn state_mut(&mut self) -> &mut [f32] {
        self.replica.state_mut()
    }

    /// Elements of a training round's vector.
    #[must_use]
    pub fn train_len(&self) -> usize {
        self.replica.vector_len()
    }

    /// Overwrites `out` with the vector of one logical shard for the update `step`, counted from 0: a function of the
    /// state, `step` and `shard` alone.
    ///
    /// `ready` is told, on this thread and in the middle of the backward pass, from which element on `out` is final:
    /// ever lower ones, in the end 0. It may read and replace what is, so `out` are cells.
    ///
    /// # Errors
    /// When libtorch fails. What is not finite is not an error yet: it shows in the sum, to all workers alike.
    ///
    /// # Panics
    /// When `out` has not [`Engine::train_len`] elements or there is no such shard.
    pub fn train_shard(
        &mut self,
        step: u64,
        shard: u32,
        out: &[Cell<f32>],
        ready: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError> {
        self.shard(Instance::Training, step, shard, out, ready)
    }

    /// The same vector, computed once more by a second instance of the model: equal bits, unless the model's passes depend on
    /// more than the state, or this machine's arithmetic went wrong in one of the two.
    ///
    /// # Errors
    /// As [`Engine::train_shard`].
    ///
    /// # Panics
    /// As [`Engine::train_shard`].
    pub fn audit_shard(&mut self, step: u64, shard: u32, out: &[Cell<f32>]) -> Result<(), EngineError> {
        self.shard(Instance::Audit, step, shard, out, &mut |_| {})
    }

    fn shard(
        &mut self,
        instance: Instance,
        step: u64,
        shard: u32,
        out: &[Cell<f32>],
        ready: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError> {
        let seed = self.training_batch(step, shard)?;
        let done = self.replica.gradient(instance, (self.batch.input(), self.batch.target()), seed, out, ready);
        done.map_err(|error| self.explained(error))
    }

    /// Which logical shard of a step an audit computes a second time: a function of the job's seed and the step.
    #[must_use]
    pub fn audited_shard(&self, step: u64) -> u32 {
        (mix(self.seed, Purpose::Audit, step, 0) % u64::from(self.logical_shards)) as u32
    }

    /// Compares what the model has beside the state with what that was at first, value by value. To be called before a state
    /// is saved.
    ///
    /// # Errors
    /// [`EngineError::Moved`] names the first tensor that has other values.
    pub fn check_constants(&self) -> Result<(), EngineError> {
        self.replica.check_constants()
    }

    /// The same into a flat float32 tensor on the device that passes are computed on, [`Device::to_torch`]. What is put on
    /// the device need not be done yet when this returns.
    ///
    /// # Errors
    /// As [`Engine::train_shard`].
    ///
    /// # Panics
    /// As [`Engine::train_shard`].
    pub fn train_shard_into(&mut self, step: u64, shard: u32, out: &tch::Tensor) -> Result<(), EngineError> {
        self.shard_into(Instance::Training, step, shard, out)
    }

    /// [`Engine::audit_shard`] into such a tensor.
    ///
    /// # Errors
    /// As [`Engine::train_shard`].
    ///
    /// # Panics
    /// As [`Engine::train_shard`].
    pub fn audit_shard_into(&mut self, step: u64, shard: u32, out: &tch::Tensor) -> Result<(), EngineError> {
        self.shard_into(Instance::Audit, step, shard, out)
    }

    /// The values of such a tensor, once they are computed.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn values(&self, of: &tch::Tensor) -> Result<Vec<f32>, EngineError> {
        let mut values = vec![0f32; of.numel()];
        let copied = of.f_to_device(tch::Device::Cpu).and_then(|of| of.f_copy_data(&mut values, of.numel()));
        copied.doing("read a vector")?;
        Ok(values)
    }

    fn shard_into(&mut self, instance: Instance, step: u64, shard: u32, out: &tch::Tensor) -> Result<(), EngineError> {
        let seed = self.training_batch(step, shard)?;
        let done = self.replica.gradient_into(instance, (self.batch.input(), self.batch.target()), seed, out);
        done.map_err(|error| self.explained(error))
    }

    /// An error of a pass; a module of the user's may be what failed.
    fn explained(&self, error: EngineError) -> EngineError {
        if self.own_module { misfit::explain(error, self.replica.task(), self.micro_batch) } else { error }
    }

    /// Reads a shard's samples of a step; what its random numbers follow from.
    fn training_batch(&mut self, step: u64, shard: u32) -> Result<u64, EngineError> {
        assert!(shard < self.logical_shards, "shard {shard} of {}", self.logical_shards);
        if self.data.reads_ahead() {
            self.sampler.rows(step + 1, shard, self.micro_batch, self.logical_shards, &mut self.rows);
            let context = match self.replica.task().input {
                Input::Tokens { context } => Some(context as u32),
                Input::Features(_) => None,
            };
            self.data.read_ahead(&self.rows, context);
        }
        self.sampler.rows(step, shard, self.micro_batch, self.logical_shards, &mut self.rows);
        self.batch.fill(&self.data, &self.rows)?;
        Ok(mix(self.seed, Purpose::Dropout, step, u64::from(shard)))
    }

    /// Turns the sum of the vectors of all logical shards into the state after the update `step`, counted from 0. A sum
    /// that is not finite changes nothing but the count of skipped steps, where the job skips such steps.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] where the job does not skip, [`EngineError::AllSkipped`] where it skips for too long;
    /// the state is then as before.
    ///
    /// # Panics
    /// When `sum` has not [`Engine::train_len`] elements.
    pub fn apply(&mut self, step: u64, sum: &[f32]) -> Result<StepStats, EngineError> {
        self.replica.apply(step, sum)
    }

    /// How many steps were skipped so far because they were not finite, over the whole job.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.replica.skipped()
    }

    /// Whether the job goes on after what is not finite.
    #[must_use]
    pub fn skips_nonfinite(&self) -> bool {
        self.replica.skips_nonfinite()
    }

    /// Elements of an evaluation round's vector.
    #[must_use]
    pub fn eval_len(&self) -> usize {
        EVAL_LEN
    }

    /// Overwrites `out` with one logical shard's share of the evaluation: a function of the state and `shard` alone.
    ///
    /// # Errors
    /// When libtorch fails.
    ///
    /// # Panics
    /// When `out` has not [`Engine::eval_len`] elements or there is no such shard.
    pub fn eval_shard(&mut self, shard: u32, out: &[Cell<f32>]) -> Result<(), EngineError> {
        assert_eq!(out.len(), EVAL_LEN, "length of an evaluation round's vector");
        let mut total = Score::default();
        let mut samples = self.held_out_share(shard);
        while !samples.is_empty() {
            let end = samples.end.min(samples.start + u64::from(self.micro_batch));
            self.rows.clear();
            self.rows.extend((samples.start..end).map(|i| self.sampler.split().held_out_row(i)));
            samples.start = end;
            let score = self.score().map_err(|error| self.explained(error))?;
            total.loss += score.loss;
            total.right += score.right;
            total.count += score.count;
        }
        cells::fill(out, &[total.loss as f32, total.right as f32, total.count as f32]);
        Ok(())
    }

    /// The figures of an evaluation, from the sum of the vectors of all logical shards; none when the job holds no
    /// samples out.
    ///
    /// # Errors
    /// When the loss is not finite.
    ///
    /// # Panics
    /// When `sum` has not [`Engine::eval_len`] elements.
    pub fn evaluation(&self, sum: &[f32]) -> Result<Option<Evaluation>, EngineError> {
        assert_eq!(sum.len(), EVAL_LEN, "length of an evaluation round's vector");
        let [loss, right, count] = [sum[0], sum[1], sum[2]];
        if count == 0.0 {
            return Ok(None);
        }
        if !loss.is_finite() {
            return Err(EngineError::EvaluationNotFinite { loss });
        }
        let share = |part: f32| f64::from(part) / f64::from(count);
        let accuracy = match self.replica.task().output {
            Output::Class { .. } | Output::NextByte => Some(share(right)),
            Output::Number => None,
        };
        Ok(Some(Evaluation { loss: share(loss), accuracy }))
    }

    /// Which held-out samples a shard scores: consecutive ones, as even as can be.
    fn held_out_share(&self, shard: u32) -> Range<u64> {
        assert!(shard < self.logical_shards, "shard {shard} of {}", self.logical_shards);
        let (len, shards) = (u128::from(self.sampler.split().held_out_len()), u128::from(self.logical_shards));
        let bound = |shard: u32| (len * u128::from(shard) / shards) as u64;
        bound(shard)..bound(shard + 1)
    }

    fn score(&mut self) -> Result<Score, EngineError> {
        if self.rows.len() == self.micro_batch as usize {
            self.batch.fill(&self.data, &self.rows)?;
            return self.replica.score(self.batch.input(), self.batch.target());
        }
        let mut rest = Batch::new(self.replica.task(), self.rows.len()).doing("allocate a batch")?;
        rest.fill(&self.data, &self.rows)?;
        self.replica.score(rest.input(), rest.target())
    }
}

// A worker may hand its engine to a thread.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Engine>();
};
