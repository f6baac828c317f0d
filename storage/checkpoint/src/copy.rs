//! The only thing that training waits for while a checkpoint is saved: the copy of the state.

/// A buffer that a state is copied into, then written from in the background while training goes on. It is reused from
/// save to save.
#[derive(Debug, Default)]
pub struct StateCopy {
    values: Vec<f32>,
}

impl StateCopy {
    /// Room for a state of `len` elements, every page of it touched, so that not even the first copy waits for the
    /// system to hand out memory.
    pub fn new(len: usize) -> Self {
        // Not zeros: those the system promises without handing out a page.
        Self { values: vec![f32::NAN; len] }
    }

    /// Replaces what it holds.
    pub fn copy_from(&mut self, state: &[f32]) {
        if self.values.len() == state.len() {
            self.values.copy_from_slice(state);
        } else {
            self.values.clear();
            self.values.extend_from_slice(state);
        }
    }

    /// What it holds, to be changed as a fault would.
    pub fn state_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// What it holds.
    pub fn state(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_outlives_its_source_and_is_replaced_whole() {
        let mut copy = StateCopy::new(3);
        for state in [vec![1.0, 2.0, 3.0], vec![4.0; 5], vec![]] {
            copy.copy_from(&state);
            assert_eq!(copy.state(), state);
        }
    }

    #[test]
    fn reuse_keeps_the_memory() {
        let mut copy = StateCopy::new(1000);
        let before = copy.state().as_ptr();
        copy.copy_from(&[1.0; 1000]);
        assert_eq!(copy.state().as_ptr(), before);
    }
}
