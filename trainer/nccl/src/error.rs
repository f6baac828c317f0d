//! What can go wrong with NCCL, by what the caller does about it: tell the user what to install, or wait for the next
//! generation.

use crate::library::Version;
use std::time::Duration;
use thiserror::Error;

/// Why there is no communicator, or no longer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NcclError {
    /// No NCCL on this machine.
    #[error(
        "found no NCCL library: looked for {} where the system's loader looks\n\
         hint: install NCCL (`pip install nvidia-nccl-cu13` brings libnccl.so.2), link libnccl.so to it, and add the \
         link's folder to LD_LIBRARY_PATH",
        looked_for.join(", ")
    )]
    LibraryAbsent {
        /// File names that were tried.
        looked_for: Vec<String>,
    },
    /// This NCCL lacks what is used of it.
    #[error(
        "the NCCL library is {found}, expected {oldest} or newer\nhint: install a newer one, such as `pip install \
         nvidia-nccl-cu13`"
    )]
    TooOld {
        /// What the library says.
        found: Version,
        /// The oldest that will do.
        oldest: Version,
    },
    /// No GPU, or none that the driver lets this process use.
    #[error(
        "no CUDA device {ordinal}: {detail}\nhint: `nvidia-smi` lists what the driver sees; CUDA_VISIBLE_DEVICES hides \
         devices"
    )]
    NoDevice {
        /// Which one was asked for.
        ordinal: usize,
        /// What was found.
        detail: String,
    },
    /// The memory is not on the communicator's device.
    #[error("expected memory on CUDA device {expected}, found it {found}")]
    WrongMemory {
        /// The communicator's.
        expected: usize,
        /// Where it is.
        found: String,
    },
    /// A peer is gone; NCCL doesn't say which.
    #[error("lost a peer ({doing}): {detail}")]
    PeerLost {
        /// The operation.
        doing: &'static str,
        /// What NCCL said.
        detail: String,
    },
    /// Another thread wants this one's attention, or aborted the communicator.
    #[error("interrupted")]
    Interrupted,
    /// The members did not all come.
    #[error("{doing}: not done within {} s", patience.as_secs())]
    Patience {
        /// The operation.
        doing: &'static str,
        /// How long it was waited for.
        patience: Duration,
    },
    /// Anything else that NCCL or CUDA refuses.
    #[error("{doing}: {detail}")]
    Failed {
        /// The operation.
        doing: &'static str,
        /// What the library said.
        detail: String,
    },
}
