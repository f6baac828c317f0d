//! Workers of different speeds, measured with noise: shards move to where they are computed fastest, and stay there.

use crate::setup::{Ended, job, pool};
use crate::world::World;
use coordinator_core::{Settings, WorkerId};
use trainctl_jobs::ShardsSpec;

const STEPS: u64 = 1_000;
const WORKERS: u32 = 4;

/// A job on workers that take so many times as long as a usual one.
fn train(seed: u64, slowness: &[f64], shards: ShardsSpec) -> Ended {
    let mut world = World::new(seed, Settings::default());
    world.slowness = (1..).map(|n| WorkerId(format!("w{n}"))).zip(slowness.iter().copied()).collect();
    world.announce(pool("spot", WORKERS));
    let mut spec = job("uneven", STEPS, (WORKERS, WORKERS), &["spot"]);
    spec.resources.shards = shards;
    world.submit(spec);
    world.run_to_the_end(24 * 3_600_000)
}

fn took_ms(ended: &Ended) -> i64 {
    let job = &ended.jobs[0];
    job.ended.zip(job.started).map_or(i64::MAX, |(ended, started)| ended.0 - started.0)
}

#[test]
fn a_slow_worker_does_not_slow_the_job_down_to_its_own_speed() {
    for seed in 1..=20 {
        let slowness = [1.0, 16.0, 1.0, 1.0];
        let even = train(seed, &slowness, ShardsSpec::Even);
        let by_speed = train(seed, &slowness, ShardsSpec::BySpeed);
        even.expect_succeeded(seed);
        by_speed.expect_succeeded(seed);
        assert!(even.moves.is_empty());
        assert_eq!(even.jobs[0].state_digest, by_speed.jobs[0].state_digest);
        // Four shards of 96 ms against one of them.
        let (even_ms, by_speed_ms) = (took_ms(&even), took_ms(&by_speed));
        assert!(by_speed_ms * 3 < even_ms, "seed {seed}: {by_speed_ms} ms, evenly {even_ms} ms");
    }
}

#[test]
fn shards_settle_and_stay_for_any_speeds() {
    for seed in 1..=60 {
        // Each worker's slowness is from 1 to 16, and differs between seeds.
        let slowness = [7, 11, 13, 17].map(|factor| 1.0 + ((seed * factor) % 16) as f64);
        let ended = train(seed, &slowness, ShardsSpec::BySpeed);
        ended.expect_succeeded(seed);
        let late = ended.moves.iter().any(|step| *step > STEPS / 2);
        assert!(ended.moves.len() <= 3 && !late, "seed {seed}, {slowness:?}: {:?}\n{}", ended.moves, ended.decisions);
    }
}

#[test]
fn equal_workers_that_are_measured_with_noise_keep_what_they_have() {
    for seed in 1..=60 {
        let ended = train(seed, &[2.0; 4], ShardsSpec::BySpeed);
        assert!(ended.moves.is_empty(), "seed {seed}\n{}", ended.decisions);
    }
}
