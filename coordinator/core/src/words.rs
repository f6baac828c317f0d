//! How facts are put into words: counts, lists, spans of time, and what happened to workers, jobs and capacity.

use crate::corruption::{Differing, Subject};
use crate::event::DownCause;
use crate::ids::WorkerId;
use crate::state::{Doom, LossCause, Shortage};
use std::fmt::Display;

/// `1 worker`, `3 workers`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `w1`, `w1 and w2`, `w1, w2 and w3`.
pub(crate) fn list<T: Display>(items: &[T]) -> String {
    match items {
        [] => "nobody".to_owned(),
        [only] => only.to_string(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

/// `250 ms`, `1.5 s`, `12 s`, `2 min`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if ms % 1_000 >= 100 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        1_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

/// `$12.30`, `$0.52`, and two digits of what is less: `$0.0042`.
pub(crate) fn money(usd: f64) -> String {
    let size = usd.abs();
    let decimals = if (1e-9..0.095).contains(&size) { (1.0 - size.log10().floor()) as usize } else { 2 };
    format!("${usd:.decimals$}")
}

/// A measured time, to two digits or so: `0.42 ms`, `7.5 ms`, `40 ms`, `1.5 s`.
pub(crate) fn span(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        _ => format!("{seconds:.1} s"),
    }
}

impl LossCause {
    pub(crate) fn words(&self, worker: &WorkerId) -> String {
        match self {
            Self::PeerLost { by, detail } => format!("{by} lost its connection to {worker} ({detail})"),
            Self::Silent { ms } => format!("nothing was heard from {worker} for {}", duration(*ms)),
            Self::NeverAttached { ms } => format!("{worker} did not attach within {} of its launch", duration(*ms)),
            Self::NotBack { ms } => {
                format!("the stream of {worker} broke and it did not come back within {}", duration(*ms))
            }
            Self::Failed { reason } => format!("{worker} says that it can't go on: {reason}"),
            Self::Corrupt { step, shard: None, found, expected } => {
                format!("{worker} held a wrong state at step {step}: expected {expected}, found {found}")
            }
            Self::Corrupt { step, shard: Some(shard), found, expected } => format!(
                "{worker} computed a wrong gradient of shard {shard} at step {step}: expected {expected}, found {found}"
            ),
            Self::StateGone => format!("{worker} came back without the state that it held"),
            Self::LeftUnasked => format!("{worker} left without having been asked to"),
            Self::StopTimedOut { ms } => format!("{worker} did not come to its end within {}", duration(*ms)),
            Self::Down(cause) => format!("{worker} {}", cause.words()),
        }
    }
}

impl DownCause {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Exited(status) => format!("exited with status {status}"),
            Self::Killed(signal) => format!("was killed by signal {signal}"),
            Self::Evicted => "was taken by its pool".to_owned(),
            Self::Terminated => "was ended by the coordinator".to_owned(),
            Self::Vanished => "was not there any more".to_owned(),
        }
    }
}

impl Differing {
    /// `its members held different states at step 12`.
    pub(crate) fn brief(&self) -> String {
        match self.shard {
            None => format!("its members held different states at step {}", self.step),
            Some(shard) => format!("the gradient of shard {shard} was computed differently at step {}", self.step),
        }
    }

    /// `its workers held different models in memory at step 12: w1 00ab and w2 00ac`; of a shard whose repetition has
    /// shown what is right, `w2 gave 00ac as the gradient of shard 3 at step 12, and computing it again gives 00ab`.
    pub(crate) fn words(&self) -> String {
        let step = self.step;
        let each: Vec<String> = self.digests.iter().map(|(worker, digest)| format!("{worker} {digest}")).collect();
        let subject = match (self.subject, self.shard) {
            (Subject::Model, _) => "held different models in memory".to_owned(),
            (Subject::Saved, _) => "held different states to save".to_owned(),
            (Subject::Gradient, shard) => {
                let of = shard.map_or_else(String::new, |shard| format!(" of shard {shard}"));
                if let Some(right) = &self.right {
                    let wrong = self.digests.iter().filter(|(_, digest)| *digest != right);
                    let gave: Vec<String> = wrong.map(|(worker, digest)| format!("{worker} gave {digest}")).collect();
                    return format!(
                        "{} as the gradient{of} at step {step}, and computing it again gives {right}",
                        list(&gave)
                    );
                }
                format!("computed different gradients{of}")
            }
        };
        format!("its workers {subject} at step {step}: {}", list(&each))
    }
}

impl Shortage {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Budget => "its budget covers no more workers".to_owned(),
            Self::NoCapacity { lacking, free: 0 } => {
                format!("it lacks {} and its pools have nothing free", count(*lacking as usize, "worker"))
            }
            Self::NoCapacity { lacking, free } => {
                format!("it lacks {} to start and its pools have {free} free", count(*lacking as usize, "worker"))
            }
            Self::TooSmall { min, capacity } => {
                format!("it starts with {} and its pools hold {capacity} in all", count(*min as usize, "worker"))
            }
            Self::Behind { job } => format!("{job} comes first and waits for the same pools"),
            Self::OutsideRegions { regions } => format!("none of its pools is in {}", list(regions)),
            Self::Rejected { pool, reason } => format!("{pool} can't start workers: {reason}"),
        }
    }
}

impl Doom {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Budget { budget_usd, paid_usd } => {
                let budget = money(*budget_usd);
                let spent = match *paid_usd {
                    0.0 => format!("its budget of {budget} does not cover a start and the save that must follow it"),
                    paid => format!("its budget of {budget} covers no more: {} are paid", money(paid)),
                };
                format!(
                    "{spent}\nhint: raise policy.budget_usd and submit it again under its name; it goes on from its \
                     newest checkpoint"
                )
            }
            Self::WorkerSays { worker, reason } => format!("{worker} says that no worker can do it: {reason}"),
            Self::LaunchRejected { pool, reason } => format!("{pool} can't start workers: {reason}"),
            Self::CrashLoop { deaths, last } => {
                format!("its instances died {deaths} times in a row with no step done; the last: {last}")
            }
            Self::NoMatchingNumerics { expected } => {
                format!("no pool of the job gives workers with its numerics, \"{expected}\"")
            }
            Self::Corruption { differing, repetitions } => format!(
                "{}, and {} of the steps since the last agreement did not change that",
                differing.words(),
                count(*repetitions as usize, "repetition")
            ),
            Self::NoTrustedPool => "no pool of the job is left that gives workers with right states".to_owned(),
            Self::UnequalDigests { digests } => {
                let each: Vec<String> = digests.iter().map(|(worker, digest)| format!("{worker} {digest}")).collect();
                format!("its workers finished with different states: {}", each.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lists_and_spans_read_well() {
        assert_eq!(count(1, "worker"), "1 worker");
        assert_eq!(count(0, "worker"), "0 workers");
        assert_eq!(list(&["w1", "w2", "w3"]), "w1, w2 and w3");
        assert_eq!(list(&["w1"]), "w1");
        assert_eq!([0.000_42, 0.007_5, 0.04, 1.49].map(span), ["0.42 ms", "7.5 ms", "40 ms", "1.5 s"]);
        assert_eq!(
            [12.3, 0.52, 0.1, 0.0042, 0.0, 0.095].map(money),
            ["$12.30", "$0.52", "$0.10", "$0.0042", "$0.00", "$0.10"]
        );
        assert_eq!([250, 1_000, 1_500, 12_345, 120_000].map(duration), ["250 ms", "1 s", "1.5 s", "12 s", "2 min"]);
    }
}
