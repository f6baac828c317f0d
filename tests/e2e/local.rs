//! `submit --local`: one command that brings its own coordinator and workers, and takes them away again.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::Duration;
use trainctl_tests::{Cluster, Job, eventually, kill, processes_of};

fn submit_local(cluster: &Cluster, job: &Job) -> Child {
    let path = cluster.folder().join("job.toml");
    std::fs::write(&path, job.toml()).unwrap();
    let mut command = cluster.command(&["--output", "json", "submit", "--local"]);
    command.arg(&path).arg("--pools").arg(cluster.folder().join("pools.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn it_waits_for_the_end_and_prints_the_job_while_others_can_look_on() {
    let cluster = Cluster::prepare(options(&[]));
    let mut job = Job::convnet("local", &cluster.folder().join("runs"));
    job.steps = 300;
    let child = submit_local(&cluster, &job);
    eventually("other commands find its coordinator", Duration::from_secs(60), || {
        (cluster.show("local")?["step"].as_u64()? > 5).then_some(())
    });
    assert!(!cluster.workers("local").is_empty());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["state"], "succeeded", "{status:#}");
    assert_eq!(digest(&status), undisturbed(300));
    eventually("no process is left behind", Duration::from_secs(20), || {
        processes_of(&cluster.home()).is_empty().then_some(())
    });
}

#[test]
fn ctrl_c_saves_and_the_job_goes_on_later() {
    let mut cluster = Cluster::prepare(options(&[]));
    let mut job = Job::convnet("interrupted", &cluster.folder().join("runs"));
    job.steps = 300;
    job.checkpoint = "every = \"1000 steps\"".to_owned();
    let child = submit_local(&cluster, &job);
    eventually("it trains", Duration::from_secs(60), || {
        (cluster.show("interrupted")?["step"].as_u64()? > 20).then_some(())
    });
    kill(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    eventually("no process is left behind", Duration::from_secs(20), || {
        processes_of(&cluster.home()).is_empty().then_some(())
    });
    cluster.start();
    let status = cluster.wait_for_success("interrupted");
    assert_eq!(digest(&status), undisturbed(300), "{}", cluster.report("interrupted"));
    assert_eq!(status["steps_repeated"], 0, "{status:#}");
}
