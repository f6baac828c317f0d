//! Where each tensor lies in the flat state buffer, and what lies where in a round's vector. Pure arithmetic.
//!
//! ```text
//! state   [ parameters | buffers | slot 0 of all parameters | slot 1 of all parameters | counters | frozen parameters ]
//! vector  [ gradient   | what the pass added to the buffers | loss, then zeros ]
//! ```
//! Frozen parameters have neither gradient nor slots, and lie last. Counters are whole numbers, which float32 holds exactly
//! up to 2^24. They follow from the steps, not from the sum.
//!
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

/// A parameter, and whether training leaves it as it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Parameter<'a> {
    pub(crate) declared: &'a Declared,
    pub(crate) frozen: bool,
}

/// The whole arrangement.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Of those that are trained.
    pub(crate) parameters: Vec<Place>,
    pub(crate) parameters_len: usize,
    pub(crate) buffers: Vec<Place>,
    pub(crate) buffers_len: usize,
    pub(crate) slots: usize,
    /// Offsets count from [`Layout::counters_start`].
    pub(crate) counters: Vec<Place>,
    counters_len: usize,
    frozen_len: usize,
    /// Where each parameter starts in the state, in the order of declaration.
    pub(crate) starts: Vec<usize>,
    pub(crate) tensors: Vec<TensorInfo>,
}

/// A tensor of counters, zero at first if the model says nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) group: Group,
}

impl Layout {
    /// Lays out a model's tensors and, for each parameter that is trained, one slot for each of `slot_names`.
    pub(crate) fn new(
        parameters: &[Parameter<'_>],
        buffers: &[Declared],
        slot_names: &[&str],
        counters: &[Counter],
    ) -> Self {
        let of = |frozen| parameters.iter().filter(move |it| it.frozen == frozen).map(|it| it.declared);
        let (trained, frozen): (Vec<&Declared>, Vec<&Declared>) = (of(false).collect(), of(true).collect());
        let (parameter_places, parameters_len) = place(trained.iter().map(|tensor| tensor.shape.as_slice()));
        let (frozen_places, frozen_len) = place(frozen.iter().map(|tensor| tensor.shape.as_slice()));
        let (buffer_places, buffers_len) = place(buffers.iter().map(|tensor| tensor.shape.as_slice()));
        let (counter_places, counters_len) = place(counters.iter().map(|counter| counter.shape.as_slice()));
        let mut tensors = Vec::new();
        let info = |name: String, group: Group, shape: &[i64], start: usize, place: &Place| TensorInfo {
            name,
            group,
            shape: shape.iter().map(|&n| n as usize).collect(),
            offset: start + place.offset,
            len: place.len,
            constant: false,
            absent: None,
        };
        let mut describe = |prefix: &str, group: Group, start: usize, declared: &[&Declared], places: &[Place]| {
            for (tensor, place) in declared.iter().zip(places) {
                tensors.push(info(format!("{prefix}{}", tensor.name), group, &tensor.shape, start, place));
            }
        };
        describe("", Group::Model, 0, &trained, &parameter_places);
        describe("", Group::Model, parameters_len, &buffers.iter().collect::<Vec<_>>(), &buffer_places);
        for (i, slot) in slot_names.iter().enumerate() {
            let start = parameters_len + buffers_len + i * parameters_len;
            describe(&format!("{slot}."), Group::Optimizer, start, &trained, &parameter_places);
        }
        let start = parameters_len + buffers_len + slot_names.len() * parameters_len;
        for (counter, place) in counters.iter().zip(&counter_places) {
            tensors.push(info(counter.name.clone(), counter.group, &counter.shape, start, place));
        }
        let frozen_start = start + counters_len;
        for (tensor, place) in frozen.iter().zip(&frozen_places) {
            let info = info(tensor.name.clone(), Group::Model, &tensor.shape, frozen_start, place);
            tensors.push(TensorInfo { constant: true, ..info });
        }
        let (mut trained, mut frozen) = (parameter_places.iter(), frozen_places.iter());
        let start_of = |it: &Parameter<'_>| match it.frozen {
            false => trained.next().map_or(0, |place| place.offset),
            true => frozen.next().map_or(0, |place| frozen_start + place.offset),
        };
        let starts = parameters.iter().map(start_of).collect();
        Self {
            parameters: parameter_places,
            parameters_len,
            buffers: buffer_places,
            buffers_len,
            slots: slot_names.len(),
            counters: counter_places,
            counters_len,
            frozen_len,
            starts,
            tensors,
        }
    }

    /// Elements of the state.
    pub(crate) fn state_len(&self) -> usize {
        self.frozen_start() + self.frozen_len
    }

    /// Where the frozen parameters begin in the state.
    pub(crate) fn frozen_start(&self) -> usize {
        self.counters_start() + self.counters_len
    }

    /// Where the counters begin in the state.
    pub(crate) fn counters_start(&self) -> usize {
        self.parameters_len + self.buffers_len + self.slots * self.parameters_len
    }

    /// Elements of a training round's vector.
    pub(crate) fn vector_len(&self) -> usize {
        self.parameters_len + self.buffers_len + TAIL_LEN
    }
}

fn place<'a>(shapes: impl Iterator<Item = &'a [i64]>) -> (Vec<Place>, usize) {
    let mut offset = 0;
    let places = shapes
        .map(|shape| {
            let len = shape.iter().product::<i64>() as usize;
            let place = Place { offset, len, padded_len: len.next_multiple_of(ALIGN), decays: shape.len() >= 2 };
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
        let declare = |(i, shape): (usize, Vec<i64>)| Declared::new(format!("t{i}"), &shape, Initial::Zero);
        shapes.into_iter().enumerate().map(declare).collect()
    }

    fn parameters<'a>(declared: &'a [Declared], frozen: &'a [bool]) -> Vec<Parameter<'a>> {
        let parameter = |(i, declared)| Parameter { declared, frozen: frozen.get(i).copied().unwrap_or_default() };
        declared.iter().enumerate().map(parameter).collect()
    }

    #[test]
    fn regions_follow_each_other() {
        let declared = declared(vec![vec![5, 7], vec![5]]);
        let layout = Layout::new(&parameters(&declared, &[]), &[], &["exp_avg", "exp_avg_sq"], &[]);
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

    #[test]
    fn frozen_parameters_lie_last_without_slots() {
        let declared = declared(vec![vec![5, 7], vec![5], vec![20]]);
        let counter = Counter { name: "count".to_owned(), shape: vec![], group: Group::Model };
        let layout = Layout::new(&parameters(&declared, &[false, true, false]), &[], &["m"], &[counter]);
        assert_eq!((layout.parameters_len, layout.state_len(), layout.vector_len()), (80, 192, 96));
        let named: Vec<_> = layout.tensors.iter().map(|t| (t.name.as_str(), t.offset, t.constant)).collect();
        let expected = [
            ("t0", 0, false),
            ("t2", 48, false),
            ("m.t0", 80, false),
            ("m.t2", 128, false),
            ("count", 160, false),
            ("t1", 176, true),
        ];
        assert_eq!(named, expected);
        assert_eq!(layout.starts, [0, 176, 48]);
    }

    proptest! {
        #[test]
        fn every_tensor_is_aligned_and_none_overlaps(
            shapes in prop::collection::vec(prop::collection::vec(1i64..9, 0..4), 1..8),
            frozen in prop::collection::vec(any::<bool>(), 8),
            buffers in prop::collection::vec(prop::collection::vec(1i64..40, 1..2), 0..5),
            slots in 0usize..3,
            counters in 0usize..3,
        ) {
            let slots = &["a", "b", "c"][..slots];
            let buffers: Vec<_> = declared(buffers).into_iter().map(|t| Declared { name: format!("b{}", t.name), ..t }).collect();
            let counter = |i| Counter { name: format!("c{i}"), shape: vec![], group: Group::Model };
            let counters: Vec<_> = (0..counters).map(counter).collect();
            let shapes = declared(shapes);
            let layout = Layout::new(&parameters(&shapes, &frozen), &buffers, slots, &counters);
            for tensor in &layout.tensors {
                prop_assert!(tensor.offset.is_multiple_of(ALIGN));
            }
            prop_assert!(layout.parameters_len.is_multiple_of(ALIGN) && layout.buffers_len.is_multiple_of(ALIGN));
            prop_assert_eq!(trainctl_checkpoint::check_layout(&layout.tensors, layout.state_len()), Ok(()));
            for (declared, &start) in shapes.iter().zip(&layout.starts) {
                let tensor = layout.tensors.iter().find(|tensor| tensor.name == declared.name);
                prop_assert_eq!(tensor.map(|tensor| tensor.offset), Some(start));
            }
        }
    }
}
