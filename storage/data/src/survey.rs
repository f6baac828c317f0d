//! Going once through a data set to learn its shape, keeping none of it.

use crate::decode::{Bad, Cells, Sink};
use crate::manifest::{CLASSES_MAX, Dtype};
use serde::{Deserialize, Serialize};

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
    is_text: bool,
}

impl Survey {
    pub(crate) fn new(is_text: bool) -> Self {
        Self { rows: 0, targets: 0, elements: None, dtype: Dtype::Uint8, target_max: 0.0, not_a_class: None, is_text }
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
        Ok(())
    }

    /// The smallest count of classes that has room for all targets.
    pub(crate) fn classes(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "asked where all are classes")]
        let classes = self.target_max as u32 + 1;
        classes
    }
}

impl Sink for Survey {
    fn features(&mut self, cells: Cells<'_>) -> Result<(), Bad> {
        let len = match cells {
            Cells::Bytes(bytes) if self.is_text => {
                self.rows += bytes.len() as u64;
                return Ok(());
            }
            Cells::Bytes(bytes) => bytes.len(),
            Cells::Floats(floats) => {
                if let Some(value) = floats.iter().find(|value| !value.is_finite()) {
                    return Err(Bad::new("", "features within float32", value));
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
        self.targets += 1;
        if class_of(value, CLASSES_MAX).is_none() {
            self.not_a_class.get_or_insert(value);
        }
        self.target_max = self.target_max.max(value);
        Ok(())
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
