//! What a job would cost and when it would end, found out in virtual time: recorded traces of spot capacity become a
//! [`Market`], and the real scheduler (`coordinator_core::Core`) buys and trains there with coarse virtual workers.
//! Simpler policies run in the same market beside it, and a bound says what somebody who knows the future would pay.
//!
//! Everything follows from the arguments: no clock, no random source. Files are read by [`Trace::load`] only.

mod bound;
mod market;
mod outcome;
mod policies;
mod setup;
mod study;
mod trace;
mod workload;
mod world;

pub use bound::bound;
pub use market::{Market, NodeId};
pub use outcome::Outcome;
pub use policies::{Policy, run_policy};
pub use setup::{Conditions, Prices};
pub use study::{Buyer, PolicySummary, Spread, Study, WindowRow, study};
pub use trace::{Format, Presence, Trace, TraceError, Zone};
pub use workload::{Workload, WorkloadError};
pub use world::{explain_scheduler, run_scheduler};
