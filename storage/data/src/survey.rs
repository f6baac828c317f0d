//! Going once through a data set to learn its shape, keeping none of it.

use crate::decode::{Bad, Cells, SAY_DECIMAL, Sink, Value, has_decimal_comma, shown};
use crate::manifest::{CLASSES_MAX, Dtype};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of classes take no more room than that, all together.
const LABELS_MAX_BYTES: usize = 16 << 20;
/// A longer one is no name.
const LABEL_MAX_BYTES: usize = 1 << 10;

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Rows are runs of bytes.
    pub(crate) text: bool,
    /// Names of classes may be numbers.
    pub(crate) numeric_labels: bool,
    /// The mean of each feature.
    pub(crate) means: bool,
}

/// What all rows so far have in common.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Survey {
    /// Rows of features; for text, bytes.
    pub(crate) rows: u64,
    pub(crate) targets: u64,
    /// Values of one row; absent before the first, and for text.
    pub(crate) elements: Option<usize>,
    pub(crate) dtype: Dtype,
    pub(crate) target_max: f64,
    /// A target that no class can have.
    pub(crate) not_a_class: Option<f64>,
    /// Rows of each class that a target names.
    pub(crate) classes: BTreeMap<u16, u64>,
    /// Rows of each class that a target names by text.
    pub(crate) labels: BTreeMap<String, u64>,
    labels_bytes: usize,
    /// The first whole number that float32 makes another one, and its column.
    pub(crate) rounded: Option<(String, f64)>,
    /// Rows left out, as a value was missing.
    pub(crate) dropped: u64,
    /// Values that a number stands for.
    pub(crate) filled: u64,
    /// Of each feature, where means are wanted: the sum and count of values that are there.
    pub(crate) sums: Vec<(f64, u64)>,
    wanted: Wanted,
}

impl Survey {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            rows: 0,
            targets: 0,
            elements: None,
            dtype: Dtype::Uint8,
            target_max: 0.0,
            not_a_class: None,
            classes: BTreeMap::new(),
            labels: BTreeMap::new(),
            labels_bytes: 0,
            rounded: None,
            dropped: 0,
            filled: 0,
            sums: Vec::new(),
            wanted,
        }
    }

    /// Takes in what a later object's rows have in common.
    pub(crate) fn add(&mut self, later: &Self) -> Result<(), Bad> {
        if let (Some(expected), Some(found)) = (self.elements, later.elements)
            && expected != found
        {
            return Err(Bad::new("rows", format!("{expected} values, as in the objects before"), found));
        }
        self.elements = self.elements.or(later.elements);
        self.rows += later.rows;
        self.targets += later.targets;
        if later.dtype == Dtype::Float32 {
            self.dtype = Dtype::Float32;
        }
        self.target_max = self.target_max.max(later.target_max);
        self.not_a_class = self.not_a_class.or(later.not_a_class);
        for (&class, rows) in &later.classes {
            *self.classes.entry(class).or_default() += rows;
        }
        for (label, &rows) in &later.labels {
            self.count_label(label, rows).map_err(|bad| bad.at("rows"))?;
        }
        if self.rounded.is_none() {
            self.rounded.clone_from(&later.rounded);
        }
        self.dropped += later.dropped;
        self.filled += later.filled;
        self.sums.resize(self.sums.len().max(later.sums.len()), (0.0, 0));
        for ((sum, count), (more, others)) in self.sums.iter_mut().zip(&later.sums) {
            *sum += more;
            *count += others;
        }
        Ok(())
    }

    fn count_label(&mut self, label: &str, rows: u64) -> Result<(), Bad> {
        if let Some(count) = self.labels.get_mut(label) {
            *count += rows;
            return Ok(());
        }
        if label.len() > LABEL_MAX_BYTES || label.contains(['\n', '\r']) {
            let found = format!("{} bytes: {:?}...", label.len(), label.chars().take(40).collect::<String>());
            return Err(Bad::new("", format!("a class's name of one line and at most {LABEL_MAX_BYTES} bytes"), found));
        }
        self.labels_bytes += label.len();
        if self.labels.len() as u64 >= u64::from(CLASSES_MAX) || self.labels_bytes > LABELS_MAX_BYTES {
            return Err(Bad::new("", format!("names of at most {CLASSES_MAX} classes"), "more"));
        }
        self.labels.insert(label.to_owned(), rows);
        Ok(())
    }

    /// The smallest count of classes that has room for all targets.
    pub(crate) fn class_count(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "asked where all are classes")]
        let classes = self.target_max as u32 + 1;
        classes
    }
}

impl Sink for Survey {
    fn features(&mut self, cells: Cells<'_>) -> Result<(), Bad> {
        let len = match cells {
            Cells::Bytes(bytes) if self.wanted.text => {
                self.rows += bytes.len() as u64;
                return Ok(());
            }
            Cells::Bytes(bytes) => bytes.len(),
            Cells::Floats(floats) => {
                if let Some(value) = floats.iter().find(|value| !value.is_finite()) {
                    return Err(Bad::new("", "features within float32", value));
                }
                if self.wanted.means {
                    self.sums.resize(floats.len(), (0.0, 0));
                    for ((sum, count), &value) in self.sums.iter_mut().zip(floats) {
                        *sum += f64::from(value);
                        *count += 1;
                    }
                }
                if self.dtype == Dtype::Uint8 && !floats.iter().all(|&value| is_byte(value)) {
                    self.dtype = Dtype::Float32;
                }
                floats.len()
            }
        };
        let expected = *self.elements.get_or_insert(len);
        if len != expected {
            return Err(Bad::new("", format!("{expected} values, as in the rows before"), len));
        }
        self.rows += 1;
        Ok(())
    }

    fn target(&mut self, value: f64) -> Result<(), Bad> {
        #[expect(clippy::cast_possible_truncation, reason = "targets are float32")]
        let single = value as f32;
        if !single.is_finite() {
            return Err(Bad::new("", "a target within float32", shown(value)));
        }
        self.targets += 1;
        match class_of(value, CLASSES_MAX) {
            Some(class) => *self.classes.entry(class).or_default() += 1,
            None => drop(self.not_a_class.get_or_insert(value)),
        }
        self.target_max = self.target_max.max(value);
        Ok(())
    }

    fn label(&mut self, name: &str) -> Result<(), Bad> {
        if !self.wanted.numeric_labels && Value::of(name.as_bytes(), b'.') != Value::Text {
            return Err(Bad::new("", "the name of a class, as in the first row", format!("{name:?}"))
                .hint("`--kind label` takes numbers for names of classes as well"));
        }
        if !self.wanted.numeric_labels && has_decimal_comma(name) {
            let hint = format!("{SAY_DECIMAL}; `--kind label` takes such numbers for names of classes");
            return Err(Bad::new("", "a finite number or the name of a class", format!("{name:?}")).hint(&hint));
        }
        self.count_label(name, 1)?;
        self.targets += 1;
        Ok(())
    }

    fn rounded(&mut self, name: &dyn Fn() -> String, value: f64) {
        if self.rounded.is_none() {
            self.rounded = Some((name(), value));
        }
    }

    fn dropped(&mut self) {
        self.dropped += 1;
    }

    fn filled(&mut self, places: &[usize]) {
        self.filled += places.len() as u64;
        // What stands there while means are sought is 0.
        for &place in places {
            if let Some((_, count)) = self.sums.get_mut(place) {
                *count -= 1;
            }
        }
    }
}

pub(crate) fn is_byte(value: f32) -> bool {
    // -0.0 is no byte: as one it would lose its sign.
    (0.0..=255.0).contains(&value) && value.fract() == 0.0 && value.is_sign_positive()
}

/// The class that a target names, when it is one of `classes`.
pub(crate) fn class_of(value: f64, classes: u32) -> Option<u16> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number below 2^16")]
    let class = (value.fract() == 0.0 && value >= 0.0 && value < f64::from(classes)).then_some(value as u16);
    class
}
