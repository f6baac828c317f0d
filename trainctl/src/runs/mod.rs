//! Runs in storage: found by a job's name or straight by their folder's path or URI, and what is said when their store
//! doesn't do as it should.

mod failure;
pub(crate) mod origins;
mod place;

pub(crate) use failure::failure;
pub(crate) use place::Place;
