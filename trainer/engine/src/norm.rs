//! The L2 norm of the gradient, with the same bits on every machine.

/// Elements of a block. Blocks don't depend on the world size, nor on how the vector was cut for the exchange.
const BLOCK: usize = 4096;
/// Sums that run side by side in a block, so that the compiler may use vectors of any width without reordering.
const LANES: usize = 16;

/// Sum of squares of `values`. Not finite exactly when an element is not finite: squares and sums of float32 values
/// are far from float64's limits, so an overflow can't hide a large gradient or fake a broken one.
pub(crate) fn sum_of_squares(values: &[f32], blocks: &mut Vec<f64>) -> f64 {
    blocks.clear();
    blocks.extend(values.chunks(BLOCK).map(block_sum));
    pairwise(blocks)
}

fn block_sum(block: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    let (rows, rest) = block.as_chunks::<LANES>();
    for row in rows {
        for (sum, &value) in sums.iter_mut().zip(row) {
            let value = f64::from(value);
            *sum += value * value;
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        let value = f64::from(value);
        *sum += value * value;
    }
    pairwise(&mut sums)
}

/// Adds neighbours until one is left; an odd one out moves up as it is.
fn pairwise(values: &mut [f64]) -> f64 {
    let mut len = values.len();
    while len > 1 {
        for i in 0..len / 2 {
            values[i] = values[2 * i] + values[2 * i + 1];
        }
        if len % 2 == 1 {
            values[len / 2] = values[len - 1];
        }
        len = len.div_ceil(2);
    }
    values.first().copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_broken_element_is_seen_and_large_ones_are_not_taken_for_broken() {
        let mut values = vec![0.5f32; 3 * BLOCK + 7];
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, BLOCK, values.len() - 1] {
                let kept = std::mem::replace(&mut values[at], broken);
                assert!(!sum_of_squares(&values, &mut Vec::new()).is_finite(), "{broken} at {at}");
                values[at] = kept;
            }
        }
        values.fill(f32::MAX);
        assert!(sum_of_squares(&values, &mut Vec::new()).is_finite());
        assert_eq!(sum_of_squares(&[], &mut Vec::new()), 0.0);
    }

    proptest! {
        #[test]
        fn it_is_near_the_plain_sum(values in prop::collection::vec(-1e3f32..1e3, 0..20_000)) {
            let plain: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let ours = sum_of_squares(&values, &mut Vec::new());
            prop_assert!((ours - plain).abs() <= 1e-12 * plain, "{ours} {plain}");
        }
    }
}
