//! A module of the user's, exported from Python. Its parameters live in the flat state; so do its buffers that training
//! changes. Those that it does not change, and parameters that ask for no gradient, stay as the file has them.

mod export;
mod file;
mod inspect;
mod module;

pub use export::export_torchscript;

use super::{Declared, Initial, Model, Pass, Views};
use crate::error::{EngineError, without_stack};
use crate::storage::Storage;
use crate::task::{Output, Task};
use module::{Module, Named};
use tch::{Device, Kind, TchError, Tensor};

pub(crate) struct Torchscript {
    module: Module,
    task: Task,
    /// What is trained.
    parameters: Vec<Named>,
    /// All buffers, in the module's order, and what each is to training.
    buffers: Vec<(Named, Role)>,
    /// The memory of the counters, the host's, one to a cache line.
    counters: Storage<i64>,
}

/// What a buffer is to training.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Floats that a training pass moves, such as running statistics: each shard's pass starts from the state's, and
    /// the next state's are the mean over the shards.
    Moving,
    /// A whole number that a training pass raises by one, such as `num_batches_tracked`.
    Counter,
    /// No pass writes to it.
    Constant,
}

/// Elements of i64 in a cache line.
const COUNTER_STRIDE: usize = 8;

impl Torchscript {
    /// Loads `path`, whose bytes have this digest, for the task. `input` is a batch as in training.
    ///
    /// # Errors
    /// [`EngineError::Spec`] for a file that is not the pinned one and for a module that can't be trained here.
    pub(crate) fn load(path: &str, digest: &str, task: &Task, input: &Tensor) -> Result<Self, EngineError> {
        let bytes = file::read(path, digest)?;
        let (mut module, tensors) =
            Module::load(&bytes).map_err(|error| file::not_loaded(path, without_stack(error)))?;
        drop(bytes);
        let parameters = inspect::trainable(path, tensors.parameters)?;
        let buffers = inspect::roles(path, &mut module, tensors.buffers, input)?;
        let count = buffers.iter().filter(|(_, role)| *role == Role::Counter).count();
        let counters = Storage::zeros(&[(count * COUNTER_STRIDE) as i64])
            .map_err(|source| EngineError::Torch { doing: "allocate the state", source })?;
        Ok(Self { module, task: task.clone(), parameters, buffers, counters })
    }

    fn of_role(&self, wanted: Role) -> impl Iterator<Item = &Named> {
        self.buffers.iter().filter(move |(_, role)| *role == wanted).map(|(named, _)| named)
    }

    /// The outputs as rows, or what is wrong with them.
    fn rows(&self, outputs: Tensor, input: &Tensor) -> Result<Tensor, TchError> {
        let (samples, width) = (input.size()[0], self.task.output.width());
        let (shape, rows) = (outputs.size(), shapes(self.task.output, samples, input.size().get(1).copied()));
        if outputs.kind() != Kind::Float || !rows.contains(&shape) {
            let wanted: Vec<String> = rows.iter().map(|shape| format!("{shape:?}")).collect();
            return Err(TchError::Shape(format!(
                "expected float32 outputs of shape {} for {samples} samples, found {:?} of shape {shape:?}",
                wanted.join(" or "),
                outputs.kind(),
            )));
        }
        outputs.f_reshape([-1, width])
    }

    /// Refuses a pass that broke what [`inspect::roles`] found.
    fn check_buffers(&self, before: &[f32], training: bool) -> Result<(), TchError> {
        let step = i64::from(training);
        let mut counters = before.iter().zip(self.counters.as_slice().chunks(COUNTER_STRIDE));
        for (i, (named, role)) in self.buffers.iter().enumerate() {
            let broken = match role {
                Role::Moving => None,
                Role::Constant => self.module.changed(i).then_some("no change, as in the first pass"),
                Role::Counter => {
                    let kept = counters.next().is_none_or(|(&before, now)| now[0] == before as i64 + step);
                    (!kept).then_some("one more after each training pass, as after the first")
                }
            };
            if let Some(expected) = broken {
                return Err(TchError::Torch(format!(
                    "buffer {}: expected {expected}, found another value",
                    named.name
                )));
            }
        }
        Ok(())
    }
}

/// Which shapes the outputs may have.
fn shapes(output: Output, samples: i64, context: Option<i64>) -> Vec<Vec<i64>> {
    match output {
        Output::Class { classes } => vec![vec![samples, classes]],
        Output::Number => vec![vec![samples, 1], vec![samples]],
        Output::NextByte => {
            let (context, width) = (context.unwrap_or(1), output.width());
            vec![vec![samples, context, width], vec![samples * context, width]]
        }
    }
}

fn declare(named: &Named) -> Declared {
    Declared { name: named.name.clone(), shape: named.tensor.size(), initial: Initial::Own }
}

impl Model for Torchscript {
    fn parameters(&self) -> Vec<Declared> {
        self.parameters.iter().map(declare).collect()
    }

    fn buffers(&self) -> Vec<Declared> {
        self.of_role(Role::Moving).map(declare).collect()
    }

    fn counters(&self) -> Vec<(String, Vec<i64>, f32)> {
        let first = |tensor: &Tensor| tensor.int64_value(&vec![0; tensor.dim()]) as f32;
        self.of_role(Role::Counter)
            .map(|named| (named.name.clone(), named.tensor.size(), first(&named.tensor)))
            .collect()
    }

    fn draws(&self) -> bool {
        true
    }

    fn adopt(&mut self, views: &mut Views) -> Result<Vec<Tensor>, TchError> {
        let _without_graph = tch::no_grad_guard();
        if let Some(Device::Cuda(number)) = views.parameters.first().map(Tensor::device) {
            self.module.move_to_cuda(number)?;
        }
        for (named, view) in self.parameters.iter_mut().zip(&mut views.parameters) {
            view.f_copy_(&named.tensor)?;
            named.tensor.f_set_data(view)?;
        }
        let moving = self.buffers.iter_mut().filter(|(_, role)| *role == Role::Moving);
        for (((named, _), in_state), scratch) in moving.zip(&mut views.buffers).zip(&views.scratch) {
            in_state.f_copy_(&named.tensor)?;
            named.tensor.f_set_data(scratch)?;
        }
        let counters = self.buffers.iter_mut().filter(|(_, role)| *role == Role::Counter);
        for (i, (named, _)) in counters.enumerate() {
            let view = self.counters.tensor().f_narrow(0, (i * COUNTER_STRIDE) as i64, 1)?;
            named.tensor.f_set_data(&view.f_view(named.tensor.size().as_slice())?)?;
        }
        Ok(self.parameters.iter().map(|named| named.tensor.shallow_clone()).collect())
    }

    fn forward(&mut self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        pass.take_all();
        for (counter, &value) in self.counters.as_mut_slice().chunks_mut(COUNTER_STRIDE).zip(pass.counters) {
            counter[0] = value as i64;
        }
        let outputs = self.module.forward(input, pass.training)?;
        self.check_buffers(pass.counters, pass.training)?;
        self.rows(outputs, input)
    }
}
