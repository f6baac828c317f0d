//! Workers as processes of this machine, in pools that behave like a cloud's: they hold so many, give notice, take
//! instances away, and replay traces of real spot fleets. What to launch and where is decided elsewhere; this crate
//! does it and tells what became of it, as [`coordinator_core::Event`]s.

mod capacity;
mod pools;
mod process;
mod procfs;
mod provider;
mod replay;
mod trace;

pub use pools::{PoolConfig, TraceConfig, default_pools, parse};
pub use process::DEFAULT_PROGRAM;
pub use provider::{LocalConfig, LocalProvider, NAME, StartError};
pub use trace::{NodeChange, Trace, TraceError, TraceStep};
