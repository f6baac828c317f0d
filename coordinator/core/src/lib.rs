//! The scheduler as plain functions over plain data: what happens comes in as [`Event`]s with the time passed in,
//! what to do comes out as [`Action`]s. It knows no clock, socket, file or random source, so a test can drive it
//! through any history, and a log of events replays exactly.
//!
//! An event goes through four steps: `observe` notes the fact or refuses it, `plan` derives from the whole state what
//! should be done and why, `apply` does it, and the last two repeat until there is nothing left to do; `records` then
//! says what must be persisted. Since planning looks at the state and not at what led there, a coordinator that
//! starts again goes on as if nothing had been.

mod action;
mod apply;
mod core;
mod corruption;
mod decision;
mod event;
mod explain;
mod ids;
mod invariants;
mod ledger;
mod membership;
mod numerics;
mod observe;
mod plan;
pub mod policy;
mod records;
mod rejection;
mod settings;
mod shares;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub use action::{Action, Member, Record, ToWorker};
pub use core::Core;
pub use corruption::{Corruption, Differing, NcclFailure, SaveFailure, Subject};
pub use decision::{Decision, DismissCause, DrainCause, LaunchCause, LaunchTerms, Reason, ReplaceCause};
pub use event::{
    Checkpoint, DownCause, Evaluation, Event, Holding, LaunchError, LaunchErrorKind, Machine, Market, Place, PoolSpec,
    Price, Progress, Scope, ShardTime,
};
pub use ids::{Generation, InstanceId, JobId, PoolName, ProviderName, Timestamp, WorkerId};
pub use ledger::{CostReport, CostView, InstanceCost, PricePeriod, Sum};
pub use records::LoadError;
pub use rejection::Rejection;
pub use settings::Settings;
pub use shares::ShardMove;
pub use state::{Doom, LossCause, Reach, Shortage, StopPurpose};
pub use view::{InstanceView, JobView, PoolView, Share, WorkerView};
