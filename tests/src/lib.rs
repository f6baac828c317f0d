//! Real programs under test: coordinators and workers as processes in a temporary home, driven through the command
//! line as a user would, and killed as a cloud would.

mod cluster;
mod job;
mod programs;
mod wait;

pub use cluster::{Cluster, Options};
pub use job::{Job, repository};
pub use programs::{kill, processes_of, program};
pub use wait::eventually;
