//! Workers of different speeds: shards move to the fast ones, the bits stay, and the job is as fast as it can be.

use crate::{digest, options};
use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use std::process::{Child, Command};
use std::time::Duration;
use trainctl_tests::{Cluster, Job, eventually, kill};

/// A model that is large enough for a shard to take some milliseconds, on two workers and 16 shards.
fn job(name: &str, cluster: &Cluster, steps: u64, shards: &str) -> String {
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.model = "kind = \"convnet\"\nchannels = [16, 32]\ndropout = 0.2".to_owned();
    job.workers = (2, 2);
    job.steps = steps;
    job.train = String::new();
    job.checkpoint = "every = \"100000 steps\"".to_owned();
    let text = job.toml().replace("global_batch = 64\nlogical_shards = 8", "global_batch = 256\nlogical_shards = 16");
    text.replace("[resources]", &format!("[resources]\nshards = \"{shards}\""))
}

/// Shards of each worker, by rank.
fn shares(status: &Value) -> Vec<u64> {
    let all = status["shares"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|share| share["shards"].as_u64()).collect()
}

/// Samples a second over the rest of the job from this step on.
fn rate_from(cluster: &Cluster, name: &str, step: u64) -> f64 {
    let first = cluster.wait_for_step(name, step);
    let began = std::time::Instant::now();
    let last = cluster.wait_for(name, "done", |s| s["step"].as_u64() >= s["steps"].as_u64());
    let steps = last["step"].as_u64().unwrap_or_default() - first["step"].as_u64().unwrap_or_default();
    steps as f64 * 256.0 / began.elapsed().as_secs_f64()
}

fn digest_of(cluster: &Cluster, name: &str) -> String {
    digest(&cluster.wait_for_success(name))
}

#[test]
fn a_worker_at_a_quarter_of_its_speed_does_not_slow_the_job_to_a_quarter() {
    const STEPS: u64 = 900;
    let undisturbed = Cluster::up(options(&[]));
    undisturbed.submit(&job("full", &undisturbed, STEPS, "by-speed"));
    let full = rate_from(&undisturbed, "full", STEPS / 2);
    let expected = digest_of(&undisturbed, "full");

    let slowed = Cluster::up(options(&[("TRAINCTL_SLOW", "w2=4")]));
    slowed.submit(&job("even", &slowed, STEPS / 3, "even"));
    let even = rate_from(&slowed, "even", STEPS / 6);
    let _ = slowed.wait_for_success("even");

    let slowed = Cluster::up(options(&[("TRAINCTL_SLOW", "w2=4")]));
    slowed.submit(&job("full", &slowed, STEPS, "by-speed"));
    let shares = shares(&slowed.wait_for_step("full", STEPS / 2));
    let balanced = rate_from(&slowed, "full", STEPS / 2);
    assert_eq!(digest_of(&slowed, "full"), expected, "{}", slowed.report("full"));

    eprintln!(
        "samples/s: two full workers {full:.0}, one at a quarter: even {even:.0}, by speed {balanced:.0} {shares:?}"
    );
    let explained = String::from_utf8(slowed.command(&["explain", "full"]).output().unwrap().stdout).unwrap();
    assert!(explained.contains("from w2 to w1"), "{explained}");
    assert!(balanced > 1.5 * even, "by speed {balanced:.0}, evenly {even:.0} samples/s\n{}", slowed.report("full"));
    assert!(
        balanced > 0.4 * full,
        "slowed {balanced:.0}, at full speed {full:.0} samples/s\n{}",
        slowed.report("full")
    );
}

#[test]
fn a_worker_that_gets_fast_again_gets_its_shards_back() {
    let undisturbed = Cluster::up(options(&[]));
    undisturbed.submit(&job("back", &undisturbed, 1_500, "even"));
    let cluster = Cluster::up(options(&[("TRAINCTL_SLOW", "w2=8@0-400")]));
    cluster.submit(&job("back", &cluster, 1_500, "by-speed"));
    let fewer = |status: &Value| matches!(shares(status)[..], [first, second] if first >= second + 8);
    let evener = |status: &Value| matches!(shares(status)[..], [first, second] if first <= second + 6);
    let _ = cluster.wait_for("back", "short of shards on w2", fewer);
    let _ = cluster.wait_for("back", "even again", evener);
    assert_eq!(digest_of(&cluster, "back"), digest_of(&undisturbed, "back"), "{}", cluster.report("back"));
}

/// Ends its process.
struct Spinner(Child);

impl Drop for Spinner {
    fn drop(&mut self) {
        kill(self.0.id(), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Confines every thread of a process to one CPU.
fn pin(pid: u32, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let task = task.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        // A thread that has ended meanwhile needs none.
        let _ = sched_setaffinity(task, &only);
    }
}

#[test]
fn a_worker_whose_processor_others_take_gives_shards_away() {
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(2).collect();
    let [first, second] = cpus[..] else { return eprintln!("one processor only: nothing to take") };
    let cluster = Cluster::up(options(&[]));
    cluster.submit(&job("crowded", &cluster, 4_000, "by-speed"));
    let _ = cluster.wait_for_step("crowded", 5);
    let pids: Vec<u32> = cluster.worker_pids("crowded");
    pin(pids[0], first);
    pin(pids[1], second);
    let spin = || Spinner(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let spinners: Vec<Spinner> = (0..4).map(|_| spin()).collect();
    spinners.iter().for_each(|spinner| pin(spinner.0.id(), second));
    let fewer = |status: &Value| matches!(shares(status)[..], [first, second] if first >= second + 4);
    let crowded = cluster.wait_for("crowded", "short of shards on the crowded processor", fewer);
    eprintln!("shares beside four busy loops: {:?}", shares(&crowded));
    drop(spinners);
    let _ = eventually("the job is cancelled", Duration::from_secs(60), || {
        cluster.command(&["cancel", "crowded"]).output().ok().filter(|out| out.status.success())
    });
}
