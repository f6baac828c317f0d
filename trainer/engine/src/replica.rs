//! A model with its state: gradients of a batch, scores of a batch, and updates. It knows no data set.

use crate::cells;
use crate::device::Placement;
use crate::error::{Doing, EngineError, NotFinite};
use crate::gradients::Gradients;
use crate::layout::{Counter, Layout, Parameter};
use crate::mirror::Mirror;
use crate::model::{Declared, Instance, Model, Pass, Views, initial_seed};
use crate::norm::sum_of_squares;
use crate::numbers::as_read;
use crate::optimizer::{self, Update};
use crate::schedule::share_of_peak;
use crate::skips::{self, Skips};
use crate::storage::{MASTER, Storage};
use crate::task::{Score, Task};
use crate::torch;
use std::cell::Cell;
use std::ops::Range;
use tch::{Kind, Reduction, TchError, Tensor};
use trainctl_checkpoint::{Group, TensorInfo};
use trainctl_jobs::{ComputeSpec, FreezeMisfit, NonFiniteSpec, OptimizerSpec, ScheduleSpec};

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
    pub(crate) on_nonfinite: NonFiniteSpec,
    /// Patterns on the names of parameters that stay as they are.
    pub(crate) freeze: Vec<String>,
}

/// What one update was like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepStats {
    /// Mean over the step's samples, before the update.
    pub loss: f32,
    /// L2 norm of the mean gradient, before clipping.
    pub grad_norm: f64,
    /// What was not finite, and why the parameters are as they were; `None` for an update like any other.
    pub skipped: Option<NotFinite>,
}

pub(crate) struct Replica {
    task: Task,
    model: Box<dyn Model>,
    recipe: Recipe,
    layout: Layout,
    state: Storage<f32>,
    /// As what passes read the buffers.
    buffer_kinds: Vec<Kind>,
    /// Where passes are computed, if not on the state itself.
    mirror: Option<Mirror>,
    /// The leaves of autograd's graph, on the state's memory or its mirror's; those that are frozen ask for no gradient.
    parameters: Vec<Tensor>,
    /// The state's buffers as a pass finds and may update them, laid out like them; where there is a mirror, its are
    /// copied from these and back.
    scratch: Storage<f32>,
    scratch_buffers: Vec<Tensor>,
    gradients: Gradients,
    norm_blocks: Vec<f64>,
}

impl Replica {
    /// With the initial state.
    pub(crate) fn new(
        task: Task,
        mut model: Box<dyn Model>,
        recipe: Recipe,
        placement: Placement,
    ) -> Result<Self, EngineError> {
        torch::pin_threads();
        let (parameters, buffers) = (model.parameters(), model.buffers());
        let counters: Vec<Counter> = skips::counter(recipe.on_nonfinite).into_iter().collect();
        let frozen = frozen(&recipe.freeze, &parameters)?;
        let all_parameters: Vec<Parameter<'_>> =
            parameters.iter().zip(&frozen).map(|(declared, &frozen)| Parameter { declared, frozen }).collect();
        let mut layout = Layout::new(&all_parameters, &buffers, optimizer::slot_names(&recipe.optimizer), &counters);
        let buffer_starts: Vec<usize> =
            layout.buffers.iter().map(|place| layout.parameters_len + place.offset).collect();
        let allocate = move || -> Result<Self, TchError> {
            let mut state = Storage::zeros(&[layout.state_len() as i64])?;
            let starts = layout.starts.iter().chain(&buffer_starts);
            for (i, (tensor, &start)) in parameters.iter().chain(&buffers).zip(starts).enumerate() {
                let values = start..start + tensor.shape.iter().product::<i64>() as usize;
                tensor.initial.fill(initial_seed(recipe.seed, i), &mut state.as_mut_slice()[values]);
            }
            let scratch = Storage::zeros(&[layout.buffers_len as i64])?;
            let mut mirror = match placement {
                Placement::InState => None,
                Placement::Beside(device) => Some(Mirror::new(&layout, device)?),
            };
            if let Some(mirror) = &mut mirror {
                mirror.begin(&state, &scratch)?;
            }
            let scratch_starts: Vec<usize> = layout.buffers.iter().map(|place| place.offset).collect();
            let in_state = |start, shape: &[i64]| state.part(start, shape);
            let mut views = match &mirror {
                None => Views {
                    parameters: views(&parameters, &layout.starts, in_state)?,
                    buffers: views(&buffers, &buffer_starts, in_state)?,
                    scratch: views(&buffers, &scratch_starts, |start, shape| scratch.part(start, shape))?,
                },
                Some(mirror) => Views {
                    parameters: views(&parameters, &layout.starts, |start, shape| mirror.parameter(start, shape))?,
                    buffers: views(&buffers, &buffer_starts, in_state)?,
                    scratch: views(&buffers, &scratch_starts, |start, shape| mirror.buffer(start, shape))?,
                },
            };
            let leaves = model.adopt(&mut views)?;
            if let Some(mirror) = &mirror {
                mirror.take_parameters(&mut state)?;
            }
            for buffer in buffers.iter().filter(|buffer| buffer.may_be_absent) {
                let of_buffer = |it: &&mut TensorInfo| it.group == Group::Model && it.name == buffer.name;
                if let Some(tensor) = layout.tensors.iter_mut().find(of_buffer) {
                    let bits = tensor.values(state.as_slice()).iter().map(|value| value.to_bits());
                    tensor.absent = Some(bits.collect());
                }
            }
            let mut trained = Vec::new();
            for (leaf, &frozen) in leaves.iter().zip(&frozen) {
                if frozen {
                    // The leaf itself: what comes back is another name for it.
                    drop(leaf.f_set_requires_grad(false)?);
                } else {
                    trained.push(leaf.shallow_clone());
                }
            }
            Ok(Self {
                gradients: Gradients::new(&trained, &layout.parameters)?,
                parameters: leaves,
                scratch_buffers: views.scratch,
                norm_blocks: Vec::new(),
                buffer_kinds: buffers.iter().map(|buffer| buffer.kind).collect(),
                task,
                model,
                recipe,
                layout,
                state,
                mirror,
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
        if let Some(mirror) = &mut self.mirror {
            mirror.replaced();
        }
        self.state.as_mut_slice()
    }

    pub(crate) fn vector_len(&self) -> usize {
        self.layout.vector_len()
    }

    /// Writes the gradient of the batch's mean loss, what its forward pass added to the buffers, and the loss, to `out`. Random
    /// numbers follow from `seed`. `ready` is told during the pass from which element on `out` is final, in the end 0.
    pub(crate) fn gradient(
        &mut self,
        instance: Instance,
        (input, target): (&Tensor, &Tensor),
        seed: u64,
        out: &[Cell<f32>],
        ready: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError> {
        assert_eq!(out.len(), self.layout.vector_len(), "length of a training round's vector");
        torch::pin_threads();
        let (gradient, rest) = out.split_at(self.layout.parameters_len);
        let (buffers, tail) = rest.split_at(self.layout.buffers_len);
        let loss = self.training_loss(instance, input, target, seed).doing("compute a forward pass")?;
        let value = loss.f_double_value(&[]).doing("read the loss")? as f32;
        if let Some(mirror) = &self.mirror {
            mirror.take_buffers(&mut self.scratch).doing("read the buffers")?;
        }
        self.write_added(buffers);
        tail.iter().for_each(|float| float.set(0.0));
        tail[0].set(value);
        ready(self.layout.parameters_len);
        self.gradients.backward(&loss, gradient, ready).doing("compute a gradient")
    }

    /// The same into a flat float32 tensor where passes are computed. What is put on the device need not be done yet.
    pub(crate) fn gradient_into(
        &mut self,
        instance: Instance,
        (input, target): (&Tensor, &Tensor),
        seed: u64,
        out: &Tensor,
    ) -> Result<(), EngineError> {
        assert_eq!(out.numel(), self.layout.vector_len(), "length of a training round's vector");
        torch::pin_threads();
        let (parameters, buffers) = (self.layout.parameters_len as i64, self.layout.buffers_len as i64);
        let tail = parameters + buffers;
        let loss = self.training_loss(instance, input, target, seed).doing("compute a forward pass")?;
        let fill = || -> Result<Tensor, TchError> {
            let _without_graph = tch::no_grad_guard();
            out.f_narrow(0, parameters, buffers)?.f_copy_(&self.added()?)?;
            out.f_narrow(0, tail, out.numel() as i64 - tail)?.f_zero_()?.f_narrow(0, 0, 1)?.f_copy_(&loss)?;
            out.f_narrow(0, 0, parameters)
        };
        let gradient = fill().doing("write the buffers and the loss")?;
        self.gradients.backward_into(&loss, &gradient).doing("compute a gradient")
    }

    /// Where the buffers lie, in the state and, as what is added to them, in a round's vector.
    pub(crate) fn buffers(&self) -> Range<usize> {
        self.layout.parameters_len..self.layout.parameters_len + self.layout.buffers_len
    }

    /// The buffers as the last pass that wrote a vector left them.
    pub(crate) fn buffers_after_pass(&self) -> &[f32] {
        self.scratch.as_slice()
    }

    /// What the last pass added to each element of the buffers, from the scratch. Zero for one that it left as it was, also
    /// where that is infinite or NaN.
    fn write_added(&self, out: &[Cell<f32>]) {
        out.iter().for_each(|added| added.set(0.0));
        let scratch = self.scratch.as_slice();
        for (range, before) in self.buffers_as_read() {
            let after = &scratch[range.clone()];
            for ((added, before), after) in out[range].iter().zip(before).zip(after) {
                added.set(if before.to_bits() == after.to_bits() { 0.0 } else { after - before });
            }
        }
    }

    /// The same on the device, whose buffers the pass wrote to while the scratch is as it was.
    fn added(&self) -> Result<Tensor, TchError> {
        let Some(mirror) = &self.mirror else {
            let added = Tensor::f_zeros([self.layout.buffers_len as i64], (MASTER, tch::Device::Cpu))?;
            let mut values = vec![0.0; self.layout.buffers_len];
            self.write_added(cells::of(&mut values));
            added.shallow_clone().f_copy_(&Tensor::f_from_slice(&values)?)?;
            return Ok(added);
        };
        let (before, after) = (mirror.here(self.scratch.tensor())?, mirror.buffers());
        let bits = |of: &Tensor| of.f_view_dtype(Kind::Int);
        let same = bits(&before)?.f_eq_tensor(&bits(after)?)?;
        after.f_sub(&before)?.f_masked_fill(&same, 0.0)
    }

    /// Each buffer's elements among all buffers', and what a pass finds in them.
    fn buffers_as_read(&self) -> impl Iterator<Item = (Range<usize>, impl Iterator<Item = f32>)> {
        let state = &self.state.as_slice()[self.layout.parameters_len..];
        self.layout.buffers.iter().zip(&self.buffer_kinds).map(move |(place, &kind)| {
            let range = place.offset..place.offset + place.len;
            (range.clone(), state[range].iter().map(move |&value| as_read(kind, value)))
        })
    }

    fn training_loss(
        &mut self,
        instance: Instance,
        input: &Tensor,
        target: &Tensor,
        seed: u64,
    ) -> Result<Tensor, TchError> {
        let _generator = self.model.draws().then(|| torch::seeded(seed));
        let outputs = self.forward(instance, input, true)?;
        self.task.loss(&outputs, &self.here(target)?, Reduction::Mean)
    }

    /// A pass over the state's own values; what it does to buffers stays in the scratch.
    fn forward(&mut self, instance: Instance, input: &Tensor, training: bool) -> Result<Tensor, TchError> {
        self.fill_scratch();
        if let Some(mirror) = &mut self.mirror {
            mirror.begin(&self.state, &self.scratch)?;
        }
        let pass = Pass::new(&self.parameters, &self.scratch_buffers, compute(&self.recipe), training, instance);
        let input = self.here(input)?;
        let outputs = self.model.forward(&input, &pass)?;
        debug_assert!(pass.is_complete(), "the model used all that it declared");
        Ok(outputs)
    }

    /// Puts the buffers where a pass finds them, as it reads them.
    fn fill_scratch(&mut self) {
        let of_state = self.buffers();
        let (scratch, state) = (self.scratch.as_mut_slice(), &self.state.as_slice()[of_state]);
        scratch.copy_from_slice(state);
        for (place, &kind) in self.layout.buffers.iter().zip(&self.buffer_kinds).filter(|(_, kind)| **kind != MASTER) {
            for value in &mut scratch[place.offset..place.offset + place.len] {
                *value = as_read(kind, *value);
            }
        }
    }

    /// Compares what the model has beside the state with what that was at first.
    pub(crate) fn check_constants(&self) -> Result<(), EngineError> {
        self.model.check_constants()
    }

    /// The tensor where passes are computed.
    fn here(&self, tensor: &Tensor) -> Result<Tensor, TchError> {
        self.mirror.as_ref().map_or_else(|| Ok(tensor.shallow_clone()), |mirror| mirror.here(tensor))
    }

    /// Scores the current parameters on a batch, with running statistics and without dropout.
    pub(crate) fn score(&mut self, input: &Tensor, target: &Tensor) -> Result<Score, EngineError> {
        let outputs = self.outputs(input)?;
        let _without_graph = tch::no_grad_guard();
        self.here(target).and_then(|target| self.task.score(&outputs, &target)).doing("score a batch")
    }

    /// The outputs of an evaluation pass.
    pub(crate) fn outputs(&mut self, input: &Tensor) -> Result<Tensor, EngineError> {
        torch::pin_threads();
        let _without_graph = tch::no_grad_guard();
        self.forward(Instance::Training, input, false).doing("compute an evaluation pass")
    }

    /// The update number `step`, counted from 0, from the sum of all shards' vectors. When the sum is not finite, the
    /// state is left as it is, but for the count of skipped steps where the job skips them.
    pub(crate) fn apply(&mut self, step: u64, sum: &[f32]) -> Result<StepStats, EngineError> {
        assert_eq!(sum.len(), self.layout.vector_len(), "length of a training round's vector");
        let (gradient, rest) = sum.split_at(self.layout.parameters_len);
        let (buffers, tail) = rest.split_at(self.layout.buffers_len);
        let over_shards = 1.0 / f64::from(self.recipe.logical_shards);
        let mean = over_shards as f32;

        let loss = tail[0] * mean;
        let grad_norm = sum_of_squares(gradient, &mut self.norm_blocks).sqrt() * over_shards;
        let what = if !loss.is_finite() {
            Some(NotFinite::Loss)
        } else if !grad_norm.is_finite() {
            Some(NotFinite::Gradient)
        } else if !buffers.iter().all(|value| value.is_finite()) {
            Some(NotFinite::Buffer)
        } else {
            None
        };
        if let Some(what) = what {
            let Some(mut skips) = self.skips() else { return Err(EngineError::NotFinite { step, what }) };
            skips.one_more(step, what)?;
            return Ok(StepStats { loss, grad_norm, skipped: Some(what) });
        }

        let update = Update {
            step,
            share_of_peak: share_of_peak(&self.recipe.schedule, step, self.recipe.steps),
            gradient_scale: (over_shards * clip_factor(self.recipe.clip_norm, grad_norm)) as f32,
        };
        if let Some(mirror) = &mut self.mirror {
            mirror.updated();
        }
        let before = &mut self.state.as_mut_slice()[..self.layout.counters_start()];
        let (parameters, rest) = before.split_at_mut(self.layout.parameters_len);
        let (running, slots) = rest.split_at_mut(self.layout.buffers_len);
        optimizer::apply(&self.recipe.optimizer, &self.layout, update, parameters, slots, gradient);
        // In double precision, so that a count that each shard raises by one is raised by one.
        let shards = f64::from(self.recipe.logical_shards);
        for (running, &added) in running.iter_mut().zip(buffers).filter(|(_, added)| **added != 0.0) {
            *running = (f64::from(*running) + f64::from(added) / shards) as f32;
        }
        if let Some(mut skips) = self.skips() {
            skips.end_row();
        }
        Ok(StepStats { loss, grad_norm, skipped: None })
    }

    /// What lies at an element of a round's vector, in words.
    pub(crate) fn part_at(&self, at: usize) -> String {
        let within = |tensor: &&TensorInfo| (tensor.offset..tensor.offset + tensor.len).contains(&at);
        let mut in_state = self.layout.tensors.iter().take_while(|tensor| tensor.group == Group::Model);
        let (parameters_len, buffers_len) = (self.layout.parameters_len, self.layout.buffers_len);
        match in_state.find(within) {
            Some(tensor) if at < parameters_len => format!("gradient of {}", tensor.name),
            Some(tensor) if at < parameters_len + buffers_len => format!("buffer {}", tensor.name),
            _ => "loss".to_owned(),
        }
    }

    /// How many steps were skipped so far.
    pub(crate) fn skipped(&self) -> u64 {
        self.skips_range().map_or(0, |range| skips::total(&self.state.as_slice()[range]))
    }

    /// Whether the job goes on after what is not finite.
    pub(crate) fn skips_nonfinite(&self) -> bool {
        self.recipe.on_nonfinite == NonFiniteSpec::Skip
    }

    fn skips_range(&self) -> Option<Range<usize>> {
        let place = self.layout.counters.first()?;
        let start = self.layout.counters_start() + place.offset;
        Some(start..start + place.len)
    }

    /// The state's count of skipped steps, where the job skips them.
    fn skips(&mut self) -> Option<Skips<'_>> {
        let range = self.skips_range()?;
        Some(Skips::new(&mut self.state.as_mut_slice()[range]))
    }
}

/// Views for these tensors, which start there.
fn views(
    declared: &[Declared],
    starts: &[usize],
    view: impl Fn(usize, &[i64]) -> Result<Tensor, TchError>,
) -> Result<Vec<Tensor>, TchError> {
    declared.iter().zip(starts).map(|(tensor, &start)| view(start, &tensor.shape)).collect()
}

/// Which of the parameters stay as they are.
fn frozen(patterns: &[String], parameters: &[Declared]) -> Result<Vec<bool>, EngineError> {
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    trainctl_jobs::frozen(patterns, &names).map_err(|FreezeMisfit { expected, found }| EngineError::Spec {
        field: "train.freeze",
        expected,
        found,
        hint: "such as \"layers.0.*\" for all of a layer",
    })
}

fn compute(recipe: &Recipe) -> Kind {
    match recipe.compute {
        ComputeSpec::Fp32 => MASTER,
        ComputeSpec::Bf16 => Kind::BFloat16,
    }
}

/// What the gradient is multiplied by so that its norm is at most `clip_norm`.
fn clip_factor(clip_norm: Option<f64>, grad_norm: f64) -> f64 {
    match clip_norm {
        Some(max) if grad_norm > max => max / grad_norm,
        _ => 1.0,
    }
}
