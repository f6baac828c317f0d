//! Google Compute Engine as a provider: Spot and on-demand VMs over zones.
//!
//! [`pools`] says what is configured, `offers` what of it can be bought; `buying` launches, `watching` compares the books
//! with what the API lists, `ending` gives back. All of them write into one set of books, behind one lock, so what is told
//! comes in the order in which it happened.
//!
//! A VM is made from an instance template, which has its image, disk, network and service account; labels say whose it
//! is and for what it was bought. A Spot VM that is preempted deletes itself, and one that has stopped in any other way is
//! deleted when it is seen: a stopped VM still costs its disk.

mod api;
mod books;
mod buying;
mod ending;
mod errors;
mod labels;
mod offers;
pub mod pools;
mod provider;
mod watching;

pub use api::{ApiError, Cause};
pub use errors::launch_error;
pub use pools::{PoolConfig, parse};
pub use provider::{GcpConfig, GcpProvider, Pace, start};
