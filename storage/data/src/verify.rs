//! Checking a data set's objects against its manifest, all of them, without decoding any.

use crate::error::DataError;
use crate::manifest::Manifest;
use crate::place::Place;
use crate::reader::ObjectReader;
use serde::Serialize;
use std::path::Path;

/// One object, checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ObjectReport {
    /// Its whole path.
    pub object: String,
    /// As pinned, in bytes.
    pub size: u64,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What became of a pinned object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// It is as it was pinned.
    Whole,
    /// It is not there.
    Missing,
    /// It is another one now.
    Changed {
        /// `size` or `digest`.
        what: String,
        /// As pinned.
        expected: String,
        /// As read.
        found: String,
    },
}

/// Reads all objects of the manifest that lies in the folder `base`; one report for each, in its order.
///
/// # Errors
/// [`DataError`] when the place can't be read at all; a missing or changed object is a finding, not an error.
pub fn verify(manifest: &Manifest, base: &Path) -> Result<Vec<ObjectReport>, DataError> {
    let place = Place::of(manifest, base)?;
    let check = |object: &crate::manifest::Object| {
        let finding = match ObjectReader::start(&place, &object.path, Some(object)).finish() {
            Ok(_) => Finding::Whole,
            Err(DataError::Missing { .. }) => Finding::Missing,
            Err(DataError::Changed { what, expected, found, .. }) => {
                Finding::Changed { what: what.to_owned(), expected, found }
            }
            Err(error) => return Err(error),
        };
        Ok(ObjectReport { object: place.shown(&object.path), size: object.size, finding })
    };
    manifest.objects.iter().map(check).collect()
}
