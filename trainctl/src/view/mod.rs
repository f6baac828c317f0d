//! What JSON output looks like. These names are what scripts rely on: they never change with the protocol.

mod checkpoint;
mod cost;
mod decision;
mod job;
mod pool;
mod trouble;
mod worker;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use cost::{Cost, CostReport};
pub(crate) use decision::{Decision, Explained};
pub(crate) use job::{Job, ended, succeeded};
pub(crate) use pool::Pool;
pub(crate) use trouble::{Corruption, NcclFailure, SaveFailure};
pub(crate) use worker::Worker;

/// Protocol texts are empty where JSON says null.
fn present(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
