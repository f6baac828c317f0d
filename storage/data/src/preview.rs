//! The first rows of a data set, for people to see what was taken for what.

use crate::decode::{Bad, Cells, Layout, Sink, begin, shown};
use crate::error::DataError;
use crate::manifest::{Manifest, Target};
use crate::place::{Base, PATIENCE, Place};
use crate::reader::Source;
use serde::Serialize;

/// Values of a row that are kept.
const VALUES_MAX: usize = 8;

/// A row as a person looks at it.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct FirstRow {
    /// Its first few features, before they are scaled.
    pub features: Vec<f32>,
    /// How many there are in all.
    pub of: usize,
    /// The number to learn, or the class, by name where it has one.
    pub target: String,
}

/// The first `count` rows of the manifest that lies in `base`, or all of fewer; of text, none. Objects are read as far
/// as that takes, and not compared with their digests.
///
/// # Errors
/// [`DataError`] when an object can't be read or is not what the manifest says.
pub fn first_rows(manifest: &Manifest, base: impl Into<Base>, count: usize) -> Result<Vec<FirstRow>, DataError> {
    if manifest.target == Target::NextByte {
        return Ok(Vec::new());
    }
    let place = Place::of(manifest, &base.into(), PATIENCE)?;
    let mut rows: Vec<FirstRow> = Vec::new();
    for objects in manifest.blocks() {
        let mut taking = Taking { count: count - rows.len(), ..Taking::default() };
        for object in objects {
            taking.of_object = 0;
            begin(&place, &Source::pinned(object), &Layout::of(manifest, object), &mut taking)?;
        }
        taking.rows.truncate(taking.count);
        rows.extend(taking.rows);
        if rows.len() >= count {
            break;
        }
    }
    Ok(rows)
}

/// Takes rows until there are enough.
#[derive(Default)]
struct Taking {
    rows: Vec<FirstRow>,
    features: usize,
    targets: usize,
    /// Rows of the object that is read, or the halves of rows that it has.
    of_object: usize,
    count: usize,
}

impl Taking {
    fn row(&mut self, at: usize) -> &mut FirstRow {
        if self.rows.len() <= at {
            self.rows.resize(at + 1, FirstRow::default());
        }
        &mut self.rows[at]
    }
}

impl Sink for Taking {
    fn features(&mut self, cells: Cells<'_>) -> Result<(), Bad> {
        let at = self.features;
        self.features += 1;
        self.of_object = self.of_object.max(self.features);
        let row = self.row(at);
        (row.features, row.of) = match cells {
            Cells::Bytes(bytes) => (bytes.iter().take(VALUES_MAX).map(|&byte| byte.into()).collect(), bytes.len()),
            Cells::Floats(floats) => (floats.iter().take(VALUES_MAX).copied().collect(), floats.len()),
        };
        Ok(())
    }

    fn target(&mut self, value: f64) -> Result<(), Bad> {
        self.label(&shown(value))
    }

    fn label(&mut self, name: &str) -> Result<(), Bad> {
        let at = self.targets;
        self.targets += 1;
        self.of_object = self.of_object.max(self.targets);
        name.clone_into(&mut self.row(at).target);
        Ok(())
    }

    fn has_enough(&self) -> bool {
        self.of_object > self.count
    }
}
