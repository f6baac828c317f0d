//! A model with its state: gradients of a batch, scores of a batch, and updates. It knows no data set.

use crate::error::{Doing, EngineError, NotFinite};
use crate::layout::{Layout, Place};
use crate::model::{Declared, Model, Pass, initial_seed};
use crate::norm::sum_of_squares;
use crate::optimizer::{self, Update};
use crate::schedule::share_of_peak;
use crate::storage::{MASTER, Storage};
use crate::task::{Score, Task};
use crate::torch;
use tch::{Kind, Reduction, TchError, Tensor};
use trainctl_checkpoint::TensorInfo;
use trainctl_jobs::{ComputeSpec, OptimizerSpec, ScheduleSpec};

/// How a replica trains: the part of the job spec that its arithmetic depends on.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) logical_shards: u32,
    pub(crate) optimizer: OptimizerSpec,
    pub(crate) schedule: ScheduleSpec,
    pub(crate) clip_norm: Option<f64>,
    pub(crate) compute: ComputeSpec,
}

/// What one update was like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepStats {
    /// Mean over the step's samples, before the update.
    pub loss: f32,
    /// L2 norm of the mean gradient, before clipping.
    pub grad_norm: f64,
}

pub(crate) struct Replica {
    task: Task,
    model: Box<dyn Model>,
    recipe: Recipe,
    layout: Layout,
    state: Storage<f32>,
    /// Views into the state: what autograd differentiates by.
    parameters: Vec<Tensor>,
    /// Views into the state: what evaluation reads.
    buffers: Vec<Tensor>,
    /// A shard's own copy of the buffers, laid out like them, which its forward pass updates.
    scratch: Storage<f32>,
    scratch_buffers: Vec<Tensor>,
    norm_blocks: Vec<f64>,
}

impl Replica {
    /// With the initial state.
    pub(crate) fn new(task: Task, model: Box<dyn Model>, recipe: Recipe) -> Result<Self, EngineError> {
        torch::pin_threads();
        let (parameters, buffers) = (model.parameters(), model.buffers());
        let layout = Layout::new(&parameters, &buffers, optimizer::slot_names(&recipe.optimizer));
        let values = |at: &TensorInfo| at.offset..at.offset + at.len;
        let allocate = || -> Result<Self, TchError> {
            let mut state = Storage::zeros(&[layout.state_len() as i64])?;
            for (i, (tensor, at)) in parameters.iter().chain(&buffers).zip(&layout.tensors).enumerate() {
                tensor.initial.fill(initial_seed(recipe.seed, i), &mut state.as_mut_slice()[values(at)]);
            }
            let scratch = Storage::zeros(&[layout.buffers_len as i64])?;
            let views = |of: &Storage<f32>, start: usize, declared: &[Declared], places: &[Place]| {
                let view = |(tensor, place): (&Declared, &Place)| of.part(start + place.offset, &tensor.shape);
                declared.iter().zip(places).map(view).collect::<Result<Vec<_>, _>>()
            };
            let leaves = views(&state, 0, &parameters, &layout.parameters)?;
            Ok(Self {
                parameters: leaves.into_iter().map(|leaf| leaf.set_requires_grad(true)).collect(),
                buffers: views(&state, layout.parameters_len, &buffers, &layout.buffers)?,
                scratch_buffers: views(&scratch, 0, &buffers, &layout.buffers)?,
                norm_blocks: Vec::new(),
                task,
                model,
                recipe,
                layout,
                state,
                scratch,
            })
        };
        allocate().doing("allocate the state")
    }

    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    pub(crate) fn tensors(&self) -> &[TensorInfo] {
        &self.layout.tensors
    }

    pub(crate) fn state(&self) -> &[f32] {
        self.state.as_slice()
    }

    pub(crate) fn state_mut(&mut self) -> &mut [f32] {
        self.state.as_mut_slice()
    }

    pub(crate) fn vector_len(&self) -> usize {
        self.layout.vector_len()
    }

    /// Overwrites `out` with the gradient of the batch's mean loss, the buffers after its forward pass, and the loss.
    /// Random numbers follow from `seed`.
    pub(crate) fn gradient(
        &mut self,
        input: &Tensor,
        target: &Tensor,
        seed: u64,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        assert_eq!(out.len(), self.layout.vector_len(), "length of a training round's vector");
        torch::pin_threads();
        let (gradient, rest) = out.split_at_mut(self.layout.parameters_len);
        let (buffers, tail) = rest.split_at_mut(self.layout.buffers_len);
        let of_state = self.layout.parameters_len..self.layout.parameters_len + self.layout.buffers_len;
        self.scratch.as_mut_slice().copy_from_slice(&self.state.as_slice()[of_state]);

        let loss = self.training_loss(input, target, seed).doing("compute a forward pass")?;
        let gradients = Tensor::f_run_backward(&[&loss], &self.parameters, false, false).doing("compute a gradient")?;
        for (of_parameter, place) in gradients.iter().zip(&self.layout.parameters) {
            let (values, padding) = gradient[place.offset..place.offset + place.padded_len].split_at_mut(place.len);
            of_parameter.f_copy_data(values, place.len).doing("copy a gradient")?;
            padding.fill(0.0);
        }
        buffers.copy_from_slice(self.scratch.as_slice());
        tail.fill(0.0);
        tail[0] = loss.f_double_value(&[]).doing("read the loss")? as f32;
        Ok(())
    }

    fn training_loss(&self, input: &Tensor, target: &Tensor, seed: u64) -> Result<Tensor, TchError> {
        let _generator = self.model.draws().then(|| torch::seeded(seed));
        let pass = Pass::new(&self.parameters, &self.scratch_buffers, self.compute(), true);
        let outputs = self.model.forward(input, &pass)?;
        debug_assert!(pass.is_complete(), "the model used all that it declared");
        self.task.loss(&outputs, target, Reduction::Mean)
    }

    /// Scores the current parameters on a batch, with running statistics and without dropout.
    pub(crate) fn score(&self, input: &Tensor, target: &Tensor) -> Result<Score, EngineError> {
        torch::pin_threads();
        let _without_graph = tch::no_grad_guard();
        let pass = Pass::new(&self.parameters, &self.buffers, self.compute(), false);
        let outputs = self.model.forward(input, &pass).doing("compute a forward pass")?;
        self.task.score(&outputs, target).doing("score a batch")
    }

    /// The update number `step`, counted from 0, from the sum of all shards' vectors. The state is left as it is when
    /// the sum is not finite.
    pub(crate) fn apply(&mut self, step: u64, sum: &[f32]) -> Result<StepStats, EngineError> {
        assert_eq!(sum.len(), self.layout.vector_len(), "length of a training round's vector");
        let (gradient, rest) = sum.split_at(self.layout.parameters_len);
        let (buffers, tail) = rest.split_at(self.layout.buffers_len);
        let over_shards = 1.0 / f64::from(self.recipe.logical_shards);
        let mean = over_shards as f32;

        let not_finite = |what| Err(EngineError::NotFinite { step, what });
        let loss = tail[0] * mean;
        if !loss.is_finite() {
            return not_finite(NotFinite::Loss);
        }
        let grad_norm = sum_of_squares(gradient, &mut self.norm_blocks).sqrt() * over_shards;
        if !grad_norm.is_finite() {
            return not_finite(NotFinite::Gradient);
        }
        if !buffers.iter().all(|value| value.is_finite()) {
            return not_finite(NotFinite::Buffer);
        }

        let update = Update {
            step,
            share_of_peak: share_of_peak(&self.recipe.schedule, step, self.recipe.steps),
            gradient_scale: (over_shards * clip_factor(self.recipe.clip_norm, grad_norm)) as f32,
        };
        let (parameters, rest) = self.state.as_mut_slice().split_at_mut(self.layout.parameters_len);
        let (running, slots) = rest.split_at_mut(self.layout.buffers_len);
        optimizer::apply(&self.recipe.optimizer, &self.layout, update, parameters, slots, gradient);
        for (running, &sum) in running.iter_mut().zip(buffers) {
            *running = sum * mean;
        }
        Ok(StepStats { loss, grad_norm })
    }

    fn compute(&self) -> Kind {
        match self.recipe.compute {
            ComputeSpec::Fp32 => MASTER,
            ComputeSpec::Bf16 => Kind::BFloat16,
        }
    }
}

/// What the gradient is multiplied by so that its norm is at most `clip_norm`.
fn clip_factor(clip_norm: Option<f64>, grad_norm: f64) -> f64 {
    match clip_norm {
        Some(max) if grad_norm > max => max / grad_norm,
        _ => 1.0,
    }
}
