//! Which columns of a table are read, by name.

use serde::{Deserialize, Serialize};

/// Which columns of a CSV or Parquet data set are read. An object's columns are found by their names, in any order; in
/// CSV without a header, a column's name is its place, counted from 0.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLayout {
    /// The columns whose values make a sample, in this order.
    pub features: Vec<String>,
    /// The column to learn.
    pub target: String,
    /// Columns that are there and are not read: by choice, or as they only name the rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What becomes of a missing value. Absent: it is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// CSV only: lines at the start of each object that are no part of the table.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u32,
    /// CSV only: the mark before a number's fraction, where it is not a point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<char>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What becomes of a missing value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Missing {
    /// Its row is no part of the data set.
    Drop,
    /// A number stands for it, one for each feature. A missing target is an error.
    Fill(Vec<f64>),
}
