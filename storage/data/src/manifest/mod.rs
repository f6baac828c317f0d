//! The manifest: what a data set is, down to the digest of each object. Its own digest, over its bytes, pins it all.

mod check;
mod facts;
mod file;
mod prefix;
mod summary;
mod table;

pub(crate) use check::{CLASSES_MAX, SAMPLE_MAX_ELEMENTS, is_delimiter};
pub(crate) use file::read_bounded;
pub use summary::{ColumnsSummary, Summary};
pub use table::{Missing, TableLayout};

use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The only version so far.
const FORMAT_VERSION: u32 = 1;
/// A manifest of more bytes is not one.
const MANIFEST_MAX_BYTES: usize = 64 << 20;

/// A pinned data set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub format_version: u32,
    /// What people call it.
    pub name: String,
    /// How to read all of the objects.
    pub format: Format,
    /// Where the objects are: relative to the manifest's folder, or an absolute URI.
    pub root: String,
    /// In the order of their rows.
    pub objects: Vec<Object>,
    /// In all; for text, bytes.
    pub rows: u64,
    /// What a model sees of a row.
    pub features: Features,
    /// What it learns to say about it.
    pub target: Target,
    /// CSV only: how the lines are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvLayout>,
    /// CSV and Parquet: which columns are read, by name. Absent in older manifests, and in CSV that has no header and
    /// needs nothing said: there the target's column is found by its place, and all others are features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableLayout>,
    /// Names of the classes, from 0 on, where the data has names in place of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// Tar only: which members make a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar: Option<TarLayout>,
    /// Tar only: the version of the rules by which archives and their images are read. Absent in older manifests: 1.
    /// From 2 on JPEG has the pixels that libjpeg gives it, images are turned as EXIF says, WebP is one, and what is no
    /// sample, a link, or behind the archive's end is told from samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<u32>,
}

/// The rules by which archives are read that are pinned today.
pub(crate) const READING: u32 = 2;

/// A file format. Each may also be compressed with gzip, apart from Parquet, which compresses by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines of numbers, one of which is the target.
    Csv,
    /// MNIST's own: an array of images in one file, their labels in another.
    Idx,
    /// Columns of numbers, or of lists of numbers, one of which is the target.
    Parquet,
    /// Bytes, each to be told from those before it.
    Text,
    /// WebDataset's shards: members `key.png` and `key.cls` of a tar archive are one sample.
    Tar,
}

impl Format {
    /// As the manifest writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Idx => "idx",
            Self::Parquet => "parquet",
            Self::Text => "text",
            Self::Tar => "tar",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Csv, Self::Idx, Self::Parquet, Self::Text, Self::Tar]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("expected csv, idx, parquet, text or tar, found {text:?}"))
    }
}

/// One object of a data set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Below the root, with `/` between.
    pub path: String,
    /// In bytes, as stored.
    pub size: u64,
    /// `blake3:` and 64 hex digits, of the bytes as stored.
    pub digest: String,
    /// How many of the data set's rows it has.
    pub rows: u64,
    /// IDX only: which half of the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Below the root, where that is not its path: in a store that is addressed by content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
    /// The bucket's own mark of these bytes when they were pinned: a generation (GCS) or an entity tag (S3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What an IDX object holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The images.
    Features,
    /// Their labels, in the object after the images.
    Target,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Target => "target",
        }
    }
}

/// What a model sees of one row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Of one sample; images are channels, height, width. Empty for text.
    pub shape: Vec<u32>,
    /// How values are kept in memory.
    pub dtype: Dtype,
    /// A value is multiplied by it, in float32, before a model sees it.
    pub scale: f64,
}

impl Features {
    /// Values of one sample.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(u64::from(dim)))
    }
}

/// How a value is kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Whole numbers from 0 to 255.
    Uint8,
    /// Any finite number.
    Float32,
}

impl Dtype {
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Uint8 => 1,
            Self::Float32 => 4,
        }
    }

    /// As the manifest writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uint8 => "uint8",
            Self::Float32 => "float32",
        }
    }
}

/// What a model learns to say about a row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One of `classes`, counted from 0.
    Class {
        /// How many there are.
        classes: u32,
        /// CSV and Parquet: which column, counted from 0. All others are features.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<u32>,
    },
    /// A number.
    Number {
        /// CSV and Parquet: which column, counted from 0. All others are features.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<u32>,
    },
    /// The byte after each byte.
    NextByte,
}

impl Target {
    /// Which column it is, in the formats that have columns.
    #[must_use]
    pub fn column(&self) -> Option<u32> {
        match self {
            Self::Class { column, .. } | Self::Number { column } => *column,
            Self::NextByte => None,
        }
    }
}

/// How the lines of a CSV data set are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvLayout {
    /// The first line of each object has names, not numbers.
    pub header: bool,
    /// Between two values: a byte such as `,`, `;`, `|` or a tab.
    pub delimiter: char,
}

/// Which members of a tar archive make a sample. Those whose names are alike up to the first `.` belong together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TarLayout {
    /// What the name of the member with the target ends in: `cls`, `json` or `txt`.
    pub target: String,
    /// JSON only: the key of the target, where the member is an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// The digest that a job names: over the manifest's bytes as they are.
#[must_use]
pub fn manifest_digest(bytes: &[u8]) -> String {
    digest_text(&blake3::hash(bytes))
}

pub(crate) fn digest_text(hash: &blake3::Hash) -> String {
    format!("blake3:{}", hash.to_hex())
}

impl Manifest {
    /// Reads a manifest; `name` says in errors which one.
    ///
    /// # Errors
    /// [`DataError::Manifest`] when it is no manifest, of another version, or contradicts itself.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, DataError> {
        let bad = |place: &str, expected: &str, found: String| DataError::Manifest {
            manifest: name.to_owned(),
            place: place.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        if bytes.len() > MANIFEST_MAX_BYTES {
            let expected = format!("at most {MANIFEST_MAX_BYTES} bytes");
            return Err(bad("size", &expected, format!("{} bytes", bytes.len())));
        }
        // The version first: another one may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        if let Ok(Version { format_version }) = serde_json::from_slice(bytes)
            && format_version != FORMAT_VERSION
        {
            return Err(bad("format_version", "1", format_version.to_string()));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            let message = error.to_string();
            let what = message.rsplit_once(" at line").map_or(message.as_str(), |(what, _)| what);
            bad(&place, "a data manifest", what.to_owned())
        })?;
        manifest.check(name)?;
        Ok(manifest)
    }

    /// The manifest's bytes: what [`manifest_digest`] is taken over. The same data set always gives the same bytes.
    ///
    /// # Panics
    /// Never: every field can be written as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers");
        bytes.push(b'\n');
        bytes
    }

    /// How many samples there are: rows, or for text non-overlapping windows of `context` bytes, each with the byte
    /// after it.
    #[must_use]
    pub fn samples(&self, context: Option<u32>) -> u64 {
        match context {
            Some(context) => self.rows.saturating_sub(1) / u64::from(context.max(1)),
            None => self.rows,
        }
    }

    /// The first object that has rows.
    pub(crate) fn first_with_rows(&self) -> &Object {
        self.objects.iter().find(|object| object.rows > 0).unwrap_or(&self.objects[0])
    }

    /// The objects whose rows are decoded together: each alone, in IDX images with their labels.
    pub(crate) fn blocks(&self) -> std::slice::Chunks<'_, Object> {
        self.objects.chunks(if self.format == Format::Idx { 2 } else { 1 })
    }

    /// Of the data set as each worker holds it.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let target_bytes = match self.target {
            Target::Class { .. } => 2,
            Target::Number { .. } => 4,
            Target::NextByte => 0,
        };
        let row_bytes =
            self.features.elements().saturating_mul(self.features.dtype.bytes()).saturating_add(target_bytes);
        self.rows.saturating_mul(row_bytes)
    }
}

impl Features {
    /// Of a data set of bytes.
    pub(crate) fn of_text() -> Self {
        Self { shape: Vec::new(), dtype: Dtype::Uint8, scale: 1.0 }
    }
}
