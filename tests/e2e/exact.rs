//! The same bits for any number of workers and any schedule of evictions.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use trainctl_tests::{Cluster, Job, kill};

#[test]
fn every_world_size_gives_the_same_bits() {
    let cluster = Cluster::up(options(&[]));
    for world_size in 2..=8 {
        let name = format!("size-{world_size}");
        let mut job = Job::convnet(&name, &cluster.folder().join("runs"));
        job.workers = (world_size, world_size);
        cluster.submit(&job.toml());
        let status = cluster.wait_for_success(&name);
        assert_eq!(digest(&status), undisturbed(60), "{world_size} workers\n{}", cluster.report(&name));
        assert_eq!(status["steps_repeated"], 0);
    }
}

#[test]
fn a_worker_killed_outright_costs_at_most_one_step() {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("killed", &cluster.folder().join("runs"));
    job.workers = (2, 4);
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("killed", 10);
    let victim = cluster.worker_pids("killed")[0];
    kill(victim, Signal::KILL);
    let status = cluster.wait_for_success("killed");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("killed"));
    assert!(status["steps_repeated"].as_u64() <= Some(1), "{status:#}");
    assert_eq!(status["evictions"], 1, "{status:#}");
}
