//! The rows of one object (of an IDX pair, both): values and labels, in memory or in a mapped file of the cache.

use crate::decode::{Bad, Cells, Layout, Sink, decode};
use crate::error::DataError;
use crate::manifest::{Dtype, Format, Manifest, Object, Role, Target};
use crate::place::Place;
use crate::reader::Source;
use crate::survey::{class_of, is_byte};
use memmap2::Mmap;
use std::collections::HashMap;
use std::ops::Range;

/// Memory is set aside at once for no more than so many times an object's bytes; beyond, it grows as data arrives.
const TRUSTED_EXPANSION: u64 = 16;

/// Rows, as compact as the manifest allows.
#[derive(Debug)]
pub(crate) enum Block {
    /// In memory.
    Held { values: Values, labels: Labels },
    /// In a file that was verified when it was mapped: values, then labels, both little-endian.
    Mapped { map: Mmap, values: Range<usize>, labels: Range<usize>, dtype: Dtype },
}

#[derive(Debug)]
pub(crate) enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

#[derive(Debug)]
pub(crate) enum Labels {
    Classes(Vec<u16>),
    Numbers(Vec<f32>),
    NextByte,
}

/// What a model sees of a value.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    factor: f32,
    bytes: Box<[f32; 256]>,
}

impl Scaling {
    pub(crate) fn by(factor: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "multiplied in float32, as documented")]
        let factor = factor as f32;
        let mut byte = 0.0;
        let bytes = Box::new(std::array::from_fn(|_| {
            let scaled = byte * factor;
            byte += 1.0;
            scaled
        }));
        Self { factor, bytes }
    }

    fn bytes(&self, values: &[u8], out: &mut [f32]) {
        for (out, &byte) in out.iter_mut().zip(values) {
            *out = self.bytes[usize::from(byte)];
        }
    }
}

impl Block {
    /// Decodes the objects of one block, each proven to be what was pinned.
    pub(crate) fn read(place: &Place, manifest: &Manifest, objects: &[Object]) -> Result<Self, DataError> {
        let mut loading = Loading::new(manifest, objects);
        for object in objects {
            loading.begin(object.rows);
            let source = Source::pinned(object);
            decode(place, &source, &Layout::of(manifest, object), &mut loading)?;
            let (features, targets) = (loading.object_rows, loading.object_targets);
            let complete = match (manifest.format, object.role) {
                (Format::Text, _) | (Format::Idx, Some(Role::Features) | None) => features == object.rows,
                (Format::Idx, Some(Role::Target)) => targets == object.rows,
                (Format::Csv | Format::Parquet | Format::Tar, _) => features == object.rows && targets == object.rows,
            };
            if !complete {
                return Err(DataError::Changed {
                    object: source.shown(place),
                    what: "rows",
                    expected: object.rows.to_string(),
                    found: features.max(targets).to_string(),
                });
            }
        }
        Ok(Self::Held { values: loading.values, labels: loading.labels })
    }

    /// How much memory or disk it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Held { values, labels } => values.bytes() + labels.bytes(),
            Self::Mapped { map, .. } => map.len(),
        };
        bytes as u64
    }

    /// Writes the scaled features of a row of `out.len()` values.
    pub(crate) fn features(&self, row: usize, scaling: &Scaling, out: &mut [f32]) {
        let (start, len) = (row * out.len(), out.len());
        match self {
            Self::Held { values: Values::Bytes(bytes), .. } => scaling.bytes(&bytes[start..][..len], out),
            Self::Held { values: Values::Floats(floats), .. } => {
                for (out, &value) in out.iter_mut().zip(&floats[start..][..len]) {
                    *out = value * scaling.factor;
                }
            }
            Self::Mapped { map, values, dtype: Dtype::Uint8, .. } => {
                scaling.bytes(&map[values.clone()][start..][..len], out);
            }
            Self::Mapped { map, values, dtype: Dtype::Float32, .. } => {
                let stored = map[values.clone()][4 * start..][..4 * len].chunks_exact(4);
                for (out, value) in out.iter_mut().zip(stored) {
                    *out = f32_of(value) * scaling.factor;
                }
            }
        }
    }

    /// The class of a row.
    pub(crate) fn class(&self, row: usize) -> u16 {
        match self {
            Self::Held { labels: Labels::Classes(classes), .. } => classes[row],
            Self::Mapped { map, labels, .. } => {
                let stored = &map[labels.clone()][2 * row..][..2];
                u16::from_le_bytes([stored[0], stored[1]])
            }
            Self::Held { labels, .. } => panic!("a class of {labels:?}"),
        }
    }

    /// The number to be learned for a row.
    pub(crate) fn number(&self, row: usize) -> f32 {
        match self {
            Self::Held { labels: Labels::Numbers(numbers), .. } => numbers[row],
            Self::Mapped { map, labels, .. } => f32_of(&map[labels.clone()][4 * row..][..4]),
            Self::Held { labels, .. } => panic!("a number of {labels:?}"),
        }
    }

    /// Bytes of a text.
    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Held { values: Values::Bytes(bytes), .. } => bytes,
            Self::Mapped { map, values, .. } => &map[values.clone()],
            Self::Held { values: Values::Floats(_), .. } => panic!("text of numbers"),
        }
    }
}

fn f32_of(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

impl Values {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Floats(floats) => 4 * floats.len(),
        }
    }

    /// Little-endian, a bounded piece at a time.
    pub(crate) fn write(&self, mut out: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        match self {
            Self::Bytes(bytes) => out(bytes),
            Self::Floats(floats) => write_all(floats, |value| value.to_le_bytes(), out),
        }
    }
}

impl Labels {
    fn bytes(&self) -> usize {
        match self {
            Self::Classes(classes) => 2 * classes.len(),
            Self::Numbers(numbers) => 4 * numbers.len(),
            Self::NextByte => 0,
        }
    }

    /// Little-endian, a bounded piece at a time.
    pub(crate) fn write(&self, out: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        match self {
            Self::Classes(classes) => write_all(classes, |class| class.to_le_bytes(), out),
            Self::Numbers(numbers) => write_all(numbers, |number| number.to_le_bytes(), out),
            Self::NextByte => Ok(()),
        }
    }
}

fn write_all<T: Copy, const N: usize>(
    all: &[T],
    bytes_of: impl Fn(T) -> [u8; N],
    mut out: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    all.chunks(64 << 10).try_for_each(|piece| {
        let bytes: Vec<u8> = piece.iter().flat_map(|&value| bytes_of(value)).collect();
        out(&bytes)
    })
}

/// Rows that have been decoded so far.
struct Loading {
    values: Values,
    labels: Labels,
    is_text: bool,
    elements: usize,
    classes: u32,
    /// Classes by name, where targets are names.
    names: HashMap<String, u16>,
    object_rows_expected: u64,
    object_rows: u64,
    object_targets: u64,
}

impl Loading {
    fn new(manifest: &Manifest, objects: &[Object]) -> Self {
        let is_text = manifest.format == Format::Text;
        let elements = if is_text { 1 } else { index(manifest.features.elements()) };
        let stored: u64 = objects.iter().map(|object| object.size).fold(0, u64::saturating_add);
        let rows = objects.first().map_or(0, |object| object.rows);
        let values = index(rows.saturating_mul(elements as u64).min(stored.saturating_mul(TRUSTED_EXPANSION)));
        let values = match manifest.features.dtype {
            Dtype::Uint8 => Values::Bytes(Vec::with_capacity(values)),
            Dtype::Float32 => Values::Floats(Vec::with_capacity(values)),
        };
        let (labels, classes) = match manifest.target {
            Target::Class { classes, .. } => (Labels::Classes(Vec::new()), classes),
            Target::Number { .. } => (Labels::Numbers(Vec::new()), 0),
            Target::NextByte => (Labels::NextByte, 0),
        };
        let names = manifest.class_names.iter().flatten().zip(0..).map(|(name, class)| (name.clone(), class)).collect();
        let (object_rows_expected, object_rows, object_targets) = (0, 0, 0);
        Self { values, labels, is_text, elements, classes, names, object_rows_expected, object_rows, object_targets }
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
        let is_text = self.is_text;
        let len = match cells {
            Cells::Bytes(bytes) => bytes.len(),
            Cells::Floats(floats) => floats.len(),
        };
        let rows = if is_text { len as u64 } else { 1 };
        Self::count(&mut self.object_rows, rows, self.object_rows_expected)?;
        if !is_text && len != self.elements {
            return Err(Bad::new("", format!("{} values, as in the manifest", self.elements), len));
        }
        match (&mut self.values, cells) {
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
        match &mut self.labels {
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

    fn label(&mut self, name: &str) -> Result<(), Bad> {
        match self.names.get(name) {
            Some(&class) => self.target(class.into()),
            None => Err(Bad::new("", "a class that the manifest names", format!("{name:?}"))),
        }
    }
}

/// A count as an index: what is in memory has no more than a `usize` counts.
pub(crate) fn index(count: u64) -> usize {
    usize::try_from(count).expect("a count of what is in memory")
}
