//! Where a drill lets this worker fail. `TRAINCTL_FAIL_AT="w2@12:reduce"` kills worker `w2` with SIGKILL when it gets to
//! that phase with 12 or more updates applied; `w2@12:flip` flips one bit of its parameters instead, before the step
//! from 12 updates on is computed, and once; `w2@20:flip-saved` flips one in the copy that is to be saved, and
//! `w2@20:flip-gradient` one in the next vector of its that an audit looks at. Several are separated by commas.

use anyhow::{Context, bail};
use std::cell::Cell;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of the variable.
pub(crate) const VARIABLE: &str = "TRAINCTL_FAIL_AT";

/// A moment at which a worker can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// Between two logical shards, or before the first.
    Compute,
    /// While partial sums travel.
    Reduce,
    /// While finished chunks travel.
    Gather,
    /// The sum is whole, the update isn't applied.
    Apply,
    /// Its part of a checkpoint is to be written.
    Save,
    /// Its part of a checkpoint is written, the commit isn't.
    Checkpoint,
    /// Its share of a checkpoint is read, and not yet given to the others.
    Load,
    /// A new generation's members are meeting.
    Rendezvous,
    /// A joiner is being given the state.
    ServeState,
    /// This worker, a joiner, has the state and follows.
    FetchState,
    /// Within an evaluation.
    Evaluate,
    /// Before a step is computed: a bit of the parameters flips.
    Flip,
    /// Before the copy of the state is digested and written: a bit of it flips.
    FlipSaved,
    /// When a shard's vector that is audited is computed, and before anybody else has it: a bit of it flips.
    FlipGradient,
}

impl FromStr for Moment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "compute" => Self::Compute,
            "reduce" => Self::Reduce,
            "gather" => Self::Gather,
            "apply" => Self::Apply,
            "save" => Self::Save,
            "checkpoint" => Self::Checkpoint,
            "load" => Self::Load,
            "rendezvous" => Self::Rendezvous,
            "serve-state" => Self::ServeState,
            "fetch-state" => Self::FetchState,
            "evaluate" => Self::Evaluate,
            "flip" => Self::Flip,
            "flip-saved" => Self::FlipSaved,
            "flip-gradient" => Self::FlipGradient,
            _ => bail!(
                "expected compute, reduce, gather, apply, save, checkpoint, load, rendezvous, serve-state, fetch-state, \
                 evaluate, flip, flip-saved or flip-gradient, found {text:?}"
            ),
        })
    }
}

/// The moments at which this worker fails. Clones are one: what happens once happens once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Vec<Fault>>);

#[derive(Debug)]
struct Fault {
    from_step: u64,
    moment: Moment,
    done: AtomicBool,
}

impl Faults {
    /// Those in the environment that are meant for this worker.
    ///
    /// # Errors
    /// When the variable can't be read as above.
    pub(crate) fn from_environment(worker: &str) -> anyhow::Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(text) => Self::parse(&text, worker).with_context(|| format!("read {VARIABLE}={text:?}")),
            Err(_) => Ok(Self::default()),
        }
    }

    fn parse(text: &str, worker: &str) -> anyhow::Result<Self> {
        let mut faults = Vec::new();
        for one in text.split(',').filter(|one| !one.is_empty()) {
            let form = || format!("expected WORKER@STEP:PHASE, found {one:?}");
            let (who, rest) = one.split_once('@').with_context(form)?;
            let (step, moment) = rest.split_once(':').with_context(form)?;
            let (from_step, moment) = (step.parse().with_context(form)?, moment.parse()?);
            if who == worker {
                faults.push(Fault { from_step, moment, done: AtomicBool::new(false) });
            }
        }
        Ok(Self(Arc::new(faults)))
    }

    /// Dies if this is the moment.
    pub(crate) fn at(&self, step: u64, moment: Moment) {
        if self.0.iter().any(|fault| fault.moment == moment && step >= fault.from_step) {
            tracing::info!(step, ?moment, "dies as {VARIABLE} says");
            // The only failure is a process that doesn't exist.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// Flips the top bit of a value's mantissa if this is the moment.
    pub(crate) fn flip(&self, step: u64, moment: Moment, values: &mut [f32]) {
        self.flip_cell(step, moment, Cell::from_mut(values).as_slice_of_cells());
    }

    /// The same in a shard's vector that is audited.
    pub(crate) fn flip_gradient(&self, step: u64, vector: &[Cell<f32>]) {
        self.flip_cell(step, Moment::FlipGradient, vector);
    }

    fn flip_cell(&self, step: u64, moment: Moment, values: &[Cell<f32>]) {
        let due = self
            .0
            .iter()
            .find(|fault| fault.moment == moment && step >= fault.from_step && !fault.done.load(Ordering::Relaxed));
        if due.is_none_or(|fault| fault.done.swap(true, Ordering::Relaxed)) {
            return;
        }
        tracing::info!(step, ?moment, "flips a bit as {VARIABLE} says");
        // The flip of a zero would be a value too small to outlive the next update.
        if let Some(cell) = values.iter().find(|cell| cell.get().is_normal()) {
            cell.set(f32::from_bits(cell.get().to_bits() ^ 1 << (f32::MANTISSA_DIGITS - 2)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_and_only_well_formed() {
        let faults = Faults::parse("w1@3:reduce,w2@12:fetch-state", "w2").unwrap();
        assert_eq!((faults.0[0].from_step, faults.0[0].moment, faults.0.len()), (12, Moment::FetchState, 1));
        assert!(Faults::parse("w1:3", "w1").is_err());
        assert!(Faults::parse("w1@x:reduce", "w1").is_err());
        assert!(Faults::parse("w1@1:nap", "w1").is_err());
    }

    #[test]
    fn each_flip_happens_once_over_all_clones() {
        let faults = Faults::parse("w1@3:flip,w1@5:flip", "w1").unwrap();
        let flips = [2, 3, 3, 4, 5, 5].map(|step| {
            let mut values = [0.0, 1.5];
            faults.clone().flip(step, Moment::FlipSaved, &mut values);
            assert_eq!(values, [0.0, 1.5], "another moment");
            faults.clone().flip(step, Moment::Flip, &mut values);
            values == [0.0, 1.0]
        });
        assert_eq!(flips, [false, true, false, false, true, false]);
    }
}
