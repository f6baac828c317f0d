//! A row of a table, put together value by value, and what becomes of values that are missing.

use super::columns::{Use, list};
use super::value::{SAY_DECIMAL, Value, has_decimal_comma, loses_digits};
use super::{Bad, Cells, Layout, Sink};
use crate::manifest::Missing;
use std::fmt::Display;

const SAY_MISSING: &str =
    "`--missing drop` leaves such rows out, `--missing fill=mean` or `--missing fill=0` puts a number there";

const SAY_LABEL: &str = "`--kind label` takes all targets for names of classes";

/// The name of a class, as a field has it.
pub(super) enum Label {
    Name(String),
    Missing,
    /// No UTF-8.
    Broken,
}

impl Label {
    pub(super) fn of(field: &[u8]) -> Self {
        match std::str::from_utf8(field.trim_ascii()) {
            Ok(_) if Value::of(field, b'.') == Value::Missing => Self::Missing,
            // What was no UTF-8 when it was read.
            Ok(text) if text.contains(char::REPLACEMENT_CHARACTER) => Self::Broken,
            Ok(text) => Self::Name(text.to_owned()),
            Err(_) => Self::Broken,
        }
    }
}

/// A row, as far as it has been read.
pub(super) struct Row<'l> {
    /// Of each column; absent: the target's is known, all others are features in order.
    uses: Option<Vec<Use>>,
    layout: &'l Layout,
    missing: Option<&'l Missing>,
    pub(super) decimal: u8,
    /// The target is the name of a class.
    pub(super) has_labels: bool,
    /// How many there are, from the first row on.
    pub(super) columns: Option<usize>,
    features: Vec<f32>,
    target: f64,
    label: String,
    is_dropped: bool,
    /// Features that a number stands for.
    filled: Vec<usize>,
    /// A feature, or the target, that float32 rounds to another whole number.
    rounded: Option<(Use, f64)>,
}

impl<'l> Row<'l> {
    pub(super) fn new(layout: &'l Layout, uses: Option<Vec<Use>>) -> Self {
        let table = layout.table.as_ref();
        let decimal = table.and_then(|table| table.decimal).and_then(|decimal| u8::try_from(decimal).ok());
        Self {
            columns: uses.as_ref().map(Vec::len),
            uses,
            layout,
            missing: table.and_then(|table| table.missing.as_ref()),
            decimal: decimal.unwrap_or(b'.'),
            has_labels: layout.labels,
            features: Vec::new(),
            target: 0.0,
            label: String::new(),
            is_dropped: false,
            filled: Vec::new(),
            rounded: None,
        }
    }

    pub(super) fn usage(&self, column: usize) -> Use {
        match &self.uses {
            Some(uses) => uses[column],
            None if column == self.layout.column => Use::Target,
            None => Use::Feature(column - usize::from(column > self.layout.column)),
        }
    }

    /// Where the target is, in rows without names.
    pub(super) fn target_column(&self) -> usize {
        if self.uses.is_some() { 0 } else { self.layout.column }
    }

    pub(super) fn feature<P: Display, S: Display>(
        &mut self,
        at: usize,
        value: Value,
        place: impl Fn() -> P,
        shown: impl Fn() -> S,
    ) -> Result<(), Bad> {
        let number = match (value, self.missing) {
            (Value::Number(number), _) => number,
            (Value::Missing, Some(Missing::Drop)) => {
                self.is_dropped = true;
                0.0
            }
            (Value::Missing, Some(Missing::Fill(values))) => {
                self.filled.push(at);
                values[at]
            }
            _ => {
                let name = list([self.name(Use::Feature(at)).as_str()].into_iter());
                let hint = format!("`--drop {name}` leaves the column out");
                return Err(not_a_number(value, place, shown, &hint));
            }
        };
        if loses_digits(number) {
            self.rounded.get_or_insert((Use::Feature(at), number));
        }
        if self.features.len() <= at {
            self.features.resize(at + 1, 0.0);
        }
        #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
        let single = number as f32;
        self.features[at] = single;
        Ok(())
    }

    pub(super) fn target<P: Display, S: Display>(
        &mut self,
        value: Value,
        place: impl Fn() -> P,
        shown: impl Fn() -> S,
    ) -> Result<(), Bad> {
        match value {
            Value::Number(number) => {
                self.target = number;
                if loses_digits(number) {
                    self.rounded.get_or_insert((Use::Target, number));
                }
            }
            Value::Missing if self.missing == Some(&Missing::Drop) => self.is_dropped = true,
            value => return Err(not_a_number(value, place, shown, SAY_LABEL)),
        }
        Ok(())
    }

    pub(super) fn label<P: Display>(&mut self, label: Label, place: impl Fn() -> P) -> Result<(), Bad> {
        match label {
            Label::Name(name) => self.label = name,
            Label::Missing if self.missing == Some(&Missing::Drop) => self.is_dropped = true,
            Label::Missing => {
                return Err(
                    Bad::new(place(), "the name of a class", "none").hint("`--missing drop` leaves such rows out")
                );
            }
            Label::Broken => return Err(Bad::new(place(), "the name of a class in UTF-8", "other bytes")),
        }
        Ok(())
    }

    /// Gives the row away and starts the next one.
    pub(super) fn hand_to(&mut self, sink: &mut dyn Sink) -> Result<(), Bad> {
        let rounded = self.rounded.take();
        let filled = std::mem::take(&mut self.filled);
        if std::mem::take(&mut self.is_dropped) {
            sink.dropped();
            return Ok(());
        }
        let say_missing = |bad: Bad, is_nan: bool| if is_nan { bad.hint(SAY_MISSING) } else { bad };
        let has_nan = |values: &[f32]| values.iter().any(|value| value.is_nan());
        sink.features(Cells::Floats(&self.features)).map_err(|bad| say_missing(bad, has_nan(&self.features)))?;
        if self.has_labels {
            sink.label(&self.label)?;
        } else {
            sink.target(self.target).map_err(|bad| say_missing(bad, self.target.is_nan()))?;
        }
        if !filled.is_empty() {
            sink.filled(&filled);
        }
        if let Some((column, value)) = rounded {
            sink.rounded(&|| self.name(column), value);
        }
        Ok(())
    }

    fn name(&self, column: Use) -> String {
        match (&self.layout.table, column) {
            (Some(table), Use::Feature(at)) => table.features[at].clone(),
            (Some(table), _) => table.target.clone(),
            (None, Use::Feature(at)) => (at + usize::from(at >= self.layout.column)).to_string(),
            (None, _) => self.layout.column.to_string(),
        }
    }
}

/// `hint` is for text.
fn not_a_number<P: Display, S: Display>(value: Value, place: impl Fn() -> P, shown: impl Fn() -> S, hint: &str) -> Bad {
    let found = shown().to_string();
    let hint = match value {
        Value::Missing => Some(SAY_MISSING.to_owned()),
        Value::Text if has_decimal_comma(found.trim_matches('"')) => Some(format!("{SAY_DECIMAL}; {hint}")),
        Value::Text => Some(hint.to_owned()),
        Value::Number(_) | Value::NotFinite => None,
    };
    Bad { hint, ..Bad::new(place(), "a finite number", found) }
}
