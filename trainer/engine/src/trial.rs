//! What is tried with a module of the user's before it trains: that the same input gives the same bits, in a second instance
//! of it, with other random numbers in evaluation and other batch sizes as well.

use crate::batch::Batch;
use crate::cells;
use crate::error::{Doing, EngineError};
use crate::model::Instance;
use crate::replica::Replica;
use crate::seed::{Purpose, mix};
use crate::torch;
use tch::Tensor;

/// Tries the replica on a batch; the state stays as it is.
pub(crate) fn run(replica: &mut Replica, batch: &Batch, seed: u64) -> Result<(), EngineError> {
    let (input, target) = (batch.input(), batch.target());
    let of_pass = mix(seed, Purpose::Dropout, 0, 0);
    let mut vector = |instance| -> Result<Vec<f32>, EngineError> {
        let mut out = vec![0f32; replica.vector_len()];
        replica.gradient(instance, (input, target), of_pass, cells::of(&mut out), &mut |_| {})?;
        Ok(out)
    };
    let first = vector(Instance::Training)?;
    for instance in [Instance::Training, Instance::Audit] {
        let again = vector(instance)?;
        if let Some(at) = first.iter().zip(&again).position(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(EngineError::NotDeterministic { what: replica.part_at(at) });
        }
    }
    let outputs = evaluated(replica, input, seed, 0)?;
    if !same_bits(&outputs, &evaluated(replica, input, seed, 1)?)? {
        return Err(EngineError::NotDeterministic { what: "outputs in evaluation".to_owned() });
    }
    if input.size()[0] > 1 {
        let fewer = input.f_narrow(0, 0, 1).doing("cut a batch")?;
        drop(replica.outputs(&fewer).map_err(fixed_batch)?);
    }
    Ok(())
}

fn evaluated(replica: &mut Replica, input: &Tensor, seed: u64, draw: u64) -> Result<Tensor, EngineError> {
    let _generator = torch::seeded(mix(seed, Purpose::Dropout, draw, 0));
    replica.outputs(input)
}

/// NaN equals NaN here.
fn same_bits(a: &Tensor, b: &Tensor) -> Result<bool, EngineError> {
    let bits = |of: &Tensor| of.f_view_dtype(tch::Kind::Int);
    let equal = || bits(a)?.f_equal(&bits(b)?);
    equal().doing("compare outputs")
}

/// The evaluation's last batch is smaller than the others.
fn fixed_batch(error: EngineError) -> EngineError {
    let EngineError::Torch { source, .. } = error else { return error };
    EngineError::Spec {
        field: "model.path",
        expected: "a module that takes any count of samples".to_owned(),
        found: format!("one that fails for a single sample: {source}"),
        hint: "use torch.jit.script, or trace with shapes taken from the input: x.flatten(1), not x.view(32, -1)",
    }
}
