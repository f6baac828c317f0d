//! A real fleet's history, replayed: the evictions that a spot pool on AWS saw in four hours, in some seconds.

use crate::{digest, undisturbed};
use trainctl_tests::{Cluster, Job, Options, repository};

#[test]
fn a_replayed_spot_fleet_gives_the_same_bits() {
    let trace = repository().join("coordinator/core/tests/sim/data/bamboo-p3-excerpt.csv");
    let pools = format!(
        "[pools.local-spot]\nkind = \"local\"\nspot = true\ncapacity = 32\nnotice = \"2s\"\ntrace = {trace:?}\n\
         trace_speed = 1500.0\n"
    );
    let cluster = Cluster::up(Options { pools, environment: Vec::new() });
    let mut job = Job::convnet("traced", &cluster.folder().join("runs"));
    job.workers = (1, 6);
    job.steps = 1000;
    job.checkpoint = "every = \"100 steps\"".to_owned();
    cluster.submit(&job.toml());
    let status = cluster.wait_for_success("traced");
    assert_eq!(digest(&status), undisturbed(job.steps), "{}", cluster.report("traced"));
    assert!(status["evictions"].as_u64() >= Some(1), "{status:#}\n{}", cluster.report("traced"));
}
