//! Checkpoints: a training state as plain files in a folder of an object store, usable with no coordinator and with
//! other tools.
//!
//! ```text
//! <root>/<job>/run.json                                                what ran
//! <root>/<job>/checkpoints/<step>/model-00001-of-00004.safetensors     parameters and buffers
//! <root>/<job>/checkpoints/<step>/optimizer-00001-of-00004.safetensors optimizer slots
//! <root>/<job>/checkpoints/<step>/model.safetensors.index.json         for loaders that know nothing of trainctl
//! <root>/<job>/checkpoints/<step>/manifest.json                        written last, put-if-absent: the commit
//! ```
//!
//! Every worker writes one part of a state that all of them hold ([`RunFolder::write_part`]) and then tries to commit
//! ([`RunFolder::try_commit`]); whoever finds all parts there commits. A step without a manifest does not exist for
//! any reader, and no reader trusts a byte whose digest it hasn't checked.
//!
//! When to save, what a step is and who writes which part is decided by the caller; so is the clock.

mod commit;
mod copy;
mod deal;
mod digest;
mod error;
mod folder;
mod leftovers;
mod manifest;
mod names;
mod prune;
mod pull;
mod read;
mod record;
mod run;
mod tensor;
mod write;

pub use commit::CommitInfo;
pub use copy::StateCopy;
pub use deal::deal;
pub use digest::{Digest, DigestError, state_digest};
pub use error::{CheckpointError, Damage};
pub use folder::{Listed, RunFolder};
pub use manifest::{FileEntry, MANIFEST_FORMAT_VERSION, Manifest, TensorEntry};
pub use prune::Pruned;
pub use pull::PullProgress;
pub use read::{Loaded, Skipped};
pub use record::PartRecord;
pub use run::{Claim, RUN_FORMAT_VERSION, RunRecord};
pub use tensor::{Group, LayoutError, TensorInfo, check_layout};
