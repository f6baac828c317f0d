//! Checking a data set's objects against its manifest, all of them, without decoding any.

use crate::error::DataError;
use crate::manifest::Manifest;
use crate::parallel::ordered;
use crate::place::{Base, PATIENCE, Place};
use crate::progress::{Progress, Progressing};
use crate::reader::{ObjectReader, Source};
use serde::Serialize;

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

/// Reads all objects of the manifest that lies in `base`; one report for each, in its order.
///
/// # Errors
/// [`DataError`] when the place can't be read at all; a missing or changed object is a finding, not an error.
pub fn verify(manifest: &Manifest, base: impl Into<Base>) -> Result<Vec<ObjectReport>, DataError> {
    verify_with(manifest, base, &|_| {})
}

/// [`verify`], telling how far it is.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(
    manifest: &Manifest,
    base: impl Into<Base>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<ObjectReport>, DataError> {
    let place = Place::of(manifest, &base.into(), PATIENCE)?;
    let bytes = manifest.objects.iter().map(|object| object.size).sum();
    let progressing = Progressing::new(progress, manifest.objects.len(), bytes);
    ordered(&manifest.objects, place.objects_at_once(), |object| {
        let source = Source::pinned(object);
        let finding = match ObjectReader::start(&place, &source)?.finish() {
            Ok(_) => Finding::Whole,
            Err(DataError::Missing { .. }) => Finding::Missing,
            Err(DataError::Changed { what, expected, found, .. }) => {
                Finding::Changed { what: what.to_owned(), expected, found }
            }
            Err(error) => return Err(error),
        };
        progressing.done(object.size);
        Ok(ObjectReport { object: source.shown(&place), size: object.size, finding })
    })
}
