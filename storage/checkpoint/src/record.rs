//! `part-00001-of-00004.json`: says that one part of a save is on storage, and what is in it. Records exist only while
//! a save is under way; the manifest takes over what they say.

use crate::digest::Digest;
use crate::error::{CheckpointError, Damage};
use crate::manifest::{FileEntry, check_files, parse_versioned, to_json};
use crate::names;
use serde::{Deserialize, Serialize};

const FORMAT_VERSION: u32 = 2;

/// One part of a save, written whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartRecord {
    /// Format of the record.
    pub format_version: u32,
    /// Updates applied to the state that it is a part of.
    pub step: u64,
    /// Which part, counted from 0.
    pub part: u32,
    /// Of how many.
    pub parts: u32,
    /// Of the whole state that its writer holds, not only of this part: a save of writers that differ is none.
    pub state_digest: Digest,
    /// Its files: none if there are more parts than files.
    pub files: Vec<FileEntry>,
    /// Whether the earlier steps' files among them are certain to stay: a part counts only then.
    pub confirmed: bool,
}

impl PartRecord {
    pub(crate) fn new(step: u64, part: u32, parts: u32, state_digest: Digest, files: Vec<FileEntry>) -> Self {
        let confirmed = files.iter().all(|file| file.step.is_none());
        Self { format_version: FORMAT_VERSION, step, part, parts, state_digest, files, confirmed }
    }

    /// Size of its files, those of earlier steps included.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Size of those that this step added.
    pub fn added_bytes(&self) -> u64 {
        let own = self.files.iter().filter(|file| file.step.is_none());
        own.fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    pub(crate) fn file_name(&self) -> String {
        names::record_file(self.part, self.parts)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Parses what a step's folder holds as `name`.
    pub(crate) fn parse(object: &str, bytes: &[u8], step: u64, name: &str) -> Result<Self, CheckpointError> {
        let record: Self = parse_versioned(object, bytes, FORMAT_VERSION, "a part record")?;
        let foreign = |found| Damage::Foreign { object: object.to_owned(), expected: "a part record", found };
        if record.step != step || record.file_name() != name {
            let found = format!("one of step {}, part {} of {}", record.step, record.part, record.parts);
            return Err(foreign(found).into());
        }
        check_files(&record.files).map_err(foreign)?;
        Ok(record)
    }
}
