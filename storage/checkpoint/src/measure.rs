//! Figures of a tensor's values, and of how two tensors differ. They are taken while the values stream by.

use crate::error::CheckpointError;
use crate::tensors::TensorReader;

/// What a tensor's values are like.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Figures {
    /// Square root of the sum of squares, of the values that are finite.
    pub norm: f64,
    /// Largest absolute value of these.
    pub max_abs: f64,
    /// Values that are NaN or infinite.
    pub nonfinite: u64,
}

/// How one tensor differs from another of its shape.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Difference {
    /// Values whose bits differ.
    pub values: u64,
    /// The largest absolute difference; infinite where one of two values that differ is not finite.
    pub max_abs: f64,
    /// Norm of the difference over the norm of the first tensor; infinite if only that is 0.
    pub relative_norm: f64,
}

/// Reads a tensor to its end.
///
/// # Errors
/// As [`TensorReader::next`].
pub async fn measure(mut tensor: TensorReader) -> Result<Figures, CheckpointError> {
    let mut squares = 0.0;
    let mut figures = Figures::default();
    while let Some(chunk) = tensor.next().await? {
        for value in values(&chunk) {
            if value.is_finite() {
                squares += f64::from(value) * f64::from(value);
                figures.max_abs = figures.max_abs.max(f64::from(value.abs()));
            } else {
                figures.nonfinite += 1;
            }
        }
    }
    figures.norm = squares.sqrt();
    Ok(figures)
}

/// Reads two tensors of one shape to their ends.
///
/// # Errors
/// As [`TensorReader::next`].
pub async fn compare(mut first: TensorReader, mut second: TensorReader) -> Result<Difference, CheckpointError> {
    let (mut squares, mut squares_of_difference) = (0.0, 0.0);
    let mut difference = Difference::default();
    loop {
        // One after the other: both have requests of their own under way.
        let (Some(ours), Some(theirs)) = (first.next().await?, second.next().await?) else { break };
        for (a, b) in values(&ours).zip(values(&theirs)) {
            if a.is_finite() {
                squares += f64::from(a) * f64::from(a);
            }
            if a.to_bits() == b.to_bits() {
                continue;
            }
            difference.values += 1;
            let apart =
                if a.is_finite() && b.is_finite() { (f64::from(a) - f64::from(b)).abs() } else { f64::INFINITY };
            difference.max_abs = difference.max_abs.max(apart);
            squares_of_difference += apart * apart;
        }
    }
    difference.relative_norm = match (squares_of_difference, squares) {
        (0.0, _) => 0.0,
        (apart, squares) => (apart / squares).sqrt(),
    };
    Ok(difference)
}

fn values(chunk: &[u8]) -> impl Iterator<Item = f32> {
    chunk.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}
