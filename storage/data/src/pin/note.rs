//! What [`pin_reported`](super::pin_reported) says about a data set beside its manifest: choices that were made from
//! the values alone, which a person may have meant otherwise.

use super::folder::partition;
use super::table::Columns;
use crate::decode::list;
use crate::manifest::{CLASSES_MAX, Format, Manifest, Target};
use crate::survey::Survey;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Classes without rows that are listed one by one.
const LISTED_MAX: usize = 5;

/// One thing to look at before a job trains on the data.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "note", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Note {
    /// Whole numbers were taken for classes, as nothing else was asked for.
    WholeNumberClasses {
        /// How many classes there are, with those below the highest that no row has.
        classes: u32,
        /// The lowest that a row has.
        lowest: u32,
        /// The highest.
        highest: u32,
    },
    /// Every row has the same target.
    OneClass {
        /// Which.
        class: u32,
    },
    /// Classes below the highest one that no row has.
    UnusedClasses {
        /// How many.
        count: u32,
        /// The first few.
        first: Vec<u32>,
    },
    /// The first line counts 0, 1, 2, ..., as pandas names columns without names: it was taken for names.
    CountingHeader {
        /// How many columns there are.
        columns: usize,
    },
    /// Columns that only name the rows were left out.
    RowNamesLeftOut {
        /// Their names.
        columns: Vec<String>,
    },
    /// Rows have one value more than the header has names: the first was left out as the row's name.
    FirstColumnLeftOut,
    /// float32 has no room for all digits of whole numbers of a column.
    DigitsLost {
        /// Its name, or its place.
        column: String,
        /// The first such number.
        value: f64,
        /// What it becomes.
        becomes: f32,
    },
    /// Rows were left out, as values are missing.
    RowsDropped {
        /// How many.
        rows: u64,
    },
    /// Files that lie beside the data and are no part of it.
    FilesLeftAlone {
        /// How many.
        count: usize,
        /// The first few.
        first: Vec<String>,
    },
    /// A folder above the data is named `column=value`, as Hive and Spark keep a column that is not in the files.
    ColumnInFolder {
        /// The folder's name.
        folder: String,
    },
    /// Objects have the same bytes.
    SameContent {
        /// The first two.
        first: [String; 2],
        /// How many there are beyond the first of each kind.
        count: usize,
    },
    /// Numbers stand for missing values.
    ValuesFilled {
        /// How many.
        values: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeNumberClasses { classes: 1, lowest, .. } => {
                write!(f, "1 class: {lowest}; `--kind number` for a regression")
            }
            Self::WholeNumberClasses { classes, lowest, highest } => {
                write!(f, "{classes} classes: {lowest} to {highest}; `--kind number` for a regression")
            }
            Self::OneClass { class } => write!(f, "every row is of one class, {class}: there is nothing to tell apart"),
            Self::UnusedClasses { count, first } => {
                let listed = first.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                let more = if *count as usize > first.len() { ", ..." } else { "" };
                match count {
                    1 => write!(f, "class {listed} has no row"),
                    count => write!(f, "{count} classes have no row: {listed}{more}"),
                }
            }
            Self::CountingHeader { columns } => {
                let last = columns.saturating_sub(1);
                write!(f, "the first line counts 0 to {last}: taken for names; `--header no` if it is a row")
            }
            Self::RowNamesLeftOut { columns } => {
                let columns = list(columns.iter().map(String::as_str));
                write!(f, "left out as names of rows: {columns}; `--columns` takes them")
            }
            Self::FirstColumnLeftOut => {
                write!(f, "left out as names of rows: the first column, which the header has no name for")
            }
            Self::DigitsLost { column, value, becomes } => {
                write!(
                    f,
                    "column {column}: whole numbers beyond 2^24 lose digits in float32: {value} becomes {becomes}"
                )
            }
            Self::RowsDropped { rows: 1 } => write!(f, "1 row lacks a value and was left out"),
            Self::RowsDropped { rows } => write!(f, "{rows} rows lack a value and were left out"),
            Self::FilesLeftAlone { count, first } => {
                let more = count.saturating_sub(first.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(f, "no part of the data: {}{more}", first.join(", "))
            }
            Self::ColumnInFolder { folder } => {
                write!(f, "the folder {folder} has a column in its name, which is not read")
            }
            Self::SameContent { first: [first, second], count: 1 } => {
                write!(f, "{first} and {second} are the same bytes")
            }
            Self::SameContent { first: [first, second], count } => {
                write!(f, "{first} and {second} are the same bytes, and {} others are so too", count - 1)
            }
            Self::ValuesFilled { values: 1 } => write!(f, "1 missing value was filled"),
            Self::ValuesFilled { values } => write!(f, "{values} missing values were filled"),
        }
    }
}

/// What there is to say of the targets; `is_inferred` where the user named no kind.
pub(super) fn of_targets(target: &Target, survey: &Survey, is_inferred: bool) -> Vec<Note> {
    // Names say themselves which classes there are.
    let Target::Class { classes, .. } = target else { return Vec::new() };
    let used = || survey.classes.keys().map(|&class| u32::from(class));
    let (Some(lowest), Some(highest)) = (used().next(), used().next_back()) else {
        return match survey.labels.len() {
            1 => vec![Note::OneClass { class: 0 }],
            _ => Vec::new(),
        };
    };
    let mut notes = Vec::new();
    if is_inferred {
        notes.push(Note::WholeNumberClasses { classes: *classes, lowest, highest });
    }
    if lowest == highest {
        notes.push(Note::OneClass { class: lowest });
    } else {
        let is_used = |class: u32| u16::try_from(class).is_ok_and(|class| survey.classes.contains_key(&class));
        let unused: Vec<u32> = (0..(*classes).min(CLASSES_MAX)).filter(|&class| !is_used(class)).collect();
        if let Ok(count @ 1..) = u32::try_from(unused.len()) {
            notes.push(Note::UnusedClasses { count, first: unused.into_iter().take(LISTED_MAX).collect() });
        }
    }
    notes
}

/// What there is to say of how a table was read.
pub(super) fn of_columns(columns: &Columns, manifest: &Manifest, survey: &Survey) -> Vec<Note> {
    let mut notes = Vec::new();
    if columns.counts {
        let table = manifest.table.as_ref();
        let columns = table.map_or(0, |table| table.features.len() + 1 + table.left_out.len());
        notes.push(Note::CountingHeader { columns });
    }
    let is_left_out = |name: &&String| manifest.table.as_ref().is_some_and(|table| table.left_out.contains(name));
    let index: Vec<String> = columns.index.iter().filter(is_left_out).cloned().collect();
    if !index.is_empty() {
        notes.push(Note::RowNamesLeftOut { columns: index });
    }
    if columns.has_unnamed_first {
        notes.push(Note::FirstColumnLeftOut);
    }
    if let Some((column, value)) = survey.rounded.clone() {
        #[expect(clippy::cast_possible_truncation, reason = "what becomes of it is what is said")]
        let becomes = value as f32;
        // Of a class nothing is lost.
        let is_class = matches!(manifest.target, Target::Class { .. });
        if !is_class || manifest.table.as_ref().is_none_or(|table| table.target != column) {
            notes.push(Note::DigitsLost { column, value, becomes });
        }
    }
    if survey.dropped > 0 {
        notes.push(Note::RowsDropped { rows: survey.dropped });
    }
    if survey.filled > 0 {
        notes.push(Note::ValuesFilled { values: survey.filled });
    }
    notes
}

/// What there is to say of the files themselves: of those that lie beside the data, of equal ones, and of folders above.
pub(super) fn of_files(mut left_alone: Vec<String>, manifest: &Manifest) -> Vec<Note> {
    let mut notes = Vec::new();
    let count = left_alone.len();
    left_alone.truncate(LISTED_MAX);
    if count > 0 {
        notes.push(Note::FilesLeftAlone { count, first: left_alone });
    }
    let (mut by_digest, mut pair, mut count) = (BTreeMap::new(), None, 0);
    // Of MNIST's two halves one may well be as another set's.
    for object in manifest.objects.iter().filter(|object| object.rows > 0 && object.role.is_none()) {
        if let Some(first) = by_digest.get(&object.digest) {
            count += 1;
            pair.get_or_insert_with(|| [String::clone(first), object.path.clone()]);
        } else {
            by_digest.insert(&object.digest, object.path.clone());
        }
    }
    notes.extend(pair.map(|first| Note::SameContent { first, count }));
    if matches!(manifest.format, Format::Csv | Format::Parquet)
        && let Some((_, folder)) = manifest.root.split('/').find_map(partition)
    {
        notes.push(Note::ColumnInFolder { folder: folder.to_owned() });
    }
    notes
}
