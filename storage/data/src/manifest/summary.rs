//! A manifest in a few figures, for people and tools.

use super::{Features, Format, Manifest, Target};
use crate::decode::list;
use serde::Serialize;
use std::fmt;

/// A manifest in a few figures. `Display` gives them as aligned lines.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// What people call it.
    pub name: String,
    /// How the objects are read.
    pub format: Format,
    /// How many.
    pub objects: usize,
    /// All objects, as stored.
    pub size_bytes: u64,
    /// In all; for text, bytes.
    pub rows: u64,
    /// What a model sees of a row.
    pub features: Features,
    /// What it learns to say.
    pub target: Target,
    /// As each worker holds it.
    pub memory_bytes: u64,
    /// CSV and Parquet: what was taken for what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<ColumnsSummary>,
    /// The classes' names, where the data has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
}

/// What the columns of a table were taken for. In CSV without a header they have their places for names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ColumnsSummary {
    /// CSV only: whether the first line has names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// The columns of a sample's values, in order. Absent where all columns but the target are, by their places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// The column to learn.
    pub target: String,
    /// Columns that are not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Manifest {
    /// What a person wants to know about the data set.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            format: self.format,
            objects: self.objects.len(),
            size_bytes: self.objects.iter().map(|object| object.size).sum(),
            rows: self.rows,
            features: self.features.clone(),
            target: self.target.clone(),
            memory_bytes: self.memory_bytes(),
            columns: self.target.column().map(|column| ColumnsSummary {
                header: self.csv.map(|csv| csv.header),
                features: self.table.as_ref().map(|table| table.features.clone()),
                target: self.table.as_ref().map_or_else(|| column.to_string(), |table| table.target.clone()),
                left_out: self.table.as_ref().map(|table| table.left_out.clone()).unwrap_or_default(),
            }),
            class_names: self.class_names.clone(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.objects == 1 { "" } else { "s" };
        writeln!(f, "name      {}", self.name)?;
        writeln!(f, "objects   {} {} object{plural}, {}", self.objects, self.format, bytes_text(self.size_bytes))?;
        match &self.target {
            Target::NextByte => writeln!(f, "rows      {} bytes of text", self.rows)?,
            Target::Class { .. } | Target::Number { .. } => {
                let shape: Vec<String> = self.features.shape.iter().map(u32::to_string).collect();
                let (dtype, scale) = (self.features.dtype.as_str(), self.features.scale);
                writeln!(f, "rows      {}", self.rows)?;
                if let Some(header) = self.columns.as_ref().and_then(|columns| columns.header) {
                    writeln!(f, "header    {}", if header { "the first line" } else { "none: columns by place" })?;
                }
                write!(f, "features  {} {dtype}, times {scale}", shape.join("x"))?;
                match self.columns.as_ref().and_then(|columns| columns.features.as_ref()) {
                    Some(names) => writeln!(f, ": {}", list(names.iter().map(String::as_str)))?,
                    None => writeln!(f)?,
                }
            }
        }
        write!(f, "target    ")?;
        if let Some(columns) = &self.columns {
            let is_place = columns.features.is_none();
            write!(f, "{}{}: ", if is_place { "column " } else { "" }, list([columns.target.as_str()].into_iter()))?;
        }
        match &self.target {
            Target::NextByte => writeln!(f, "the next byte")?,
            Target::Class { classes, .. } => {
                write!(f, "one of {classes} classes")?;
                match &self.class_names {
                    Some(names) => writeln!(f, ": {}", list(names.iter().map(String::as_str)))?,
                    None => writeln!(f, ", 0 to {}", classes - 1)?,
                }
            }
            Target::Number { .. } => writeln!(f, "a number")?,
        }
        if let Some(columns) = self.columns.as_ref().filter(|columns| !columns.left_out.is_empty()) {
            writeln!(f, "left out  {}", list(columns.left_out.iter().map(String::as_str)))?;
        }
        write!(f, "memory    {} in each worker", bytes_text(self.memory_bytes))
    }
}

/// `1.6 MiB`.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}
