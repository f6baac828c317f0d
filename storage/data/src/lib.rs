//! Pinned data sets: which bytes a job trains on, proven while they are read, and in which order.
//!
//! [`pin()`] lists and surveys the objects of a data set and makes its [`Manifest`]; a job names the manifest and its
//! digest. [`Dataset`] gives the rows in any order, from memory or through a bounded cache on disk, each object checked
//! against the manifest on the way. [`Split`] keeps samples out for evaluation and [`Sampler`] says which sample is
//! trained on when: both are keyed permutations, computed, with no state to save.
//!
//! Calls block on storage; from async code, make them on a thread of their own.

mod block;
mod cache;
mod dataset;
mod decode;
mod error;
mod manifest;
mod parallel;
mod permutation;
mod pin;
mod place;
mod preview;
mod progress;
mod reader;
mod sampler;
mod sizes;
mod split;
mod streaming;
mod survey;
mod verify;
mod waiting;

pub use cache::CacheOptions;
pub use dataset::Dataset;
pub use error::DataError;
pub use manifest::{
    ColumnsSummary, CsvLayout, Dtype, Features, Format, Manifest, Missing, Object, Role, Summary, TableLayout,
    TarLayout, Target, manifest_digest,
};
pub use permutation::Permutation;
pub use pin::{
    Column, HeaderLine, Mark, MissingValues, Note, PinOptions, PinReport, Scale, Shape, TargetKind, pin, pin_reported,
    pin_with,
};
pub use place::Base;
pub use preview::{FirstRow, first_rows};
pub use progress::Progress;
pub use sampler::Sampler;
pub use sizes::check_sizes;
pub use split::Split;
pub use verify::{Finding, ObjectReport, verify, verify_with};
