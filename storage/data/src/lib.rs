//! Pinned data sets: which bytes a job trains on, proven while they are read, and in which order.
//!
//! [`pin()`] lists and surveys the objects of a data set and makes its [`Manifest`]; a job names the manifest and its
//! digest. [`Dataset`] reads the objects into memory and checks each against the manifest on the way. [`Split`]
//! keeps samples out for evaluation and [`Sampler`] says which sample is trained on when: both are keyed
//! permutations, computed, with no state to save.
//!
//! Calls block on storage; from async code, make them on a thread of their own.

mod dataset;
mod decode;
mod error;
mod manifest;
mod permutation;
mod pin;
mod place;
mod reader;
mod sampler;
mod sizes;
mod split;
mod survey;
mod verify;

pub use dataset::Dataset;
pub use error::DataError;
pub use manifest::{CsvLayout, Dtype, Features, Format, Manifest, Object, Role, Summary, Target, manifest_digest};
pub use permutation::Permutation;
pub use pin::{Column, PinOptions, Scale, Shape, TargetKind, pin};
pub use sampler::Sampler;
pub use sizes::check_sizes;
pub use split::Split;
pub use verify::{Finding, ObjectReport, verify};
