//! Where a drill makes this worker slow. `TRAINCTL_SLOW="w2=4@100-900"` lets worker `w2` take four times as long for
//! each logical shard of steps 100 to 899, by computing nothing in a busy loop; without `@FROM-TO`, from its first step
//! to its last. Several are separated by commas.

use anyhow::{Context, ensure};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Name of the variable.
pub(crate) const VARIABLE: &str = "TRAINCTL_SLOW";

/// When this worker is slow, and how slow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Slowness(Vec<(Range<u64>, f64)>);

impl Slowness {
    /// What the environment says about this worker.
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
        let mut slow = Vec::new();
        for one in text.split(',').filter(|one| !one.is_empty()) {
            let form = || format!("expected WORKER=FACTOR or WORKER=FACTOR@FROM-TO, found {one:?}");
            let (who, rest) = one.split_once('=').with_context(form)?;
            let (factor, steps) = match rest.split_once('@') {
                None => (rest, 0..u64::MAX),
                Some((factor, steps)) => {
                    let (from, to) = steps.split_once('-').with_context(form)?;
                    (factor, from.parse().with_context(form)?..to.parse().with_context(form)?)
                }
            };
            let factor: f64 = factor.parse().with_context(form)?;
            ensure!((1.0..=1000.0).contains(&factor), "{}, with a factor from 1 to 1000", form());
            if who == worker {
                slow.push((steps, factor));
            }
        }
        Ok(Self(slow))
    }

    /// Holds the training thread up after a shard of this step that it began to compute then.
    pub(crate) fn stretch(&self, step: u64, began: Instant) {
        let factor = self.0.iter().find(|(steps, _)| steps.contains(&step)).map_or(1.0, |(_, factor)| *factor);
        if factor > 1.0 {
            let until: Duration = began.elapsed().mul_f64(factor);
            while began.elapsed() < until {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_and_only_well_formed() {
        let slow = Slowness::parse("w1=2,w2=4@100-900,w2=1.5", "w2").unwrap();
        assert_eq!(slow, Slowness(vec![(100..900, 4.0), (0..u64::MAX, 1.5)]));
        for wrong in ["w2", "w2=x", "w2=0.5", "w2=NaN", "w2=4@5", "w2=4@5-x"] {
            assert!(Slowness::parse(wrong, "w2").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stretched_shard_takes_so_many_times_as_long() {
        let slow = Slowness::parse("w2=4@5-9", "w2").unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        slow.stretch(5, began);
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
