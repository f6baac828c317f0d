//! What can go wrong, by what the caller does about it.

use crate::digest::Digest;
use crate::read::Skipped;
use crate::tensor::{Group, LayoutError};
use std::error::Error as StdError;
use std::io;

/// Anything that a checkpoint call reports. Objects are named by their path in the store.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Reject: the root is no place that checkpoints can be kept in.
    #[error("open the checkpoint root")]
    Open(#[source] trainctl_objects::OpenError),
    /// Reject: a job's name becomes a folder.
    #[error("job name {name:?}: expected a name that can be a folder's, without \"/\" and not starting with \".\"")]
    JobName {
        /// The name found.
        name: String,
    },
    /// The caller's mistake: its tensors describe no state.
    #[error("state layout")]
    Layout(#[from] LayoutError),
    /// The caller's mistake: no such part.
    #[error("part {part} of {parts}: expected a part counted from 0, below {parts}")]
    Part {
        /// The part asked for.
        part: u32,
        /// How many there are.
        parts: u32,
    },
    /// Free space, then save again; what was saved before is untouched.
    #[error("write {object}: no space left for {bytes} bytes")]
    Full {
        /// What was being written.
        object: String,
        /// Its size.
        bytes: u64,
        /// What the system said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Retry: the store, or the folder pulled to, did not do it.
    #[error("{action} {object}")]
    Io {
        /// "read", "write", "list", "remove".
        action: &'static str,
        /// Which object or file.
        object: String,
        /// What it said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No checkpoint of this step was ever finished, or it was pruned.
    #[error("{run} has no checkpoint of step {step}: {object} is absent")]
    NotCommitted {
        /// The run's folder.
        run: String,
        /// The step asked for.
        step: u64,
        /// The manifest that would be there.
        object: String,
    },
    /// Go to an older checkpoint: this one can't be trusted.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Upgrade: a newer program wrote it.
    #[error("{object}: expected format_version {supported} or older, found {found}")]
    FormatVersion {
        /// The object.
        object: String,
        /// The newest one that this program reads.
        supported: u32,
        /// What it says.
        found: u64,
    },
    /// Reject: the checkpoint is of another model or optimizer.
    #[error("{object}: {group} tensor {tensor:?}: expected {expected}, found {found}")]
    Tensor {
        /// The manifest.
        object: String,
        /// The tensor's group.
        group: Group,
        /// The first tensor that differs.
        tensor: String,
        /// A shape, or "no such tensor".
        expected: String,
        /// A shape, or "no such tensor".
        found: String,
    },
    /// Investigate: two states claim to be the same step of the same job. One was computed on faulty hardware, or the
    /// job doesn't promise equal bits.
    #[error("{object}: expected state {expected}, found {found}")]
    StateDiffers {
        /// The manifest or the part records that hold the other state.
        object: String,
        /// The caller's state.
        expected: Digest,
        /// The state stored.
        found: Digest,
    },
    /// Reject: the folder belongs to a run with other pins.
    #[error("{object}: {pin}: expected {expected}, found {found}")]
    PinDiffers {
        /// The run record.
        object: String,
        /// `fingerprint`, `job.train.seed`.
        pin: String,
        /// The caller's value.
        expected: String,
        /// The value recorded.
        found: String,
    },
    /// There are checkpoints, and none can be loaded.
    #[error("none of the {count} checkpoints in {run} can be loaded; newest: {newest}", count = skipped.len(),
        newest = skipped.first().map(|skipped| skipped.reason.to_string()).unwrap_or_default())]
    NoneWhole {
        /// The run's folder.
        run: String,
        /// All of them, newest first.
        skipped: Vec<Skipped>,
    },
}

/// Why a checkpoint or a record can't be trusted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// The manifest names a file that isn't there.
    #[error("{object}: expected {expected_bytes} bytes, found no such file")]
    Missing {
        /// The file.
        object: String,
        /// Its size as the manifest has it.
        expected_bytes: u64,
    },
    /// Truncated, or grown.
    #[error("{object}: expected {expected_bytes} bytes, found {found_bytes}")]
    Size {
        /// The file.
        object: String,
        /// Its size as the manifest has it.
        expected_bytes: u64,
        /// Its size.
        found_bytes: u64,
    },
    /// Other bytes than were written.
    #[error("{object}: expected digest {expected}, found {found}")]
    Digest {
        /// The file.
        object: String,
        /// Its digest as the manifest has it.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// Not what this program writes under that name: half a file, or another program's.
    #[error("{object}: expected {expected}, found {found}")]
    Foreign {
        /// The file.
        object: String,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        found: String,
    },
    /// The manifest's own parts disagree.
    #[error("{object}: expected state {expected}, found tensors of state {found}")]
    State {
        /// The manifest.
        object: String,
        /// The state that it names.
        expected: Digest,
        /// The state that its tensors make.
        found: Digest,
    },
}

impl CheckpointError {
    /// What the user can do, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } => Some("free space below the checkpoint root, or lower checkpoint.keep_last".to_owned()),
            Self::NotCommitted { .. } => Some("`trainctl ckpt ls` lists the steps that there are".to_owned()),
            Self::Damaged(_) => Some("an older checkpoint may be whole: `trainctl ckpt verify` checks them".to_owned()),
            Self::FormatVersion { .. } => Some("use the trainctl that wrote it, or a newer one".to_owned()),
            Self::Tensor { .. } => Some("the job's model or optimizer changed: give the job another name".to_owned()),
            Self::StateDiffers { .. } => Some(
                "with numerics = \"exact\" this means faulty hardware; with \"fast\", save under another job name"
                    .to_owned(),
            ),
            Self::PinDiffers { .. } => Some(
                "a job goes on with what it started with: undo the change, or give the job another name".to_owned(),
            ),
            Self::NoneWhole { run, .. } => Some(format!("to start over, move {run}/checkpoints away")),
            Self::Open(source) => Some(source.hint()),
            Self::Io { action: "write", .. } => {
                Some("look at checkpoint.root: it must be a folder that the workers may write to".to_owned())
            }
            Self::JobName { .. } | Self::Layout(_) | Self::Part { .. } | Self::Io { .. } => None,
        }
    }

    /// The error of a failed write of `bytes` to `object`; a full disk, quota or file-size limit has its own.
    pub(crate) fn write(object: &str, bytes: u64, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = source.into();
        if is_full(source.as_ref()) {
            return Self::Full { object: object.to_owned(), bytes, source };
        }
        Self::Io { action: "write", object: object.to_owned(), source }
    }

    pub(crate) fn io(
        action: &'static str,
        object: impl ToString,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Io { action, object: object.to_string(), source: source.into() }
    }
}

fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            return matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
        }
        cause = error.source();
    }
    false
}
