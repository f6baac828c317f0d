//! A manifest in a few figures, for people and tools.

use super::{Features, Format, Manifest, Target};
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
                writeln!(f, "features  {} {dtype}, times {scale}", shape.join("x"))?;
            }
        }
        match &self.target {
            Target::NextByte => writeln!(f, "target    the next byte")?,
            Target::Class { classes, .. } => writeln!(f, "target    one of {classes} classes")?,
            Target::Number { .. } => writeln!(f, "target    a number")?,
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
