//! Where each tensor lies in the flat state buffer, and what lies where in a round's vector. Pure arithmetic.
//!
//! ```text
//! state   [ parameters | buffers | slot 0 of all parameters | slot 1 of all parameters ]
//! vector  [ gradient   | buffers | loss, then zeros ]
//! ```
//! Every tensor starts at a 64-byte boundary (kernels may choose their path, and so their bits, by alignment), and so
//! does every region. What lies between is zero and stays zero.

use crate::model::Declared;
use trainctl_checkpoint::{Group, TensorInfo};

/// Elements of f32 in 64 bytes.
const ALIGN: usize = 16;

/// Length of the vector's last region; its first element is the loss.
pub(crate) const TAIL_LEN: usize = ALIGN;

/// One tensor of a region; offsets count from the region's start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// Up to the next tensor: `len` and the zeros after it.
    pub(crate) padded_len: usize,
    /// Weight decay is for matrices and kernels, not for biases and norms.
    pub(crate) decays: bool,
}

/// The whole arrangement.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) parameters: Vec<Place>,
    pub(crate) parameters_len: usize,
    pub(crate) buffers: Vec<Place>,
    pub(crate) buffers_len: usize,
    pub(crate) slots: usize,
    pub(crate) tensors: Vec<TensorInfo>,
}

impl Layout {
    /// Lays out a model's tensors and, for each parameter, one slot for each of `slot_names`.
    pub(crate) fn new(parameters: &[Declared], buffers: &[Declared], slot_names: &[&str]) -> Self {
        let (parameter_places, parameters_len) = place(parameters);
        let (buffer_places, buffers_len) = place(buffers);
        let mut tensors = Vec::new();
        let mut describe = |prefix: &str, group: Group, start: usize, declared: &[Declared], places: &[Place]| {
            for (tensor, place) in declared.iter().zip(places) {
                tensors.push(TensorInfo {
                    name: format!("{prefix}{}", tensor.name),
                    group,
                    shape: tensor.shape.iter().map(|&n| n as usize).collect(),
                    offset: start + place.offset,
                    len: place.len,
                });
            }
        };
        describe("", Group::Model, 0, parameters, &parameter_places);
        describe("", Group::Model, parameters_len, buffers, &buffer_places);
        for (i, slot) in slot_names.iter().enumerate() {
            let start = parameters_len + buffers_len + i * parameters_len;
            describe(&format!("{slot}."), Group::Optimizer, start, parameters, &parameter_places);
        }
        Self {
            parameters: parameter_places,
            parameters_len,
            buffers: buffer_places,
            buffers_len,
            slots: slot_names.len(),
            tensors,
        }
    }

    /// Elements of the state.
    pub(crate) fn state_len(&self) -> usize {
        self.parameters_len + self.buffers_len + self.slots * self.parameters_len
    }

    /// Elements of a training round's vector.
    pub(crate) fn vector_len(&self) -> usize {
        self.parameters_len + self.buffers_len + TAIL_LEN
    }
}

fn place(declared: &[Declared]) -> (Vec<Place>, usize) {
    let mut offset = 0;
    let places = declared
        .iter()
        .map(|tensor| {
            let len = tensor.shape.iter().product::<i64>() as usize;
            let place = Place { offset, len, padded_len: len.next_multiple_of(ALIGN), decays: tensor.shape.len() >= 2 };
            offset += place.padded_len;
            place
        })
        .collect();
    (places, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Initial;
    use proptest::prelude::*;

    fn declared(shapes: Vec<Vec<i64>>) -> Vec<Declared> {
        let declare = |(i, shape)| Declared { name: format!("t{i}"), shape, initial: Initial::Zero };
        shapes.into_iter().enumerate().map(declare).collect()
    }

    #[test]
    fn regions_follow_each_other() {
        let layout = Layout::new(&declared(vec![vec![5, 7], vec![5]]), &[], &["exp_avg", "exp_avg_sq"]);
        assert_eq!((layout.parameters_len, layout.state_len(), layout.vector_len()), (64, 192, 80));
        assert_eq!(layout.parameters.iter().map(|place| place.decays).collect::<Vec<_>>(), [true, false]);
        let named: Vec<_> = layout.tensors.iter().map(|t| (t.name.as_str(), t.offset, t.len)).collect();
        let expected = [
            ("t0", 0, 35),
            ("t1", 48, 5),
            ("exp_avg.t0", 64, 35),
            ("exp_avg.t1", 112, 5),
            ("exp_avg_sq.t0", 128, 35),
            ("exp_avg_sq.t1", 176, 5),
        ];
        assert_eq!(named, expected);
    }

    proptest! {
        #[test]
        fn every_tensor_is_aligned_and_none_overlaps(
            parameters in prop::collection::vec(prop::collection::vec(1i64..9, 0..4), 1..8),
            buffers in prop::collection::vec(prop::collection::vec(1i64..40, 1..2), 0..5),
            slots in 0usize..3,
        ) {
            let slots = &["a", "b", "c"][..slots];
            let buffers: Vec<_> = declared(buffers).into_iter().map(|t| Declared { name: format!("b{}", t.name), ..t }).collect();
            let layout = Layout::new(&declared(parameters), &buffers, slots);
            for tensor in &layout.tensors {
                prop_assert!(tensor.offset.is_multiple_of(ALIGN));
            }
            prop_assert!(layout.parameters_len.is_multiple_of(ALIGN) && layout.buffers_len.is_multiple_of(ALIGN));
            prop_assert_eq!(trainctl_checkpoint::check_layout(&layout.tensors, layout.state_len()), Ok(()));
        }
    }
}
