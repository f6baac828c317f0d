//! When a deadline leaves no time to wait for spot. What is spare is the time left minus the time that the work left
//! takes on the workers that nobody takes away. It must cover what it costs to replace every worker that could be
//! gone; what it has beyond that is slack. Waiting for spot costs slack, and so does every eviction, by the time that a
//! start takes. An hour on spot saves more than the slack that an eviction costs, so a part of the slack is kept for
//! evictions to come: while there is more than that, what is missing waits for spot; then it is bought on demand, to be
//! replaced by spot when there is some; and when there is no slack at all, only what nobody takes away will do.
//!
//! Losing one of `n` workers for as long as an instance starts costs a share of that time, since the others go on: `1/n`
//! where shards divide among them, a half where each had one shard and some now have two. So a fleet with few spot workers among others needs little to spare, and spot
//! may come back into a fleet that was bought on demand as soon as the spare time covers it again. This takes the
//! safety net of "Can't Be Late" (Wu et al., NSDI 2024) from one instance to many that overlap while they change.

use serde::{Deserialize, Serialize};

/// A job with a deadline, as it stands.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outlook {
    /// To the deadline; less than 0: it has passed.
    pub left_ms: i64,
    /// What the work left takes on `workers` workers, with a margin for what was measured badly. `None`: nothing was
    /// measured yet.
    pub work_ms: Option<u64>,
    /// The most workers that the job takes and that capacity which is not taken away could give it.
    pub workers: u32,
    /// Of those, at work on such capacity now.
    pub secure: u32,
    /// Share of the pace that is lost while one worker is missing. More than one of all, where the others compute its
    /// shards: with as many shards as workers, each of these takes a step twice as long.
    pub one_share: f64,
    /// From the launch of an instance until its worker trains, at most.
    pub start_ms: u64,
    /// What the end of the job takes, and what is lost with each change.
    pub changeover_ms: u64,
    /// The most work that is done between two checkpoints: gone if all workers are.
    pub unsaved_ms: u64,
    /// What evictions until the deadline are expected to cost, if the job runs on spot.
    pub evictions_ms: u64,
    /// How long it may still wait for a first measure; less than 0: it has waited too long.
    pub unmeasured_ms: i64,
}

/// What keeps choices from flapping.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Margins {
    /// Once it hurries, a job does so until it has so much slack.
    pub relax_ms: u64,
    /// Spot replaces a worker on demand only if so much slack is left after it.
    pub replace_ms: u64,
    /// Workers on demand are given back for nothing only if so much slack is left after it.
    pub give_back_ms: u64,
}

impl Outlook {
    /// Time left minus work left.
    #[must_use]
    pub fn spare_ms(&self) -> Option<i64> {
        Some(self.left_ms.saturating_sub_unsigned(self.work_ms?))
    }

    /// What the spare time must cover with so many secure workers: the start of all others, the work that is lost if
    /// nobody is left who holds it, and the end of the job.
    #[must_use]
    pub fn cover_ms(&self, secure: u32) -> u64 {
        let workers = self.workers.max(1);
        let insecure = workers.saturating_sub(secure);
        let share = self.one_share.clamp(1.0 / f64::from(workers), 1.0);
        // Each goes at a moment of its own: that costs most.
        let starts = self.start_ms as f64 * f64::from(insecure) * share;
        let unsaved_ms = if secure == 0 { self.unsaved_ms } else { 0 };
        (starts as u64).saturating_add(self.changeover_ms).saturating_add(unsaved_ms)
    }

    /// Spare time beyond what must be covered with so many secure workers. Less than 0: the deadline is in danger.
    #[must_use]
    pub fn slack_with_ms(&self, secure: u32) -> Option<i64> {
        Some(self.spare_ms()?.saturating_sub_unsigned(self.cover_ms(secure)))
    }

    /// The same as things stand. Before anything was measured: how long it may wait for that.
    #[must_use]
    pub fn slack_ms(&self) -> i64 {
        self.slack_with_ms(self.secure).unwrap_or(self.unmeasured_ms)
    }

    /// Whether what is missing is to be bought on demand where there is no spot, given whether it was so before.
    #[must_use]
    pub fn hurries(&self, before: bool, margins: &Margins) -> bool {
        let beyond_ms = self.beyond_ms();
        if before { beyond_ms < signed(margins.relax_ms) } else { beyond_ms <= 0 }
    }

    /// Slack beyond what is kept for evictions to come; of work that was never measured nothing is.
    #[must_use]
    pub fn beyond_ms(&self) -> i64 {
        let kept_ms = if self.work_ms.is_some() { self.evictions_ms } else { 0 };
        self.slack_ms().saturating_sub_unsigned(kept_ms)
    }

    /// Whether only what nobody takes away can meet the deadline.
    #[must_use]
    pub fn pressed(&self) -> bool {
        self.slack_ms() <= 0
    }

    /// What evictions in so long are expected to cost at this rate, each as long as a start. A quarter of the time at
    /// most: where spot is taken so often, on demand is cheaper than to wait for it.
    #[must_use]
    pub fn evictions_ms(left_ms: i64, evictions_per_hour: f64, start_ms: u64) -> u64 {
        let left_ms = left_ms.max(0) as f64;
        let share = evictions_per_hour.max(0.0) * start_ms as f64 / 3.6e6;
        (left_ms * share.min(0.25)) as u64
    }

    /// Whether so many of the secure workers may be replaced by ones that can be taken away.
    #[must_use]
    pub fn may_replace(&self, workers: u32, margins: &Margins) -> bool {
        let left = self.slack_with_ms(self.secure.saturating_sub(workers));
        left.is_some_and(|slack_ms| slack_ms >= signed(margins.replace_ms))
    }

    /// Whether all workers on demand may go with nothing in their place.
    #[must_use]
    pub fn may_give_back(&self, margins: &Margins) -> bool {
        self.slack_with_ms(0).is_some_and(|slack_ms| slack_ms >= signed(margins.give_back_ms))
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;
    const MARGINS: Margins = Margins { relax_ms: MINUTE, replace_ms: MINUTE, give_back_ms: 30 * MINUTE };

    fn outlook(left_min: i64, work_min: u64, secure: u32) -> Outlook {
        Outlook {
            left_ms: left_min * MINUTE as i64,
            work_ms: Some(work_min * MINUTE),
            workers: 4,
            secure,
            one_share: 0.25,
            start_ms: 4 * MINUTE,
            changeover_ms: MINUTE,
            unsaved_ms: 2 * MINUTE,
            evictions_ms: 0,
            unmeasured_ms: 0,
        }
    }

    #[test]
    fn it_waits_until_the_spare_time_just_covers_a_new_fleet() {
        // Four minutes to start, one to end, two of unsaved work.
        assert!(!outlook(108, 100, 0).hurries(false, &MARGINS));
        assert!(outlook(107, 100, 0).hurries(false, &MARGINS));
        // Then it hurries until a minute more is there.
        assert!(outlook(107, 100, 0).hurries(true, &MARGINS));
        assert!(!outlook(108, 100, 0).hurries(true, &MARGINS));
    }

    #[test]
    fn a_fleet_on_demand_needs_nothing_covered_but_the_end() {
        assert!(!outlook(102, 100, 4).hurries(false, &MARGINS));
        // One spot worker in four can cost a minute, so three minutes allow for one and no second.
        assert!(outlook(103, 100, 4).may_replace(1, &MARGINS));
        assert!(!outlook(103, 100, 4).may_replace(2, &MARGINS));
    }

    #[test]
    fn what_was_never_measured_may_wait_for_so_long() {
        let waits = Outlook { work_ms: None, unmeasured_ms: 1, ..outlook(100, 0, 0) };
        assert!(!waits.hurries(false, &MARGINS));
        assert!(Outlook { unmeasured_ms: 0, ..waits }.hurries(false, &MARGINS));
        assert!(!waits.may_replace(1, &MARGINS) && !waits.may_give_back(&MARGINS));
    }

    #[test]
    fn a_part_of_the_slack_is_kept_for_evictions_to_come() {
        let keeps = Outlook { evictions_ms: 20 * MINUTE, ..outlook(127, 100, 0) };
        assert!(keeps.hurries(false, &MARGINS) && !keeps.pressed());
        // So what was bought on demand can be replaced by spot.
        assert!(Outlook { secure: 4, ..keeps }.may_replace(4, &MARGINS));
        assert!(outlook(107, 100, 0).pressed());
        assert_eq!(Outlook::evictions_ms(600 * MINUTE as i64, 0.5, 4 * MINUTE), 20 * MINUTE);
        assert_eq!(Outlook::evictions_ms(600 * MINUTE as i64, 1e3, 4 * MINUTE), 150 * MINUTE);
    }

    /// A job of `work` minutes on `n` equal workers, minute by minute, against any comings and goings of spot. An
    /// instance on demand starts in `start` minutes, spot at once.
    struct Run<'a> {
        n: u32,
        work: f64,
        deadline: i64,
        start: u64,
        spot: &'a [u32],
        save_every: u32,
        evictions_per_hour: f64,
    }

    impl Run<'_> {
        fn outlook(&self, now: i64, done: f64, secure: u32) -> Outlook {
            let left_ms = (self.deadline - now) * MINUTE as i64;
            Outlook {
                left_ms,
                work_ms: Some(((self.work - done) * MINUTE as f64).ceil() as u64),
                workers: self.n,
                secure,
                one_share: 1.0 / f64::from(self.n),
                start_ms: self.start * MINUTE,
                // Decisions are taken once a minute.
                changeover_ms: 2 * MINUTE,
                unsaved_ms: u64::from(self.save_every + 1) * MINUTE,
                evictions_ms: Outlook::evictions_ms(left_ms, self.evictions_per_hour, self.start * MINUTE),
                unmeasured_ms: 0,
            }
        }

        /// Minutes beyond the deadline at its end, and instance minutes on demand.
        fn to_the_end(&self) -> (i64, u64) {
            let (mut done, mut saved, mut now, mut paid) = (0.0, 0.0, 0i64, 0u64);
            let (mut hurried, mut starting, mut secure, mut held) = (false, Vec::<i64>::new(), 0u32, 0u32);
            while done < self.work && now < 100_000 {
                let free = self.spot[now as usize % self.spot.len()].min(self.n);
                let starts = starting.len();
                starting.retain(|at| *at > now);
                secure += (starts - starting.len()) as u32;
                // Spot goes without notice; what is unsaved goes with the last who holds it.
                if held > 0 && free == 0 && secure == 0 {
                    done = saved;
                }
                held = held.min(free);
                let outlook = self.outlook(now, done, secure);
                hurried = outlook.hurries(hurried, &MARGINS);
                let missing = self.n.saturating_sub(secure + starting.len() as u32 + held);
                if !outlook.pressed() {
                    held += missing.min(free - held);
                }
                let missing = self.n.saturating_sub(secure + starting.len() as u32 + held);
                if hurried {
                    starting.extend((0..missing).map(|_| now + self.start as i64));
                }
                while secure > 0 && held < free && self.outlook(now, done, secure).may_replace(1, &MARGINS) {
                    secure -= 1;
                    held += 1;
                }
                if !hurried && held > 0 && outlook.may_give_back(&MARGINS) {
                    secure = 0;
                }
                if done - saved >= f64::from(self.save_every) || secure > 0 {
                    saved = done;
                }
                done += f64::from((held + secure).min(self.n)) / f64::from(self.n);
                paid += u64::from(secure) + starting.len() as u64;
                now += 1;
            }
            (now - self.deadline, paid)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_deadline_is_missed_that_on_demand_could_have_met(
            (n, work, spare, start, save_every) in (1u32..9, 30u32..600, 0i64..600, 1u64..10, 1u32..20),
            evictions_per_hour in 0.0f64..3.0,
            spans in prop::collection::vec((0u32..9, 1usize..90), 1..40),
        ) {
            let spot: Vec<u32> = spans.into_iter().flat_map(|(free, span)| vec![free; span]).collect();
            // On demand from the beginning: the start, the work, and what an end takes.
            let deadline = i64::from(work) + start as i64 + 3 + spare;
            let work = f64::from(work);
            let run = Run { n, work, deadline, start, spot: &spot, save_every, evictions_per_hour };
            let (late, _) = run.to_the_end();
            prop_assert!(late <= 0, "{late} minutes late");
        }

        #[test]
        fn where_spot_is_always_there_nothing_is_bought_on_demand(n in 1u32..9, work in 30u32..600, start in 1u64..10) {
            let deadline = i64::from(work) + start as i64 + 20;
            let work = f64::from(work);
            let run = Run { n, work, deadline, start, spot: &[n], save_every: 5, evictions_per_hour: 0.0 };
            prop_assert_eq!(run.to_the_end().1, 0);
        }
    }

    #[test]
    fn what_spot_can_do_is_not_bought() {
        // Ten hours' work in thirteen, spot for an hour of each two: on demand fills what is lacking, not much more.
        let spot: Vec<u32> = (0..120).map(|minute| if minute < 60 { 4 } else { 0 }).collect();
        let run =
            Run { n: 4, work: 600.0, deadline: 780, start: 4, spot: &spot, save_every: 5, evictions_per_hour: 0.5 };
        let (late, paid) = run.to_the_end();
        assert!(late <= 0);
        let lacking = (600 - 780 / 2) * 4;
        assert!(paid < lacking * 5 / 4, "{paid} instance minutes on demand where {lacking} were lacking");
    }
}
