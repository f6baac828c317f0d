//! Where a drill lets this worker die. `TRAINCTL_FAIL_AT="w2@12:reduce"` kills worker `w2` with SIGKILL when it gets to
//! that phase with 12 or more updates applied; several are separated by commas.

use anyhow::{Context, bail};
use std::str::FromStr;

/// Name of the variable.
pub(crate) const VARIABLE: &str = "TRAINCTL_FAIL_AT";

/// A moment at which a worker can be made to die.
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
    /// Its part of a checkpoint is written, the commit isn't.
    Checkpoint,
    /// A new generation's members are meeting.
    Rendezvous,
    /// A joiner is being given the state.
    ServeState,
    /// This worker, a joiner, has the state and follows.
    FetchState,
    /// Within an evaluation.
    Evaluate,
}

impl FromStr for Moment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "compute" => Self::Compute,
            "reduce" => Self::Reduce,
            "gather" => Self::Gather,
            "apply" => Self::Apply,
            "checkpoint" => Self::Checkpoint,
            "rendezvous" => Self::Rendezvous,
            "serve-state" => Self::ServeState,
            "fetch-state" => Self::FetchState,
            "evaluate" => Self::Evaluate,
            _ => bail!(
                "expected compute, reduce, gather, apply, checkpoint, rendezvous, serve-state, fetch-state or \
                 evaluate, found {text:?}"
            ),
        })
    }
}

/// The moments at which this worker dies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Vec<(u64, Moment)>);

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
            let fault = (step.parse().with_context(form)?, moment.parse()?);
            if who == worker {
                faults.push(fault);
            }
        }
        Ok(Self(faults))
    }

    /// Dies if this is the moment.
    pub(crate) fn at(&self, step: u64, moment: Moment) {
        if self.0.iter().any(|(from, what)| *what == moment && step >= *from) {
            tracing::info!(step, ?moment, "dies as {VARIABLE} says");
            // The only failure is a process that doesn't exist.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_and_only_well_formed() {
        let faults = Faults::parse("w1@3:reduce,w2@12:fetch-state", "w2").unwrap();
        assert_eq!(faults.0, vec![(12, Moment::FetchState)]);
        assert!(Faults::parse("w1:3", "w1").is_err());
        assert!(Faults::parse("w1@x:reduce", "w1").is_err());
        assert!(Faults::parse("w1@1:nap", "w1").is_err());
    }
}
