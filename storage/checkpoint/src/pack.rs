//! Which tensors share a file. It follows from the tensors alone, never from the number of workers: so a file of one
//! checkpoint can be reused as the same file of a later one, whichever worker saves that, and two groups of different sizes write
//! the same files.
//!
//! Neighbours share a file up to a 32nd of their group's size, so that training a few tensors rewrites little beside
//! them; those that training never changes share none with others. A tensor is never split: readers of safetensors know
//! no halves.

use crate::names;
use crate::tensor::{Group, TensorInfo};

/// A file has at most this share of its group, or one tensor.
const SHARE: usize = 32;
/// Smaller ones are not worth a request.
const FILE_BYTES_MIN: usize = 1 << 10;
/// Larger ones would make some workers wait for others, and a reader hold a file for long.
const FILE_BYTES_MAX: usize = 256 << 20;

/// One file to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packed {
    pub(crate) group: Group,
    /// In the order of the file: indices into the tensors, ascending.
    pub(crate) tensors: Vec<usize>,
    /// Of its values.
    pub(crate) bytes: usize,
    pub(crate) name: String,
}

/// All files of a state, by group, then in the order of the tensors.
pub(crate) fn pack(tensors: &[TensorInfo]) -> Vec<Packed> {
    Group::ALL.into_iter().flat_map(|group| pack_group(tensors, group)).collect()
}

fn pack_group(tensors: &[TensorInfo], group: Group) -> Vec<Packed> {
    let of_group = || tensors.iter().enumerate().filter(move |(_, tensor)| tensor.group == group);
    let bytes_of = |tensor: &TensorInfo| tensor.len.saturating_mul(size_of::<f32>());
    let total = of_group().fold(0_usize, |sum, (_, tensor)| sum.saturating_add(bytes_of(tensor)));
    let most = (total / SHARE).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);

    let mut files: Vec<Packed> = Vec::new();
    let mut constant = false;
    for (at, tensor) in of_group() {
        let bytes = bytes_of(tensor);
        let is_alike = tensor.constant == std::mem::replace(&mut constant, tensor.constant);
        match files.last_mut().filter(|file| is_alike && file.bytes.saturating_add(bytes) <= most) {
            Some(file) => {
                file.tensors.push(at);
                file.bytes += bytes;
            }
            None => files.push(Packed { group, tensors: vec![at], bytes, name: String::new() }),
        }
    }
    let count = files.len();
    for (at, file) in files.iter_mut().enumerate() {
        file.name = names::tensors_file(group, at, count);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::of_lengths as tensors;
    use proptest::prelude::*;

    #[test]
    fn never_changes_between_releases() {
        let files = pack(&tensors(&[100, 200, 150, 300, 7, 1000, 0]));
        let files: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.tensors.as_slice())).collect();
        let expected: [(&str, &[usize]); 5] = [
            ("model-00001-of-00002.safetensors", &[0, 2]),
            ("model-00002-of-00002.safetensors", &[4, 6]),
            ("optimizer-00001-of-00003.safetensors", &[1]),
            ("optimizer-00002-of-00003.safetensors", &[3]),
            ("optimizer-00003-of-00003.safetensors", &[5]),
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn what_never_changes_shares_no_file_with_what_does() {
        let mut all = tensors(&[10, 10, 10, 10, 10, 10, 10, 10]);
        for at in [2, 4] {
            all[at].constant = true;
        }
        let files: Vec<Vec<usize>> = pack(&all).into_iter().map(|file| file.tensors).collect();
        assert_eq!(files, [vec![0], vec![2, 4], vec![6], vec![1, 3, 5, 7]]);
    }

    proptest! {
        #[test]
        fn each_tensor_once_in_order_and_files_of_bounded_size(
            lens in prop::collection::vec(0_usize..1 << 30, 0..80),
        ) {
            let tensors = tensors(&lens);
            let files = pack(&tensors);
            for group in Group::ALL {
                let of_group = files.iter().filter(|file| file.group == group);
                let all: Vec<usize> = of_group.clone().flat_map(|file| file.tensors.clone()).collect();
                let expected: Vec<usize> = (0..lens.len()).filter(|&at| tensors[at].group == group).collect();
                prop_assert_eq!(&all, &expected);
                let total: usize = expected.iter().map(|&at| lens[at] * 4).sum();
                for file in of_group {
                    let bytes: usize = file.tensors.iter().map(|&at| lens[at] * 4).sum();
                    prop_assert_eq!(bytes, file.bytes);
                    let is_one = file.tensors.iter().filter(|&&at| lens[at] > 0).count() <= 1;
                    prop_assert!(is_one || bytes <= (total / SHARE).max(FILE_BYTES_MIN));
                    prop_assert!(is_one || bytes <= FILE_BYTES_MAX);
                }
            }
        }
    }
}
