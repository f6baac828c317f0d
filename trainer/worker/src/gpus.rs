//! Gradients that stay on the workers' GPUs: a shard's vector is computed there, the partial sums go from GPU to GPU, and
//! one sum comes to the host in each step. Whether a generation can is found out when it meets: either all its members do
//! it so, or all exchange as hosts without GPUs do, with the same bits.

use crate::control::Control;
use crate::setup::Failure;
use anyhow::anyhow;
use std::ops::Range;
use std::time::Duration;
use tch::Tensor;
use trainctl_jobs::{BackendSpec, ResourcesSpec};
use trainctl_proto::v1::NcclFailed;
use trainctl_proto::v1::worker_message::Body;
use trainer_collective::{MemoryError, Mesh, MeshError, Numerics, Poller, Tcp};
use trainer_core::Round;
use trainer_engine::{Device, EngineError};
use trainer_nccl::{
    Communicator, GroupSum, Library, NcclError, Offer, Place, Plan, RendezvousError, SumError, TorchMemory, rendezvous,
};

/// This worker's part in it, from generation to generation.
pub(crate) struct Gpus {
    device: Device,
    /// What it needs for it, or why it can't.
    means: Result<Means, NcclError>,
    /// Of the last generation's vectors.
    memory: Option<TorchMemory>,
    control: Control,
    /// NCCL doesn't say whom it lost; the pulse does after this time at the latest.
    pub(crate) silence: Duration,
}

enum Means {
    Nccl(Library, trainer_nccl::Device),
    /// All as with NCCL, but for NCCL itself.
    Mesh,
}

/// One generation's vectors, and what moves them.
pub(crate) struct GpuGroup {
    sum: GroupSum<TorchMemory>,
    moves: Moves,
}

enum Moves {
    Nccl(Communicator),
    Mesh,
}

/// Why a sum was not made.
#[derive(Debug)]
pub(crate) enum GpuError {
    /// The mesh ended.
    Mesh(MeshError),
    /// NCCL did.
    Nccl(NcclError),
    /// This worker can't go on.
    Failure(Failure),
}

impl From<MeshError> for GpuError {
    fn from(error: MeshError) -> Self {
        Self::Mesh(error)
    }
}

impl From<EngineError> for GpuError {
    fn from(error: EngineError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<MemoryError> for GpuError {
    fn from(error: MemoryError) -> Self {
        Self::Failure(Failure::of_worker(&anyhow!(error)))
    }
}

impl From<SumError<MeshError>> for GpuError {
    fn from(error: SumError<MeshError>) -> Self {
        match error {
            SumError::Transport(error) => Self::Mesh(error),
            SumError::Memory(error) => error.into(),
        }
    }
}

impl From<SumError<NcclError>> for GpuError {
    fn from(error: SumError<NcclError>) -> Self {
        match error {
            SumError::Transport(error) => Self::Nccl(error),
            SumError::Memory(error) => error.into(),
        }
    }
}

impl Gpus {
    /// Where the job asks for it.
    pub(crate) fn wanted(resources: &ResourcesSpec, device: Device, control: Control) -> Option<Self> {
        if resources.backend != BackendSpec::Nccl {
            return None;
        }
        let means = match device {
            Device::Cuda(number) => Library::open()
                .and_then(|library| Ok(Means::Nccl(library, trainer_nccl::Device::open(number as usize)?))),
            Device::CpuAsGpu => Ok(Means::Mesh),
            Device::Cpu => {
                Err(NcclError::NoDevice { ordinal: 0, detail: "this worker computes on the processor".to_owned() })
            }
        };
        Some(Self { device, means, memory: None, control, silence: resources.peer_silence.duration() })
    }

    /// A generation meets: all its members call it, in the same place. `interrupted` is asked while this worker waits;
    /// `anywhere` is the same for a wait outside of the mesh, and knows lost peers too.
    ///
    /// # Errors
    /// When the mesh ended. What else is missing makes the generation do without.
    pub(crate) fn meet(
        &mut self,
        (mesh, poller, round): (&mut Mesh, &mut Poller, Round),
        (numerics, length): (Numerics, usize),
        interrupted: &dyn Fn() -> bool,
        anywhere: impl Fn() -> bool + Send + 'static,
    ) -> Result<Option<GpuGroup>, MeshError> {
        let (generation, rank, world_size) = (mesh.assignment().generation, mesh.rank(), mesh.world_size());
        if world_size == 1 {
            return Ok(None);
        }
        let plan = Plan::new(numerics, mesh.assignment(), rank, length);
        let offer = self.offer(&plan, rank);
        let id = match rendezvous(mesh, poller, round, offer, interrupted) {
            Ok(id) => id,
            Err(RendezvousError::Mesh(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(generation, "gradients go over TCP: {error}");
                if !matches!(error, RendezvousError::Without { .. }) {
                    self.failed(generation, &error);
                }
                return Ok(None);
            }
        };
        let moves = match &self.means {
            Ok(Means::Nccl(library, device)) => {
                Communicator::build(library, device, id, Place { rank, world_size }, anywhere).map(Moves::Nccl)
            }
            Ok(Means::Mesh) => Ok(Moves::Mesh),
            Err(error) => Err(error.clone()),
        };
        let built = mesh.notes(poller, round, [u8::from(moves.is_ok())], interrupted)?;
        let without = built.iter().position(|built| *built == [0]);
        match (moves, self.memory.take(), without) {
            (Ok(moves), Some(memory), None) => {
                tracing::info!(generation, "gradients stay on the GPUs");
                Ok(Some(GpuGroup { sum: GroupSum::new(plan, memory), moves }))
            }
            (moves, memory, without) => {
                self.memory = memory;
                if let Err(error) = moves {
                    tracing::warn!(generation, "gradients go over TCP: {error}");
                    // Those two are the generation's. Of all else the next would only hear again.
                    if !matches!(error, NcclError::Interrupted | NcclError::PeerLost { .. }) {
                        self.failed(generation, &error);
                        self.means = Err(error);
                    }
                } else if let Some(rank) = without {
                    let worker = &mesh.assignment().members[rank].worker;
                    tracing::warn!(generation, "gradients go over TCP: {worker} built no communicator");
                }
                Ok(None)
            }
        }
    }

    /// The coordinator hears why, from whom it concerns.
    fn failed(&self, generation: u64, error: &dyn std::error::Error) {
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        self.control.tell(Body::NcclFailed(NcclFailed { generation, reason }));
    }

    /// With room for the plan's vectors, so that nobody who lacks it comes to the communicator.
    fn offer(&mut self, plan: &Plan, rank: usize) -> Result<Offer, NcclError> {
        let offer = match &self.means {
            Ok(Means::Nccl(library, _)) => library.offer(rank)?,
            Ok(Means::Mesh) => Offer::WITHOUT_NCCL,
            Err(error) => return Err(error.clone()),
        };
        let need = plan.memory_len();
        if self.memory.as_ref().is_none_or(|memory| trainer_nccl::Memory::len(memory) < need) {
            // The old goes first: the device may have no room for both.
            self.memory = None;
            let memory = TorchMemory::zeros(self.device.to_torch(), need)
                .map_err(|MemoryError { doing, detail }| NcclError::Failed { doing, detail })?;
            self.memory = Some(memory);
        }
        Ok(offer)
    }

    /// A generation is over: by agreement, when all its members close together, or otherwise.
    pub(crate) fn part(&mut self, group: GpuGroup, agreed: bool) {
        let GpuGroup { sum, moves } = group;
        self.memory = Some(sum.into_memory());
        if let (Moves::Nccl(communicator), true) = (moves, agreed)
            && let Err(error) = communicator.close()
        {
            tracing::warn!("{error}");
        }
    }
}

impl GpuGroup {
    /// A round begins.
    pub(crate) fn begin(&mut self) {
        self.sum.begin();
    }

    /// Computes a shard's vector: `compute` overwrites what it is given. Returns when the device has done it.
    ///
    /// # Errors
    /// When the engine fails or the device refuses.
    pub(crate) fn shard(
        &mut self,
        shard: u32,
        compute: impl FnOnce(&Tensor) -> Result<(), EngineError>,
    ) -> Result<(), GpuError> {
        let place: Range<usize> = self.sum.next_vector();
        compute(&self.sum.memory().view(&place)?)?;
        self.sum.push(shard)?;
        // What is read comes after all that was put on the device before.
        Ok(self.sum.memory().read(&(place.start..place.start + 1), &mut [0.0])?)
    }

    /// Sums what all members computed.
    ///
    /// # Errors
    /// See [`GpuError`].
    pub(crate) fn exchange(
        &mut self,
        (mesh, poller, round): (&mut Mesh, &mut Poller, Round),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), GpuError> {
        match &mut self.moves {
            Moves::Nccl(communicator) => Ok(self.sum.exchange(communicator, round)?),
            Moves::Mesh => Ok(self.sum.exchange(&mut Tcp::new(mesh, poller, round, interrupted), round)?),
        }
    }

    /// The last exchange's sum, on the host.
    ///
    /// # Errors
    /// When the device refuses.
    pub(crate) fn read(&self, into: &mut [f32]) -> Result<(), GpuError> {
        Ok(self.sum.memory().read(&self.sum.sum(), into)?)
    }
}
