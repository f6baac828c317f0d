//! The count of steps that were skipped because something was not finite. It is part of the state, so that all workers
//! have the same one, also those that joined later, and that it survives in checkpoints.

use crate::error::{EngineError, NotFinite};
use crate::layout::Counter;
use trainctl_checkpoint::Group;
use trainctl_jobs::NonFiniteSpec;

/// So many skipped steps without one between that was not end the job: it does not come back by itself.
const IN_A_ROW_MAX: f32 = 100.0;

/// How checkpoints call it: a tensor of two, all skipped steps and those in a row.
const NAME: &str = "skipped_steps";

/// The counter that a job's state has.
pub(crate) fn counter(on_nonfinite: NonFiniteSpec) -> Option<Counter> {
    match on_nonfinite {
        NonFiniteSpec::Stop => None,
        NonFiniteSpec::Skip => Some(Counter { name: NAME.to_owned(), shape: vec![2], group: Group::Optimizer }),
    }
}

/// The counter in a state.
pub(crate) struct Skips<'a> {
    counts: &'a mut [f32],
}

impl<'a> Skips<'a> {
    pub(crate) fn new(counts: &'a mut [f32]) -> Self {
        Self { counts }
    }

    /// Counts a skipped step, or fails after too many in a row and leaves the count as it was.
    pub(crate) fn one_more(&mut self, step: u64, what: NotFinite) -> Result<(), EngineError> {
        let in_a_row = self.counts[1] + 1.0;
        if in_a_row >= IN_A_ROW_MAX {
            return Err(EngineError::AllSkipped { step, in_a_row: in_a_row as u64, what });
        }
        self.counts[0] += 1.0;
        self.counts[1] = in_a_row;
        Ok(())
    }

    /// A step was not skipped.
    pub(crate) fn end_row(&mut self) {
        self.counts[1] = 0.0;
    }
}

/// All skipped steps.
pub(crate) fn total(counts: &[f32]) -> u64 {
    counts[0] as u64
}
