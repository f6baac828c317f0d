//! Checkpoints: a training state as plain files in a folder of an object store, usable with no coordinator and with
//! other tools.
//!
//! ```text
//! <root>/<job>/run.json                                                what ran
//! <root>/<job>/data.manifest.json                                      the data that it read
//! <root>/<job>/module.pt                                               the module that it trained, if it was the user's own
//! <root>/<job>/checkpoints/<step>/model-00001-of-00040.safetensors     parameters and buffers
//! <root>/<job>/checkpoints/<step>/optimizer-00001-of-00071.safetensors optimizer slots
//! <root>/<job>/checkpoints/<step>/model.safetensors.index.json         for loaders that know nothing of trainctl
//! <root>/<job>/checkpoints/<step>/manifest.json                        written last, put-if-absent: the commit
//! ```
//!
//! Every worker writes one part of a state that all of them hold ([`RunFolder::write_part`]), with a record that names
//! the digest of the whole state as its writer has it, and then tries to commit ([`RunFolder::try_commit`]); the one that
//! finds all parts there, and all writers of one state, commits. A step without a manifest does not exist for
//! any reader, and no reader trusts a byte whose digest it hasn't checked.
//!
//! Which tensors share a file depends on the tensors alone, so a file that hasn't changed since an earlier checkpoint is
//! not written again: the manifest names it in that step's folder, and [`RunFolder::prune`] spares it as long as any
//! manifest does.
//!
//! When to save, what a step is and who writes which part is decided by the caller; so is the clock.

mod commit;
mod copy;
mod dedup;
mod digest;
mod error;
mod events;
mod export;
mod folder;
mod inputs;
mod leftovers;
mod manifest;
mod measure;
mod names;
mod pack;
mod partition;
mod prune;
mod pull;
mod read;
mod record;
mod run;
mod share;
mod tensor;
mod tensors;
mod upload;
mod write;

pub use commit::CommitInfo;
pub use copy::StateCopy;
pub use digest::{Digest, DigestError, StateDigests, state_digest};
pub use error::{CheckpointError, Damage};
pub use events::{Corruption, Evaluation, Finish, GroupBegan, RunEvent};
pub use folder::{Listed, RunFolder};
pub use inputs::RunInput;
pub use manifest::{FileEntry, MANIFEST_FORMAT_VERSION, Manifest, TensorEntry};
pub use measure::{Difference, Figures, compare, measure};
pub use partition::partition;
pub use prune::{Pruned, Retention};
pub use pull::PullProgress;
pub use read::{Loaded, Skipped};
pub use record::PartRecord;
pub use run::{Claim, RUN_FORMAT_VERSION, RunRecord};
pub use share::Shares;
pub use tensor::{Group, LayoutError, TensorInfo, check_layout};
pub use tensors::TensorReader;
