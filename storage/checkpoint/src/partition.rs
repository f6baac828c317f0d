//! Which worker writes which file. All workers compute the same answer without a word: it follows from the tensors
//! and the number of parts alone.

use crate::pack::{Packed, pack};
use crate::tensor::TensorInfo;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Splits `tensors` to `parts` parts: for each part the indices of its tensors, ascending. Tensors that share a file go
/// to one part.
///
/// The largest file first, each to the part that has least so far (Graham's longest-processing-time rule, 1969): no
/// part gets more than an even share and the size of one file. With more parts than files some get nothing.
///
/// # Panics
/// If `parts` is 0.
pub fn partition(tensors: &[TensorInfo], parts: u32) -> Vec<Vec<usize>> {
    let files = pack(tensors);
    let partitioned = partition_files(&files, parts);
    let tensors_of = |part: Vec<usize>| {
        let mut tensors: Vec<usize> = part.into_iter().flat_map(|file| files[file].tensors.iter().copied()).collect();
        tensors.sort_unstable();
        tensors
    };
    partitioned.into_iter().map(tensors_of).collect()
}

/// For each part the indices of its files, ascending.
pub(crate) fn partition_files(files: &[Packed], parts: u32) -> Vec<Vec<usize>> {
    let sizes: Vec<usize> = files.iter().map(|file| file.bytes).collect();
    partition_by_size(&sizes, parts as usize)
}

/// The same for files of these sizes.
pub(crate) fn partition_by_size(sizes: &[usize], parts: usize) -> Vec<Vec<usize>> {
    assert!(parts > 0, "a checkpoint has at least one part");
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&at| (Reverse(sizes[at]), at));

    let mut partitioned = vec![Vec::new(); parts];
    let mut lightest: BinaryHeap<Reverse<(usize, usize)>> =
        (0..partitioned.len()).map(|part| Reverse((0, part))).collect();
    for at in order {
        let Some(Reverse((load, part))) = lightest.pop() else { break };
        partitioned[part].push(at);
        lightest.push(Reverse((load.saturating_add(sizes[at]), part)));
    }
    for part in &mut partitioned {
        part.sort_unstable();
    }
    partitioned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::of_lengths as tensors;
    use proptest::prelude::*;

    #[test]
    fn never_changes_between_releases() {
        let partitioned = partition(&tensors(&[500, 10_000, 4000, 4000, 3000, 500]), 3);
        assert_eq!(partitioned, [vec![1], vec![2, 4], vec![0, 3, 5]]);
    }

    #[test]
    fn more_parts_than_tensors() {
        assert_eq!(partition(&tensors(&[1, 2]), 4), [vec![1], vec![0], vec![], vec![]]);
        assert_eq!(partition(&[], 2), [Vec::<usize>::new(), vec![]]);
    }

    proptest! {
        #[test]
        fn each_tensor_once_and_no_part_far_above_its_share(
            lens in prop::collection::vec(0_usize..1 << 40, 0..60),
            parts in 1_u32..40,
        ) {
            let tensors = tensors(&lens);
            let partitioned = partition(&tensors, parts);
            prop_assert_eq!(partitioned.len(), parts as usize);

            let mut all: Vec<usize> = partitioned.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lens.len()).collect::<Vec<_>>());

            let share = lens.iter().sum::<usize>() / parts as usize;
            let largest = lens.iter().copied().max().unwrap_or(0);
            let file = pack(&tensors).iter().map(|file| file.bytes / 4).max().unwrap_or(0);
            for part in &partitioned {
                prop_assert!(part.is_sorted());
                prop_assert!(part.iter().map(|&at| lens[at]).sum::<usize>() <= share + largest.max(file));
            }
            prop_assert_eq!(partitioned, partition(&tensors, parts));
        }
    }
}
