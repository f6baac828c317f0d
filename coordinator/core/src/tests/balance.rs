//! Shards that move from slow workers to fast ones.

use super::{SHARDS, Story, spec, worker};
use crate::{Event, Generation, Progress, ShardTime, Share};
use proptest::prelude::*;
use trainctl_jobs::ShardsSpec;

impl Story {
    /// Three rounds of heartbeats in which each worker says what a shard takes it.
    pub(super) fn timed(&mut self, generation: u64, each: &[(u32, f64)]) -> &mut Self {
        for _ in 0..3 {
            self.after(500);
            for (n, seconds) in each {
                self.times(*n, generation, *seconds);
            }
        }
        self
    }

    fn times(&mut self, n: u32, generation: u64, seconds: f64) -> &mut Self {
        let timed = u64::try_from(self.now.0).expect("a time after 1970");
        let progress = Progress {
            generation: Generation(generation),
            step: Some(20),
            loss: Some(0.5),
            samples_per_s: 100.0,
            skipped_steps: 0,
            audits_passed: 0,
            state_digest: None,
            shard_time: Some(ShardTime { seconds, timed }),
        };
        self.tell(Event::Heartbeat { worker: worker(n), progress })
    }

    pub(super) fn counts(&self) -> Vec<u32> {
        self.job("job").shares.iter().map(|share| share.shards).collect()
    }
}

#[test]
fn a_slow_member_gives_shards_to_a_fast_one_and_gets_them_back() {
    let mut story = Story::running(2);
    story
        .timed(1, &[(1, 0.04), (2, 0.01)])
        .expect(["w1 <- assign 2 planned w1:0-1 w2:1-8", "w2 <- assign 2 planned w1:0-1 w2:1-8"]);
    assert_eq!(
        story.last_decision("job"),
        "move 3 shards from w1 to w2 at the next step boundary: w1 takes 40 ms a shard, w2 10 ms; \
         computing a step takes 160 ms and then 70 ms"
    );
    let share = |n, shards, seconds| Share { worker: worker(n), shards, shard_seconds: Some(seconds) };
    assert_eq!(story.job("job").shares, [share(1, 1, 0.04), share(2, 7, 0.01)]);
    story.resumed(1, 2, 21).timed(2, &[(1, 0.01), (2, 0.01)]).expect([]);
    story
        .wait(9_000, &[1, 2])
        .timed(2, &[(1, 0.01), (2, 0.01)])
        .expect(["w1 <- assign 3 planned w1:0-4 w2:4-8", "w2 <- assign 3 planned w1:0-4 w2:4-8"]);
}

#[test]
fn one_hiccup_moves_nothing() {
    let mut story = Story::running(2);
    story.timed(1, &[(1, 0.01), (2, 0.01)]).after(500).times(1, 1, 0.09).times(2, 1, 0.01).expect([]);
    story.after(500).times(1, 1, 0.09).times(2, 1, 0.01).expect([]);
    story.after(500).times(1, 1, 0.09).times(2, 1, 0.01);
    assert_eq!(story.counts(), [1, 7]);
}

#[test]
fn figures_said_again_or_long_ago_move_nothing() {
    let mut story = Story::running(2);
    story.after(500).times(1, 1, 0.04).times(2, 1, 0.01);
    for _ in 0..5 {
        story.times(1, 1, 0.04).times(2, 1, 0.01);
    }
    story.expect([]);
    story.timed(1, &[(1, 0.04)]).after(60_000).tell(Event::Awoke).expect([]);
}

#[test]
fn the_last_few_steps_are_not_worth_a_move() {
    let mut story = Story::running(2);
    story.resumed(1, 1, 97).timed(1, &[(1, 0.04), (2, 0.01)]).expect([]);
}

#[test]
fn a_job_that_wants_even_shards_keeps_them() {
    let mut story = Story::new();
    let mut even = spec("job", (1, 2), &["local"]);
    even.resources.shards = ShardsSpec::Even;
    story.pool("local", 8).submit_spec(even).attach(1).attach(2).resumed(1, 1, 10).skip();
    story.timed(1, &[(1, 0.04), (2, 0.01)]).expect([]);
}

#[test]
fn a_change_of_members_starts_by_the_known_speeds() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (1, 3), &["local"]).attach(1).attach(2).resumed(1, 1, 10).skip();
    story.timed(1, &[(1, 0.04), (2, 0.01)]).resumed(1, 2, 21).skip();
    assert_eq!(story.counts(), [1, 7]);
    story.pool("local", 3).attach(3).ready(3, 25);
    assert_eq!(story.counts(), [1, 4, 3], "w3 is taken to be as fast as w2");
    story.resumed(1, 3, 30).timed(3, &[(1, 0.04), (2, 0.01), (3, 0.01)]).notice(2, 5_000);
    assert_eq!(story.counts(), [1, 7]);
}

#[test]
fn a_long_known_speed_is_forgotten_and_members_start_even() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (1, 3), &["local"]).attach(1).attach(2).resumed(1, 1, 10);
    story.timed(1, &[(1, 0.04), (2, 0.01)]).resumed(1, 2, 21).wait(70_000, &[1, 2]);
    story.pool("local", 3).attach(3).ready(3, 25);
    assert_eq!(story.counts(), [3, 3, 2]);
}

#[test]
fn a_restarted_coordinator_measures_again_before_it_moves() {
    let mut story = Story::running(2);
    story.timed(1, &[(1, 0.04), (2, 0.01)]).resumed(1, 2, 21).restart(&[1, 2]);
    assert_eq!(story.counts(), [1, 7]);
    story.attach_holding(1, Some((2, Some(22)))).attach_holding(2, Some((2, Some(22)))).skip();
    story.timed(2, &[(1, 0.01), (2, 0.01)]).expect([]);
    story.wait(9_000, &[1, 2]).timed(2, &[(1, 0.01), (2, 0.01)]);
    assert_eq!(story.counts(), [4, 4]);
}

proptest! {
    #[test]
    fn with_constant_speeds_shards_settle_and_with_noise_they_stay(
        seconds in prop::collection::vec(0.002f64..0.1, 2..5),
        noises in prop::collection::vec(prop::collection::vec(0.95f64..1.05, 4), 200),
    ) {
        let members = u32::try_from(seconds.len()).unwrap();
        let mut story = Story::running(members);
        let beat = |story: &mut Story, noise: &[f64]| {
            story.after(1_000);
            let generation = story.job("job").generation.0;
            for n in 1..=members {
                let at = n as usize - 1;
                story.times(n, generation, seconds[at] * noise[at]);
            }
            if story.job("job").generation.0 > generation {
                story.resumed(1, generation + 1, 20);
            }
        };
        let exact = vec![1.0; 4];
        for _ in 0..60 {
            beat(&mut story, &exact);
        }
        let settled = story.job("job").generation;
        prop_assert!(settled.0 <= 2, "constant speeds need one move at most");
        for _ in 0..30 {
            beat(&mut story, &exact);
        }
        prop_assert_eq!(story.job("job").generation, settled);
        let mut moves = 0;
        for noise in &noises {
            let before = story.job("job").generation;
            beat(&mut story, noise);
            moves += u64::from(story.job("job").generation > before);
        }
        // A group that lies within 10 % of the best may be moved to the best, and never back.
        prop_assert!(moves <= 1, "{moves} moves under noise");
        prop_assert_eq!(story.counts().iter().sum::<u32>(), SHARDS);
    }

    #[test]
    fn equal_members_under_noise_of_five_percent_never_move(
        members in 2u32..=5,
        noises in prop::collection::vec(prop::collection::vec(0.95f64..1.05, 5), 100),
    ) {
        let mut story = Story::running(members);
        for noise in &noises {
            story.after(1_000);
            for n in 1..=members {
                story.times(n, 1, 0.02 * noise[n as usize - 1]);
            }
        }
        story.expect([]);
    }
}
