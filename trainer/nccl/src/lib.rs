//! Sums between workers whose vectors lie on GPUs, moved by NCCL.
//!
//! [`GroupSum`] makes the sum, in the fixed tree or in any order, over any [`Transport`] and [`Memory`] of
//! `trainer-collective`; [`Communicator`] is the transport for device memory, [`TorchMemory`] a libtorch tensor as that
//! memory. In [`rendezvous()`] the members of a generation agree over their TCP mesh on the communicator that they
//! build. A communicator belongs to one generation: when membership changes it is aborted, and the next one built.
//!
//! Neither NCCL nor CUDA is needed to build this: both are looked for when [`Library::open`] and [`Device::open`] are
//! called, and what is missing is an error.
//!
//! NCCL takes its settings from the environment. On a machine with several networks, `NCCL_SOCKET_IFNAME` (such as
//! `eth0`, or `=ens5` for exactly that one) must name the one over which the members reach each other, as the address
//! that rank 0 listens on follows from it; `NCCL_DEBUG=INFO` says what NCCL chose.
//! `NCCL_COMM_BLOCKING=1` must not be set: it would take from this the means to interrupt a wait.

mod communicator;
mod device;
mod device_memory;
mod error;
mod library;
mod plan;
mod rendezvous;
mod settle;
mod sum;
mod torch;

pub use communicator::{Communicator, Place};
pub use device::Device;
pub use device_memory::DeviceMemory;
pub use error::NcclError;
pub use library::{Library, Offer, UniqueId, Version};
pub use plan::Plan;
pub use rendezvous::{RendezvousError, rendezvous};
pub use sum::{GroupSum, SumError};
pub use torch::TorchMemory;
pub use trainer_collective::{Memory, Numerics, Transport};
