//! When a checkpoint is due. Rank 0's answer counts; the others follow it through the round's headers.

use std::time::Duration;

/// How often the job wants to save.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Every {
    /// From what saves cost and how often workers are lost.
    Auto,
    /// At multiples of so many steps.
    Steps(u64),
    /// After so much time.
    Time(Duration),
}

/// Without any loss seen so far, one is assumed in this time: half of the preemptible VMs that were observed in
/// Kadupitiya, Jadhao and Sharma, "Modeling the Temporally Constrained Preemptions of Transient Cloud VMs" (HPDC
/// 2020), lived less than two hours.
const ASSUMED_TIME_TO_LOSS: Duration = Duration::from_secs(2 * 3600);
const FIRST_AFTER: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Decides when to save, from what was seen so far. Times are since the worker began to train.
#[derive(Clone, Debug)]
pub struct Saving {
    every: Every,
    last_saved: Duration,
    last_step: u64,
    cost: Option<Duration>,
    losses: u32,
}

impl Saving {
    /// For a worker whose state is at `step` now.
    #[must_use]
    pub fn new(every: Every, step: u64, now: Duration) -> Self {
        Self { every, last_saved: now, last_step: step, cost: None, losses: 0 }
    }

    /// A member of the group was lost.
    pub fn lost_member(&mut self) {
        self.losses = self.losses.saturating_add(1);
    }

    /// A save of this state was begun.
    pub fn begun(&mut self, step: u64, now: Duration) {
        self.last_saved = now;
        self.last_step = step;
    }

    /// A save took so long, from the copy to the commit.
    pub fn took(&mut self, cost: Duration) {
        self.cost = Some(cost);
    }

    /// Whether a checkpoint of the state at `step` is due by the job's rule.
    #[must_use]
    pub fn due(&self, step: u64, now: Duration) -> bool {
        let waited = now.saturating_sub(self.last_saved);
        step > self.last_step
            && match self.every {
                Every::Steps(n) => step / n > self.last_step / n,
                Every::Time(t) => waited >= t,
                Every::Auto => waited >= self.interval(now),
            }
    }

    /// The job's rule, in words.
    #[must_use]
    pub fn rule(&self) -> String {
        match self.every {
            Every::Steps(1) => "every step".to_owned(),
            Every::Steps(n) => format!("every {n} steps"),
            Every::Time(t) => format!("every {} s", t.as_secs()),
            Every::Auto => "every = auto".to_owned(),
        }
    }

    /// The interval that loses least time to saves and repeated work together: the root of twice the cost of a save
    /// times the mean time between losses (Young, "A first order approximation to the optimum checkpoint interval",
    /// 1974; Daly 2006 gives the same first term).
    fn interval(&self, now: Duration) -> Duration {
        let Some(cost) = self.cost else { return FIRST_AFTER };
        let time_to_loss = (now + ASSUMED_TIME_TO_LOSS).as_secs_f64() / f64::from(self.losses + 1);
        let best = (2.0 * cost.as_secs_f64() * time_to_loss).sqrt();
        Duration::from_secs_f64(best.clamp(SHORTEST.as_secs_f64(), LONGEST.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn fixed_steps_stay_due_until_saved() {
        let mut saving = Saving::new(Every::Steps(500), 0, s(0));
        assert!(!saving.due(499, s(1)));
        assert!(saving.due(500, s(1)));
        assert!(saving.due(503, s(1)), "a busy writer postpones, it doesn't cancel");
        saving.begun(503, s(1));
        assert!(!saving.due(999, s(2)));
        assert!(saving.due(1000, s(2)));
        assert_eq!(saving.rule(), "every 500 steps");
    }

    #[test]
    fn time_counts_from_the_last_save_and_nothing_is_saved_twice() {
        let mut saving = Saving::new(Every::Time(s(60)), 7, s(0));
        assert!(!saving.due(8, s(59)));
        assert!(saving.due(8, s(60)));
        saving.begun(8, s(60));
        assert!(!saving.due(8, s(900)));
        assert!(saving.due(9, s(900)));
    }

    #[test]
    fn auto_follows_cost_and_losses() {
        let mut saving = Saving::new(Every::Auto, 0, s(0));
        assert!(!saving.due(1, s(29)));
        assert!(saving.due(1, s(30)));
        saving.begun(1, s(30));
        saving.took(s(1));
        assert_eq!(saving.interval(s(60)).as_secs(), 120);
        for _ in 0..3 {
            saving.lost_member();
        }
        assert_eq!(saving.interval(s(60)).as_secs(), 60);
    }
}
