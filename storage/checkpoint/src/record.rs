//! `part-00001-of-00004.json`: says that one part of a save is on storage, and what is in it. Records exist only while
//! a save is under way; the manifest takes over what they say.

use crate::error::{CheckpointError, Damage};
use crate::manifest::{FileEntry, check_files, parse_versioned, to_json};
use serde::{Deserialize, Serialize};

const FORMAT_VERSION: u32 = 1;

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
    /// The files written: none if there are more parts than tensors.
    pub files: Vec<FileEntry>,
}

impl PartRecord {
    pub(crate) fn new(step: u64, part: u32, parts: u32, files: Vec<FileEntry>) -> Self {
        Self { format_version: FORMAT_VERSION, step, part, parts, files }
    }

    /// Size of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    pub(crate) fn parse(object: &str, bytes: &[u8], step: u64, part: u32, parts: u32) -> Result<Self, CheckpointError> {
        let record: Self = parse_versioned(object, bytes, FORMAT_VERSION, "a part record")?;
        let foreign = |found| Damage::Foreign { object: object.to_owned(), expected: "a part record", found };
        if (record.step, record.part, record.parts) != (step, part, parts) {
            let found = format!("one of step {}, part {} of {}", record.step, record.part, record.parts);
            return Err(foreign(found).into());
        }
        check_files(&record.files).map_err(foreign)?;
        Ok(record)
    }
}
