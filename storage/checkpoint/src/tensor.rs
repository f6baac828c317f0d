//! What a state is made of: named f32 tensors at fixed places of one flat vector.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Which files a tensor goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Parameters and buffers: what inference needs.
    Model,
    /// The optimizer's slots: what only going on with training needs.
    Optimizer,
}

impl Group {
    /// Both, in the order of their files.
    pub const ALL: [Self; 2] = [Self::Model, Self::Optimizer];

    /// As file names and manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Optimizer => "optimizer",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One tensor's place in the flat state vector. All tensors are f32, row-major.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// Unique within its group.
    pub name: String,
    /// Which files it goes to.
    pub group: Group,
    /// Its dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where it starts, in f32 elements.
    pub offset: usize,
    /// How many f32 elements it has: the product of `shape`.
    pub len: usize,
    /// Training never changes it. It shares no file with tensors that training does change, so that its file is written
    /// once.
    pub constant: bool,
    /// Its values, as bits, in a state whose checkpoint does not have it: one written before it was part of the state. `None`:
    /// every checkpoint must have it.
    pub absent: Option<Arc<[u32]>>,
}

impl TensorInfo {
    /// Its values in a state.
    ///
    /// # Panics
    /// If it lies outside of `state` (see [`check_layout`]).
    pub fn values<'a>(&self, state: &'a [f32]) -> &'a [f32] {
        &state[self.offset..self.offset + self.len]
    }
}

/// A tensor list that describes no state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LayoutError {
    /// Nothing could be saved.
    #[error("the state has no tensors")]
    Empty,
    /// A name that safetensors can't hold.
    #[error("a tensor of group {group} is named {name:?}: expected a non-empty name other than \"__metadata__\"")]
    Name {
        /// The tensor's group.
        group: Group,
        /// The name found.
        name: String,
    },
    /// Two tensors would be one.
    #[error("two tensors of group {group} are named {name:?}")]
    Twice {
        /// The tensors' group.
        group: Group,
        /// Their name.
        name: String,
    },
    /// Shape and length disagree.
    #[error("tensor {name:?} of shape {shape:?}: expected {expected} elements, found {found}", expected = product(shape))]
    Len {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its stated length.
        found: usize,
    },
    /// It ends outside of the state.
    #[error("tensor {name:?} ends at element {end} of a state of {state_len}")]
    Outside {
        /// The tensor.
        name: String,
        /// Where it ends, in elements.
        end: usize,
        /// How long the state is, in elements.
        state_len: usize,
    },
    /// Two tensors share elements.
    #[error("tensors {first:?} and {second:?} overlap at element {at}")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The one that starts within it.
        second: String,
        /// The first shared element.
        at: usize,
    },
}

fn product(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &dim| n.saturating_mul(dim))
}

/// Whether `tensors` describe a state of `state_len` elements. Gaps between tensors are fine: they are not saved.
///
/// # Errors
/// The first thing wrong.
pub fn check_layout(tensors: &[TensorInfo], state_len: usize) -> Result<(), LayoutError> {
    if tensors.is_empty() {
        return Err(LayoutError::Empty);
    }
    let mut names = BTreeSet::new();
    for tensor in tensors {
        let TensorInfo { name, group, shape, offset, len, .. } = tensor;
        if name.is_empty() || name == "__metadata__" {
            return Err(LayoutError::Name { group: *group, name: name.clone() });
        }
        if !names.insert((*group, name)) {
            return Err(LayoutError::Twice { group: *group, name: name.clone() });
        }
        if product(shape) != *len {
            return Err(LayoutError::Len { name: name.clone(), shape: shape.clone(), found: *len });
        }
        let end = offset.saturating_add(*len);
        if end > state_len {
            return Err(LayoutError::Outside { name: name.clone(), end, state_len });
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().filter(|tensor| tensor.len > 0).collect();
    by_offset.sort_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        if pair[0].offset + pair[0].len > pair[1].offset {
            let (first, second) = (pair[0].name.clone(), pair[1].name.clone());
            return Err(LayoutError::Overlap { first, second, at: pair[1].offset });
        }
    }
    Ok(())
}

/// Tensors with these numbers of values, of the two groups in turn.
#[cfg(test)]
pub(crate) fn of_lengths(lens: &[usize]) -> Vec<TensorInfo> {
    let tensor = |(at, &len): (usize, &usize)| TensorInfo {
        name: format!("t{at}"),
        group: Group::ALL[at % 2],
        shape: vec![len],
        offset: 0,
        len,
        constant: false,
        absent: None,
    };
    lens.iter().enumerate().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize], offset: usize) -> TensorInfo {
        let len = shape.iter().product();
        TensorInfo {
            name: name.to_owned(),
            group: Group::Model,
            shape: shape.to_vec(),
            offset,
            len,
            constant: false,
            absent: None,
        }
    }

    #[test]
    fn gaps_scalars_and_empty_tensors_are_fine() {
        let tensors = [tensor("w", &[2, 3], 0), tensor("scalar", &[], 16), tensor("none", &[0, 4], 3)];
        assert_eq!(check_layout(&tensors, 32), Ok(()));
    }

    #[test]
    fn one_name_may_be_in_both_groups() {
        let mut slot = tensor("w", &[2], 2);
        slot.group = Group::Optimizer;
        assert_eq!(check_layout(&[tensor("w", &[2], 0), slot], 4), Ok(()));
    }

    #[test]
    fn each_fault_is_named() {
        let w = || tensor("w", &[2], 0);
        let faults = [
            (vec![], "the state has no tensors"),
            (
                vec![tensor("__metadata__", &[2], 0)],
                "a tensor of group model is named \"__metadata__\": expected a non-empty name other than \"__metadata__\"",
            ),
            (vec![w(), w()], "two tensors of group model are named \"w\""),
            (vec![TensorInfo { len: 3, ..w() }], "tensor \"w\" of shape [2]: expected 2 elements, found 3"),
            (vec![tensor("w", &[5], 4)], "tensor \"w\" ends at element 9 of a state of 8"),
            (vec![w(), tensor("b", &[4], 1)], "tensors \"w\" and \"b\" overlap at element 1"),
        ];
        for (tensors, expected) in faults {
            assert_eq!(check_layout(&tensors, 8).unwrap_err().to_string(), expected);
        }
    }
}
