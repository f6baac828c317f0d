//! Vectors that somebody else may use in part while the rest is still written: no reference says that it has them alone.

use std::cell::Cell;

/// A vector that is nobody else's, as cells.
pub(crate) fn of(vector: &mut [f32]) -> &[Cell<f32>] {
    Cell::from_mut(vector).as_slice_of_cells()
}

/// Writes as many values as there are cells.
pub(crate) fn fill(cells: &[Cell<f32>], values: &[f32]) {
    assert_eq!(cells.len(), values.len(), "a value for each cell");
    cells.iter().zip(values).for_each(|(cell, value)| cell.set(*value));
}
