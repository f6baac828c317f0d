//! A module of the user's, exported from Python. Its parameters live in the flat state, and so does whatever else its passes
//! move, or might: buffers, and parameters that ask for no gradient. The rest stays as the file has it, and is compared with
//! that.

pub(crate) mod contents;
mod export;
mod file;
mod inspect;
pub(crate) mod misfit;
mod module;

pub use export::export_torchscript;

use super::{Declared, Initial, Instance, Model, Pass, Views};
use crate::error::{Doing, EngineError, without_stack};
use crate::storage::MASTER;
use crate::task::{Output, Task};
use inspect::Found;
use misfit::Unfit;
use module::{Module, Named, digest};
use tch::{Device, Kind, TchError, Tensor};

pub(crate) struct Torchscript {
    module: Module,
    /// The same file loaded again, over the same tensors: what it remembers beside them is its own.
    audit: Module,
    task: Task,
    /// What is trained.
    parameters: Vec<Named>,
    /// In the state beside them.
    moving: Vec<Moving>,
    constants: Vec<Constant>,
}

/// What a tensor that is not trained is to training.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Part of the state. Each shard's pass starts from the state's values, and a step moves these by the mean of what the
    /// shards' passes added.
    Moving {
        /// A trial pass moved it already.
        in_trial: bool,
    },
    /// No pass may write to it.
    Constant,
    /// Passes write to it, such as activations that are kept to be looked at, and nothing of it is kept. Whether it matters
    /// to what they give is for audits to find.
    Scratch,
}

struct Moving {
    named: Named,
    in_trial: bool,
    /// Of its values in the module, which the state has as float32.
    kind: Kind,
}

struct Constant {
    named: Named,
    digest: blake3::Hash,
}

impl Torchscript {
    /// Loads `path`, whose bytes have this digest, for the task. `inputs` are two batches as in training, of different rows.
    ///
    /// # Errors
    /// [`EngineError::Spec`] for a file that is not the pinned one and for a module that can't be trained here.
    pub(crate) fn load(path: &str, digest: &str, task: &Task, inputs: [&Tensor; 2]) -> Result<Self, EngineError> {
        let bytes = file::read(path, digest)?;
        let load = || Module::load(&bytes).map_err(|error| file::not_loaded(path, without_stack(error)));
        let (mut module, mut audit) = (load()?, load()?);
        let Found { trained, others } = inspect::inspect(path, &mut module, inputs)?;
        audit.share(&module).doing("load the module again")?;
        let (mut moving, mut constants) = (Vec::new(), Vec::new());
        for (named, role) in others {
            match role {
                Role::Moving { in_trial } => moving.push(Moving { in_trial, kind: named.tensor.kind(), named }),
                Role::Constant => {
                    let digest = module::digest(&named.tensor).doing("read the module's constants")?;
                    constants.push(Constant { named, digest });
                }
                Role::Scratch => {}
            }
        }
        Ok(Self { module, audit, task: task.clone(), parameters: trained, moving, constants })
    }

    /// The outputs as rows, or what is wrong with them.
    fn rows(&self, outputs: Tensor, input: &Tensor) -> Result<Tensor, TchError> {
        let (samples, width) = (input.size()[0], self.task.output.width());
        let (shape, rows) = (outputs.size(), shapes(self.task.output, samples, input.size().get(1).copied()));
        if outputs.kind() != Kind::Float || !rows.contains(&shape) {
            let wanted: Vec<String> = rows.iter().map(|shape| format!("{shape:?}")).collect();
            return Err(Unfit {
                expected: format!("float32 outputs of shape {} for {samples} samples", wanted.join(" or ")),
                found: format!("{} of shape {shape:?}", misfit::dtype(outputs.kind())),
                hint: misfit::outputs_hint(self.task.output),
            }
            .into());
        }
        outputs.f_reshape([-1, width])
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

fn declare(named: &Named, kind: Kind, may_be_absent: bool) -> Declared {
    Declared { name: named.name.clone(), shape: named.tensor.size(), initial: Initial::Own, kind, may_be_absent }
}

impl Model for Torchscript {
    fn parameters(&self) -> Vec<Declared> {
        self.parameters.iter().map(|named| declare(named, MASTER, false)).collect()
    }

    fn buffers(&self) -> Vec<Declared> {
        self.moving.iter().map(|moving| declare(&moving.named, moving.kind, !moving.in_trial)).collect()
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
        for ((moving, in_state), scratch) in self.moving.iter_mut().zip(&mut views.buffers).zip(&views.scratch) {
            in_state.f_copy_(&moving.named.tensor)?;
            if moving.kind == MASTER {
                moving.named.tensor.f_set_data(scratch)?;
            }
        }
        Ok(self.parameters.iter().map(|named| named.tensor.shallow_clone()).collect())
    }

    fn forward(&mut self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        pass.take_all();
        let module = match pass.instance {
            Instance::Training => &mut self.module,
            Instance::Audit => &mut self.audit,
        };
        // Those of float32 lie in the scratch themselves.
        let elsewhere = || {
            self.moving.iter().zip(pass.buffers).filter(|(moving, _)| moving.kind != MASTER).map(|(m, s)| (&m.named, s))
        };
        {
            let _without_graph = tch::no_grad_guard();
            for (named, scratch) in elsewhere() {
                named.tensor.shallow_clone().f_copy_(scratch)?;
            }
        }
        let outputs = module.forward(input, pass.training)?;
        if let Some(Constant { named, .. }) = self.constants.iter().find(|it| module.changed(it.named.number)) {
            let expected = format!("{} to stay as it is, as in the trial passes", named.name);
            let hint = EngineError::HINT_MOVED;
            return Err(Unfit { expected, found: "a pass that writes to it".to_owned(), hint }.into());
        }
        {
            let _without_graph = tch::no_grad_guard();
            for (named, scratch) in elsewhere() {
                scratch.shallow_clone().f_copy_(&named.tensor)?;
            }
        }
        self.rows(outputs, input)
    }

    fn check_constants(&self) -> Result<(), EngineError> {
        for Constant { named, digest: expected } in &self.constants {
            if digest(&named.tensor).doing("read the module's constants")? != *expected {
                return Err(EngineError::Moved { tensor: named.name.clone() });
            }
        }
        Ok(())
    }
}
