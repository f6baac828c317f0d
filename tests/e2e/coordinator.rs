//! The coordinator dies and comes back: workers train on, nothing is forgotten.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use std::time::Duration;
use trainctl_tests::{Cluster, Job, eventually, kill, processes_of};

#[test]
fn workers_train_on_while_the_coordinator_is_down() {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("orphans", &cluster.folder().join("runs"));
    job.workers = (3, 3);
    job.steps = 400;
    cluster.submit(&job.toml());
    let before = cluster.wait_for_step("orphans", 20);
    let pids = cluster.worker_pids("orphans");
    cluster.kill_coordinator();
    let step = before["step"].as_u64().unwrap();
    let root = cluster.folder().join("runs/orphans/checkpoints");
    eventually("a checkpoint is taken without a coordinator", Duration::from_secs(60), || {
        let newest = std::fs::read_dir(&root).ok()?.flatten().filter(|e| e.path().join("manifest.json").is_file());
        newest.filter_map(|e| e.file_name().to_string_lossy().parse::<u64>().ok()).find(|s| *s > step + 20)
    });
    cluster.start();
    let status = cluster.wait_for_success("orphans");
    assert_eq!((&status["steps_repeated"], &status["evictions"]), (&0.into(), &0.into()), "{status:#}");
    assert_eq!(pids.len(), 3);
    let explained = cluster.report("orphans");
    assert!(!explained.contains("w4"), "a worker was bought twice:\n{explained}");
}

#[test]
fn a_worker_that_dies_while_the_coordinator_is_down_is_replaced_by_the_next_one() {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("both-dead", &cluster.folder().join("runs"));
    job.workers = (2, 3);
    job.steps = 300;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("both-dead", 10);
    let victim = cluster.worker_pids("both-dead")[0];
    cluster.kill_coordinator();
    kill(victim, Signal::KILL);
    cluster.start();
    let status = cluster.wait_for_success("both-dead");
    assert_eq!(digest(&status), undisturbed(300), "{}", cluster.report("both-dead"));
    assert!(status["steps_repeated"].as_u64() <= Some(1), "{status:#}");
    assert_eq!(status["evictions"], 1, "{status:#}\n{}", cluster.report("both-dead"));
}

#[test]
fn killed_at_each_write_it_loses_nothing() {
    let mut write = 1;
    loop {
        let mut cluster = Cluster::prepare(options(&[("TRAINCTL_FAIL_AT_WRITE", &write.to_string())]));
        cluster.spawn();
        let name = format!("write-{write}");
        let mut job = Job::convnet(&name, &cluster.folder().join("runs"));
        job.workers = (2, 2);
        let path = cluster.folder().join("job.toml");
        std::fs::write(&path, job.toml()).unwrap();
        eventually("the coordinator listens or dies", Duration::from_secs(60), || {
            (cluster.coordinator_ended() || cluster.home().join("coordinator.json").is_file()).then_some(())
        });
        let accepted = cluster.run(&["submit", &path.to_string_lossy()]).status.success();
        let job_ended = eventually("the coordinator dies or the job ends", Duration::from_secs(60), || {
            if cluster.coordinator_ended() {
                return Some(false);
            }
            let status = cluster.show(&name)?;
            (!status["ended"].is_null()).then_some(true)
        });
        if job_ended {
            // What is written now, or not, is still to come back right. It may die before it answers.
            let _ = cluster.run(&["stop"]);
        }
        let ended = eventually("the coordinator ends", Duration::from_secs(60), || cluster.coordinator_status());
        cluster.set_environment("TRAINCTL_FAIL_AT_WRITE", "");
        cluster.start();
        if cluster.show(&name).is_none() {
            assert!(!accepted, "write {write}: an accepted job was lost");
            let _ = cluster.json(&["submit", &path.to_string_lossy()]);
        }
        let status = cluster.wait_for_success(&name);
        assert_eq!(digest(&status), undisturbed(60), "write {write}\n{}", cluster.report(&name));
        let _ = cluster.run(&["stop"]);
        eventually("no worker is left behind", Duration::from_secs(30), || {
            processes_of(&cluster.home()).is_empty().then_some(())
        });
        if ended.success() {
            break;
        }
        // Every write early on, where each is of another kind; then every fifth.
        write += if write < 24 { 1 } else { 5 };
    }
    assert!(write > 10, "only {write} writes in a whole job");
}

#[test]
fn stopped_cleanly_it_goes_on_later() {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("later", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("later", 10);
    let stopped = cluster.run(&["stop"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    eventually("all processes end", Duration::from_secs(30), || {
        (cluster.coordinator_ended() && processes_of(&cluster.home()).is_empty()).then_some(())
    });
    cluster.start();
    let status = cluster.wait_for_success("later");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("later"));
    assert_eq!(status["steps_repeated"], 0, "{status:#}");
}
