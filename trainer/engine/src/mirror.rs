//! A copy of parameters and buffers where passes are computed, for a device that can't compute on the state itself.
//!
//! The state stays in host memory, where it is updated, saved and sent. What a pass reads is copied to the device when
//! the state has changed; gradients and buffers come back after it.

use crate::layout::Layout;
use crate::storage::{MASTER, Storage, part};
use std::ops::Range;
use tch::{Device, TchError, Tensor};

/// Which part of the state is newer than the copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stale {
    Nothing,
    /// What is trained.
    Trained,
    /// That, and what is frozen.
    All,
}

/// See the module.
pub(crate) struct Mirror {
    device: Device,
    /// As they lie in the state.
    trained: Tensor,
    frozen: Tensor,
    /// Not the state's: a pass may change them.
    buffers: Tensor,
    in_state: [Range<usize>; 2],
    stale: Stale,
}

impl Mirror {
    /// Room on the device; nothing is copied yet.
    pub(crate) fn new(layout: &Layout, device: Device) -> Result<Self, TchError> {
        let zeros = |len: usize| Tensor::f_zeros([len as i64], (MASTER, device));
        let in_state = [0..layout.parameters_len, layout.frozen_start()..layout.state_len()];
        Ok(Self {
            device,
            trained: zeros(in_state[0].len())?,
            frozen: zeros(in_state[1].len())?,
            buffers: zeros(layout.buffers_len)?,
            in_state,
            stale: Stale::All,
        })
    }

    /// A leaf of autograd's graph over the copy of what begins there in the state.
    pub(crate) fn parameter(&self, start: usize, shape: &[i64]) -> Result<Tensor, TchError> {
        let [trained, frozen] = &self.in_state;
        if trained.contains(&start) {
            part(&self.trained, start, shape)
        } else {
            part(&self.frozen, start - frozen.start, shape)
        }
    }

    /// The same for a buffer; offsets count from the first.
    pub(crate) fn buffer(&self, offset: usize, shape: &[i64]) -> Result<Tensor, TchError> {
        part(&self.buffers, offset, shape)
    }

    /// On the device; the tensor itself if it is there.
    pub(crate) fn here(&self, tensor: &Tensor) -> Result<Tensor, TchError> {
        tensor.f_to_device(self.device)
    }

    /// The update changed what is trained.
    pub(crate) fn updated(&mut self) {
        self.stale = self.stale.max(Stale::Trained);
    }

    /// Anything may have changed.
    pub(crate) fn replaced(&mut self) {
        self.stale = Stale::All;
    }

    /// Before a pass: it finds the state's parameters, and these buffers.
    pub(crate) fn begin(&mut self, state: &Storage<f32>, buffers: &Storage<f32>) -> Result<(), TchError> {
        let _without_graph = tch::no_grad_guard();
        for (copy, range, stale) in
            [(&mut self.trained, &self.in_state[0], Stale::Trained), (&mut self.frozen, &self.in_state[1], Stale::All)]
        {
            if self.stale >= stale {
                copy.f_copy_(&state.part(range.start, &[range.len() as i64])?)?;
            }
        }
        self.stale = Stale::Nothing;
        self.buffers.f_copy_(buffers.tensor())
    }

    /// After a pass: what became of the buffers, where they are.
    pub(crate) fn buffers(&self) -> &Tensor {
        &self.buffers
    }

    /// After a pass: what became of the buffers.
    pub(crate) fn take_buffers(&self, buffers: &mut Storage<f32>) -> Result<(), TchError> {
        let _without_graph = tch::no_grad_guard();
        buffers.tensor().shallow_clone().f_copy_(&self.buffers)
    }

    /// What the model wrote there when it moved in.
    pub(crate) fn take_parameters(&self, state: &mut Storage<f32>) -> Result<(), TchError> {
        let _without_graph = tch::no_grad_guard();
        for (copy, range) in [&self.trained, &self.frozen].into_iter().zip(&self.in_state) {
            state.part(range.start, &[range.len() as i64])?.f_copy_(copy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::cells;
    use crate::device::Placement;
    use crate::model::torchscript::Torchscript;
    use crate::model::{self, Instance, Model};
    use crate::replica::{Recipe, Replica};
    use crate::seed::Stream;
    use crate::storage::Storage;
    use crate::task::{Input, Output, Task};
    use trainctl_jobs::{ComputeSpec, ModelSpec, NonFiniteSpec, OptimizerSpec, ScheduleSpec};

    const SAMPLES: i64 = 6;

    fn module(task: &Task, input: &tch::Tensor) -> Box<dyn Model> {
        let path = format!("{}/tests/modules/conv.pt", env!("CARGO_MANIFEST_DIR"));
        let digest = format!("blake3:{}", blake3::hash(&std::fs::read(&path).expect("the module")).to_hex());
        Box::new(Torchscript::load(&path, &digest, task, [input, input]).expect("load the module"))
    }

    fn built_in(task: &Task, _: &tch::Tensor) -> Box<dyn Model> {
        model::build(&ModelSpec::Mlp { hidden: vec![9], dropout: 0.2 }, task).expect("build the model")
    }

    /// A replica, and a batch for it.
    fn replica(
        model: fn(&Task, &tch::Tensor) -> Box<dyn Model>,
        freeze: &[&str],
        placement: Placement,
    ) -> (Replica, Storage<f32>, Storage<i64>) {
        let task = Task { input: Input::Features(vec![64]), output: Output::Class { classes: 4 } };
        let mut stream = Stream::new(1);
        let mut input = Storage::<f32>::zeros(&[SAMPLES, 64]).expect("a batch");
        input.as_mut_slice().fill_with(|| stream.normal() as f32);
        let mut target = Storage::<i64>::zeros(&[SAMPLES]).expect("a batch");
        target.as_mut_slice().fill_with(|| (stream.uniform() * 4.0) as i64);
        let recipe = Recipe {
            seed: 1,
            steps: 6,
            logical_shards: 2,
            optimizer: OptimizerSpec::default(),
            schedule: ScheduleSpec::Constant { warmup_steps: 0 },
            clip_norm: None,
            compute: ComputeSpec::Fp32,
            on_nonfinite: NonFiniteSpec::Stop,
            freeze: freeze.iter().map(|&pattern| pattern.to_owned()).collect(),
        };
        let model = model(&task, input.tensor());
        (Replica::new(task, model, recipe, placement).expect("a replica"), input, target)
    }

    /// Bits of the state and of an evaluation after some steps, with a state from elsewhere in the middle.
    fn train(
        model: fn(&Task, &tch::Tensor) -> Box<dyn Model>,
        freeze: &[&str],
        placement: Placement,
    ) -> (Vec<u32>, f64) {
        let (mut replica, input, target) = replica(model, freeze, placement);
        let mut vector = vec![0f32; replica.vector_len()];
        for step in 0..6 {
            if step == 3 {
                replica.state_mut().iter_mut().for_each(|value| *value *= 0.5);
            }
            let mut sum = vec![0f32; replica.vector_len()];
            for shard in 0..2 {
                let mut lowest = usize::MAX;
                let ready = &mut |from: usize| lowest = from;
                replica
                    .gradient(
                        Instance::Training,
                        (input.tensor(), target.tensor()),
                        step * 2 + shard,
                        cells::of(&mut vector),
                        ready,
                    )
                    .expect("a gradient");
                assert_eq!(lowest, 0, "all is ready in the end");
                sum.iter_mut().zip(&vector).for_each(|(sum, value)| *sum += value);
            }
            replica.apply(step, &sum).expect("an update");
        }
        let score = replica.score(input.tensor(), target.tensor()).expect("a score");
        (replica.state().iter().map(|value| value.to_bits()).collect(), score.loss)
    }

    #[test]
    fn a_vector_on_the_device_has_the_hosts_bits() {
        for model in [module, built_in] {
            for freeze in [&[][..], &["*.bias"][..]] {
                let (mut replica, input, target) = replica(model, freeze, Placement::Beside(tch::Device::Cpu));
                let mut host = vec![f32::NAN; replica.vector_len()];
                replica
                    .gradient(
                        Instance::Training,
                        (input.tensor(), target.tensor()),
                        7,
                        cells::of(&mut host),
                        &mut |_| {},
                    )
                    .expect("a gradient");
                let device = Storage::<f32>::zeros(&[host.len() as i64]).expect("a vector");
                // What an earlier round left.
                drop(device.tensor().shallow_clone().fill_(f64::NAN));
                replica
                    .gradient_into(Instance::Training, (input.tensor(), target.tensor()), 7, device.tensor())
                    .expect("a gradient");
                let bits = |floats: &[f32]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
                assert!(bits(&host) == bits(device.as_slice()), "{freeze:?}");
            }
        }
    }

    #[test]
    fn a_copy_beside_the_state_gives_the_states_bits() {
        let beside = Placement::Beside(tch::Device::Cpu);
        for model in [module, built_in] {
            for freeze in [&[][..], &["*.bias"][..]] {
                assert!(train(model, freeze, beside) == train(model, freeze, Placement::InState), "{freeze:?}");
            }
        }
    }
}
