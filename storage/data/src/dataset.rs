//! A data set in memory: every object read once, in order, and proven to be what was pinned.

use crate::decode::{Bad, Cells, Layout, Sink, decode};
use crate::error::DataError;
use crate::manifest::{Dtype, Features, Format, Manifest, Role, Target};
use crate::place::Place;
use crate::survey::{class_of, is_byte};
use std::path::Path;

/// Memory is set aside at once for no more than so many times an object's bytes; beyond, it grows as data arrives.
const TRUSTED_EXPANSION: u64 = 16;

/// All rows of a data set, as compact as its manifest allows.
#[derive(Clone, Debug)]
pub struct Dataset {
    features: Features,
    target: Target,
    rows: u64,
    /// `features.elements()` as a stride; 1 for text.
    elements: usize,
    values: Values,
    labels: Labels,
    /// What a model sees of each byte.
    scaled_bytes: Box<[f32; 256]>,
}

#[derive(Clone, Debug)]
enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

#[derive(Clone, Debug)]
enum Labels {
    Classes(Vec<u16>),
    Numbers(Vec<f32>),
    NextByte,
}

impl Dataset {
    /// Reads the data set whose manifest lies in the folder `base`.
    ///
    /// # Errors
    /// [`DataError`] when an object is missing, is not the one that was pinned, or does not hold what the manifest
    /// says of it.
    pub fn open(manifest: &Manifest, base: &Path) -> Result<Self, DataError> {
        let place = Place::of(manifest, base)?;
        let mut loading = Loading::new(manifest);
        for object in &manifest.objects {
            loading.begin(object.rows);
            decode(&place, &object.path, Some(object), &Layout::of(manifest, object), &mut loading)?;
            let (features, targets) = (loading.object_rows, loading.object_targets);
            let complete = match (manifest.format, object.role) {
                (Format::Text, _) | (Format::Idx, Some(Role::Features) | None) => features == object.rows,
                (Format::Idx, Some(Role::Target)) => targets == object.rows,
                (Format::Csv | Format::Parquet, _) => features == object.rows && targets == object.rows,
            };
            if !complete {
                return Err(DataError::Changed {
                    object: place.shown(&object.path),
                    what: "rows",
                    expected: object.rows.to_string(),
                    found: features.max(targets).to_string(),
                });
            }
        }
        Ok(loading.data)
    }

    /// How many rows there are; for text, bytes.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The shape of one sample, without the batch: images are channels, height, width. Empty for text.
    #[must_use]
    pub fn sample_shape(&self) -> &[u32] {
        &self.features.shape
    }

    /// Values of one sample.
    #[must_use]
    pub fn sample_elements(&self) -> usize {
        self.elements
    }

    /// What is to be learned.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Samples of a text: windows of `context` bytes that share none, each with the byte after it.
    #[must_use]
    pub fn windows(&self, context: u32) -> u64 {
        self.rows.saturating_sub(1) / u64::from(context.max(1))
    }

    /// Writes the scaled features of `rows`, one after another.
    ///
    /// # Panics
    /// When a row is not below [`Dataset::rows`], or `out` is not `rows.len() * sample_elements()` long.
    pub fn fill_features(&self, rows: &[u64], out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.elements, "room for the features of {} rows", rows.len());
        #[expect(clippy::cast_possible_truncation, reason = "multiplied in float32, as documented")]
        let scale = self.features.scale as f32;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(self.elements)) {
            let start = index(row) * self.elements;
            match &self.values {
                Values::Bytes(bytes) => {
                    for (out, &byte) in out.iter_mut().zip(&bytes[start..][..self.elements]) {
                        *out = self.scaled_bytes[usize::from(byte)];
                    }
                }
                Values::Floats(floats) => {
                    for (out, &value) in out.iter_mut().zip(&floats[start..][..self.elements]) {
                        *out = value * scale;
                    }
                }
            }
        }
    }

    /// Writes the class of each of `rows`.
    ///
    /// # Panics
    /// When the target is not a class, a row is not below [`Dataset::rows`], or the lengths differ.
    pub fn fill_classes(&self, rows: &[u64], out: &mut [i64]) {
        let Labels::Classes(classes) = &self.labels else { panic!("classes of a data set of {:?}", self.target) };
        assert_eq!(out.len(), rows.len(), "room for the classes of {} rows", rows.len());
        for (out, &row) in out.iter_mut().zip(rows) {
            *out = i64::from(classes[index(row)]);
        }
    }

    /// Writes the number to be learned for each of `rows`.
    ///
    /// # Panics
    /// When the target is not a number, a row is not below [`Dataset::rows`], or the lengths differ.
    pub fn fill_numbers(&self, rows: &[u64], out: &mut [f32]) {
        let Labels::Numbers(numbers) = &self.labels else { panic!("numbers of a data set of {:?}", self.target) };
        assert_eq!(out.len(), rows.len(), "room for the numbers of {} rows", rows.len());
        for (out, &row) in out.iter_mut().zip(rows) {
            *out = numbers[index(row)];
        }
    }

    /// Writes `context + 1` bytes of text for each of the windows: what the model sees and, one further, what it
    /// is to say.
    ///
    /// # Panics
    /// When the data set is not text, a window is not below [`Dataset::windows`], or `out` is not
    /// `windows.len() * (context + 1)` long.
    pub fn fill_tokens(&self, windows: &[u64], context: u32, out: &mut [i64]) {
        let (Values::Bytes(text), Labels::NextByte) = (&self.values, &self.labels) else {
            panic!("tokens of a data set of {:?}", self.target)
        };
        let context = context as usize;
        assert_eq!(out.len(), windows.len() * (context + 1), "room for {} windows", windows.len());
        for (&window, out) in windows.iter().zip(out.chunks_exact_mut(context + 1)) {
            let start = index(window) * context;
            for (out, &byte) in out.iter_mut().zip(&text[start..][..=context]) {
                *out = i64::from(byte);
            }
        }
    }
}

/// A row as an index: what is in memory has no more rows than a `usize` counts.
fn index(row: u64) -> usize {
    usize::try_from(row).expect("a row of a data set in memory")
}

/// A data set of which some objects have been read.
struct Loading {
    data: Dataset,
    object_rows_expected: u64,
    object_rows: u64,
    object_targets: u64,
    classes: u32,
}

impl Loading {
    fn new(manifest: &Manifest) -> Self {
        let is_text = manifest.format == Format::Text;
        let elements = if is_text { 1 } else { index(manifest.features.elements()) };
        let stored: u64 = manifest.objects.iter().map(|object| object.size).fold(0, u64::saturating_add);
        let values = manifest.rows.saturating_mul(elements as u64).min(stored.saturating_mul(TRUSTED_EXPANSION));
        let values = match manifest.features.dtype {
            Dtype::Uint8 => Values::Bytes(Vec::with_capacity(index(values))),
            Dtype::Float32 => Values::Floats(Vec::with_capacity(index(values))),
        };
        let (labels, classes) = match manifest.target {
            Target::Class { classes, .. } => (Labels::Classes(Vec::new()), classes),
            Target::Number { .. } => (Labels::Numbers(Vec::new()), 0),
            Target::NextByte => (Labels::NextByte, 0),
        };
        #[expect(clippy::cast_possible_truncation, reason = "multiplied in float32, as documented")]
        let scale = manifest.features.scale as f32;
        let mut byte = 0.0;
        let scaled_bytes = Box::new(std::array::from_fn(|_| {
            let scaled = byte * scale;
            byte += 1.0;
            scaled
        }));
        let data = Dataset {
            features: manifest.features.clone(),
            target: manifest.target.clone(),
            rows: manifest.rows,
            elements,
            values,
            labels,
            scaled_bytes,
        };
        Self { data, object_rows_expected: 0, object_rows: 0, object_targets: 0, classes }
    }

    fn begin(&mut self, rows: u64) {
        (self.object_rows_expected, self.object_rows, self.object_targets) = (rows, 0, 0);
    }

    fn count(counter: &mut u64, more: u64, expected: u64) -> Result<(), Bad> {
        *counter += more;
        if *counter > expected {
            return Err(Bad::new("", format!("{expected} rows, as in the manifest"), "more"));
        }
        Ok(())
    }
}

impl Sink for Loading {
    fn features(&mut self, cells: Cells<'_>) -> Result<(), Bad> {
        let is_text = self.data.target == Target::NextByte;
        let len = match cells {
            Cells::Bytes(bytes) => bytes.len(),
            Cells::Floats(floats) => floats.len(),
        };
        let rows = if is_text { len as u64 } else { 1 };
        Self::count(&mut self.object_rows, rows, self.object_rows_expected)?;
        if !is_text && len != self.data.elements {
            return Err(Bad::new("", format!("{} values, as in the manifest", self.data.elements), len));
        }
        match (&mut self.data.values, cells) {
            (Values::Bytes(all), Cells::Bytes(bytes)) => all.extend_from_slice(bytes),
            (Values::Floats(all), Cells::Bytes(bytes)) => all.extend(bytes.iter().map(|&byte| f32::from(byte))),
            (Values::Floats(all), Cells::Floats(floats)) => {
                if let Some(value) = floats.iter().find(|value| !value.is_finite()) {
                    return Err(Bad::new("", "features within float32", value));
                }
                all.extend_from_slice(floats);
            }
            (Values::Bytes(all), Cells::Floats(floats)) => {
                if let Some(value) = floats.iter().find(|&&value| !is_byte(value)) {
                    return Err(Bad::new("", "whole numbers from 0 to 255, as in the manifest", value));
                }
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all are bytes")]
                all.extend(floats.iter().map(|&value| value as u8));
            }
        }
        Ok(())
    }

    fn target(&mut self, value: f64) -> Result<(), Bad> {
        Self::count(&mut self.object_targets, 1, self.object_rows_expected)?;
        match &mut self.data.labels {
            Labels::Classes(all) => {
                let Some(class) = class_of(value, self.classes) else {
                    return Err(Bad::new("", format!("a class from 0 to {}", self.classes - 1), value));
                };
                all.push(class);
            }
            Labels::Numbers(all) => {
                #[expect(clippy::cast_possible_truncation, reason = "targets are float32")]
                let number = value as f32;
                if !number.is_finite() {
                    return Err(Bad::new("", "a target within float32", value));
                }
                all.push(number);
            }
            Labels::NextByte => {}
        }
        Ok(())
    }
}
