//! What must hold of a manifest before a byte of its data is read: bounds first, so that nothing absurd is ever tried.

use super::{CsvLayout, Dtype, Features, Format, Manifest, Missing, READING, Role, Target};
use crate::error::DataError;
use std::collections::BTreeSet;

/// Elements of one sample.
pub(crate) const SAMPLE_MAX_ELEMENTS: u64 = 1 << 24;
/// Class labels are kept in 16 bits.
pub(crate) const CLASSES_MAX: u32 = 1 << 16;
/// A data set lives in each worker's memory.
const MEMORY_MAX_BYTES: u64 = 1 << 36;

/// Where a manifest does not hold, before its name is put to it.
struct Broken {
    place: String,
    expected: String,
    found: String,
}

impl Broken {
    fn new(place: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { place: place.to_owned(), expected: expected.into(), found: found.into() }
    }
}

impl Manifest {
    pub(super) fn check(&self, name: &str) -> Result<(), DataError> {
        let checks = [
            Self::check_objects,
            Self::check_rows,
            Self::check_features,
            Self::check_target,
            Self::check_csv,
            Self::check_table,
            Self::check_class_names,
            Self::check_tar,
        ];
        checks.iter().try_for_each(|check| check(self)).map_err(|Broken { place, expected, found }| {
            DataError::Manifest { manifest: name.to_owned(), place, expected, found }
        })?;
        let memory = self.memory_bytes();
        if memory > MEMORY_MAX_BYTES {
            return Err(DataError::TooLarge {
                object: name.to_owned(),
                unit: "bytes in memory",
                limit: MEMORY_MAX_BYTES,
                found: memory.into(),
            });
        }
        Ok(())
    }

    fn check_objects(&self) -> Result<(), Broken> {
        let mut seen = BTreeSet::new();
        for (index, object) in self.objects.iter().enumerate() {
            let broken =
                |field, expected, found| Err(Broken::new(&format!("objects[{index}].{field}"), expected, found));
            if !is_plain_path(&object.path) {
                return broken("path", "a path below the root, without `.` and `..`", format!("{:?}", object.path));
            }
            if let Some(stored) = object.stored.as_ref().filter(|stored| !is_plain_path(stored)) {
                return broken("stored", "a path below the root, without `.` and `..`", format!("{stored:?}"));
            }
            if !seen.insert(&object.path) {
                return broken("path", "each object once", format!("{:?} again", object.path));
            }
            if !is_digest(&object.digest) {
                return broken("digest", "blake3: and 64 hex digits", format!("{:?}", object.digest));
            }
            let (role, expected) = match (self.format, index % 2) {
                (Format::Idx, 0) => (Some(Role::Features), "features, then their target, in turn"),
                (Format::Idx, _) => (Some(Role::Target), "features, then their target, in turn"),
                _ => (None, "no role but in idx"),
            };
            if object.role != role {
                return broken("role", expected, object.role.map_or("none", Role::as_str).to_owned());
            }
        }
        if self.format != Format::Idx {
            return Ok(());
        }
        for (index, pair) in self.objects.chunks(2).enumerate() {
            let [features, target] = pair else {
                return Err(Broken::new("objects", "a target after each object of features", "none after the last"));
            };
            if features.rows != target.rows {
                let place = format!("objects[{}].rows", 2 * index + 1);
                return Err(Broken::new(
                    &place,
                    format!("{}, as its features", features.rows),
                    target.rows.to_string(),
                ));
            }
        }
        Ok(())
    }

    fn check_rows(&self) -> Result<(), Broken> {
        let counted = self.objects.iter().filter(|object| object.role != Some(Role::Target));
        let Some(sum) = counted.map(|object| object.rows).try_fold(0_u64, u64::checked_add) else {
            return Err(Broken::new("objects", "fewer than 2^64 rows in all", "more"));
        };
        if self.rows != sum {
            return Err(Broken::new("rows", format!("{sum}, the sum over all objects"), self.rows.to_string()));
        }
        if self.rows == 0 {
            return Err(Broken::new("rows", "at least one", "none"));
        }
        Ok(())
    }

    fn check_features(&self) -> Result<(), Broken> {
        if !(1..=SAMPLE_MAX_ELEMENTS).contains(&self.features.elements()) {
            let found = format!("{:?}", self.features.shape);
            return Err(Broken::new("features.shape", format!("1 to {SAMPLE_MAX_ELEMENTS} elements"), found));
        }
        #[expect(clippy::cast_possible_truncation, reason = "features are scaled in float32")]
        let scale = self.features.scale as f32;
        if !scale.is_normal() {
            let found = self.features.scale.to_string();
            return Err(Broken::new("features.scale", "a number within float32, other than 0", found));
        }
        Ok(())
    }

    fn check_target(&self) -> Result<(), Broken> {
        if let Target::Class { classes, .. } = self.target
            && !(1..=CLASSES_MAX).contains(&classes)
        {
            return Err(Broken::new("target.classes", format!("1 to {CLASSES_MAX}"), classes.to_string()));
        }
        let is_text = self.format == Format::Text;
        if is_text != (self.target == Target::NextByte) || (is_text && self.features != Features::of_text()) {
            let found = format!("{:?} for {}", self.target, self.format);
            return Err(Broken::new("target.kind", "next_byte for plain text, and only there", found));
        }
        let has_columns = matches!(self.format, Format::Csv | Format::Parquet);
        if has_columns != self.target.column().is_some() {
            let found = if has_columns { "none" } else { "one" };
            return Err(Broken::new("target.column", "a column for csv and parquet, and only there", found));
        }
        Ok(())
    }

    fn check_csv(&self) -> Result<(), Broken> {
        match (self.format, self.csv) {
            (Format::Csv, None) => Err(Broken::new("csv", "how its lines are cut", "none")),
            (Format::Csv, Some(CsvLayout { delimiter, .. })) if is_delimiter(delimiter) => Ok(()),
            (Format::Csv, Some(CsvLayout { delimiter, .. })) => {
                let expected = "a tab or a character of ASCII that no number has";
                Err(Broken::new("csv.delimiter", expected, format!("{delimiter:?}")))
            }
            (_, None) => Ok(()),
            (format, Some(_)) => Err(Broken::new("csv", format!("none for {format}"), "one")),
        }
    }

    fn check_table(&self) -> Result<(), Broken> {
        let Some(table) = &self.table else { return Ok(()) };
        if !matches!(self.format, Format::Csv | Format::Parquet) {
            return Err(Broken::new("table", format!("none for {}", self.format), "one"));
        }
        if table.features.is_empty() {
            return Err(Broken::new("table.features", "at least one column", "none"));
        }
        let mut seen = BTreeSet::new();
        let names = table.features.iter().chain([&table.target]).chain(&table.left_out);
        if let Some(name) = names.into_iter().find(|name| !seen.insert(*name)) {
            return Err(Broken::new("table", "each column once", format!("{name:?} again")));
        }
        if let Some(Missing::Fill(values)) = &table.missing {
            let place = "table.missing.fill";
            if values.len() != table.features.len() {
                let expected = format!("a number for each of {} features", table.features.len());
                return Err(Broken::new(place, expected, values.len().to_string()));
            }
            #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
            if let Some(value) = values.iter().find(|value| !(**value as f32).is_finite()) {
                return Err(Broken::new(place, "numbers within float32", value.to_string()));
            }
        }
        let is_mark = |mark: char| mark.is_ascii_punctuation() && !matches!(mark, '-' | '+' | '"');
        match table.decimal {
            Some(mark) if !is_mark(mark) || self.csv.is_none_or(|csv| csv.delimiter == mark) => {
                Err(Broken::new("table.decimal", "a mark other than the delimiter, for csv", format!("{mark:?}")))
            }
            _ => Ok(()),
        }
    }

    fn check_class_names(&self) -> Result<(), Broken> {
        let Some(names) = &self.class_names else { return Ok(()) };
        let place = "class_names";
        match self.target {
            Target::Class { classes, .. } if classes as usize == names.len() => {}
            Target::Class { classes, .. } => {
                return Err(Broken::new(place, format!("names of {classes} classes"), names.len().to_string()));
            }
            _ => return Err(Broken::new(place, "none, as the target is no class", "some")),
        }
        let mut seen = BTreeSet::new();
        match names.iter().find(|name| !seen.insert(*name)) {
            Some(name) => Err(Broken::new(place, "each name once", format!("{name:?} again"))),
            None => Ok(()),
        }
    }

    fn check_tar(&self) -> Result<(), Broken> {
        let Some(tar) = &self.tar else {
            return match self.format {
                Format::Tar => Err(Broken::new("tar", "which members make a sample", "none")),
                format if self.reading.is_some() => Err(Broken::new("reading", format!("none for {format}"), "one")),
                _ => Ok(()),
            };
        };
        if self.format != Format::Tar {
            return Err(Broken::new("tar", format!("none for {}", self.format), "one"));
        }
        if !matches!(tar.target.as_str(), "cls" | "json" | "txt") {
            return Err(Broken::new("tar.target", "cls, json or txt", format!("{:?}", tar.target)));
        }
        if let Some(reading) = self.reading.filter(|reading| !(1..=READING).contains(reading)) {
            return Err(Broken::new("reading", format!("1 to {READING}"), reading.to_string()));
        }
        if tar.field.is_some() && tar.target != "json" {
            return Err(Broken::new("tar.field", "a key for json, and only there", "one"));
        }
        if !matches!(self.features.shape[..], [1 | 3, _, _]) || self.features.dtype != Dtype::Uint8 {
            let found = format!("{:?} of {}", self.features.shape, self.features.dtype.as_str());
            return Err(Broken::new("features", "1 or 3 channels, height and width of uint8", found));
        }
        Ok(())
    }
}

/// Whether a character can stand between two values of a line.
pub(crate) fn is_delimiter(character: char) -> bool {
    let is_of_numbers = character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '+' | '"');
    character == '\t' || (character.is_ascii() && !character.is_ascii_control() && !is_of_numbers)
}

fn is_plain_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("blake3:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    })
}
