//! How many audits of a job have passed: said by workers with their heartbeats, and never fewer than before.

use super::{Story, worker};
use crate::{DownCause, Event, Generation, Progress};

impl Story {
    fn audited(&mut self, n: u32, generation: u64, step: u64, audits_passed: u64) -> &mut Self {
        let progress = Progress {
            generation: Generation(generation),
            step: Some(step),
            loss: None,
            samples_per_s: 100.0,
            skipped_steps: 0,
            audits_passed,
            state_digest: None,
            shard_time: None,
        };
        // A heartbeat of a generation that is over is refused, and what it says of the whole job is true all the same.
        let _ = self.try_tell(Event::Heartbeat { worker: worker(n), progress });
        self
    }

    fn audits(&self) -> u64 {
        self.job("job").audits_passed
    }
}

#[test]
fn the_most_that_any_worker_said_counts() {
    let mut story = Story::running(2);
    assert_eq!(story.audits(), 0);
    story.audited(1, 1, 20, 4).after(40_000).audited(2, 1, 20, 3);
    assert_eq!(story.audits(), 4);
    story.audited(2, 1, 21, 5);
    assert_eq!(story.audits(), 5);
}

#[test]
fn what_is_shown_is_in_the_records_which_are_not_rewritten_with_every_heartbeat() {
    let mut story = Story::running(1);
    let rest_ms = story.core.settings().audits_rest_ms;
    story.audited(1, 1, 20, 4);
    let record = story.store["job/job"].clone();
    story.after(rest_ms - 1).audited(1, 1, 30, 6);
    assert_eq!((story.audits(), &story.store["job/job"]), (4, &record));
    story.after(1).audited(1, 1, 31, 6).reload();
    assert_eq!(story.audits(), 6);
    // Whatever else changes the record takes it along.
    story.attach_holding(1, Some((1, Some(31)))).audited(1, 1, 32, 8).audited(1, 1, 40, 9).resumed(1, 1, 41).reload();
    assert_eq!(story.audits(), 9);
}

#[test]
fn a_start_from_an_older_checkpoint_takes_none_back() {
    let mut story = Story::running(1);
    story.audited(1, 1, 50, 10).after(1_000).audited(1, 1, 60, 12).down(1, DownCause::Evicted);
    assert_eq!((story.state("job"), story.audits()), ("recovering", 12));
    story.restart(&[]);
    assert_eq!(story.audits(), 12);
    story.attach(2).resumed(2, 2, 41).audited(2, 2, 41, 8);
    assert_eq!(story.audits(), 12);
    story.after(40_000).audited(2, 2, 70, 14);
    assert_eq!(story.audits(), 14);
}

#[test]
fn what_is_said_last_counts_though_the_job_has_ended() {
    let mut story = Story::running(1);
    story.audited(1, 1, 90, 10).finished(1, "d").audited(1, 1, 100, 11);
    assert_eq!((story.state("job"), story.audits()), ("succeeded", 11));
    story.reload();
    assert_eq!(story.audits(), 11);
}
