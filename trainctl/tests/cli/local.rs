//! `submit --local`, with programs in the worker's place that can't train: what counts here is how it ends.

use crate::place::{Place, keys, told, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

/// What a coordinator gives workers between asking them to end and killing them.
const WORKERS_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

fn place_with_job() -> Place {
    let place = Place::new();
    place.write_job(&place.pin_points());
    place
}

/// A worker that writes its process id down and then does nothing. A stubborn one ignores `SIGTERM`.
fn idle_worker(place: &Place, stubborn: bool) -> std::path::PathBuf {
    let trap = if stubborn { "trap '' TERM" } else { "" };
    let pids = place.path("pids");
    let script = format!("#!/bin/sh\n{trap}\necho $$ >> {}\nexec sleep 600\n", pids.display());
    let path = place.write("idle-worker", &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn submit_local(place: &Place, worker: &std::path::Path) -> Child {
    place
        .command(&["submit", "job.toml", "--local", "--output", "json"])
        .env("TRAINCTL_WORKER", worker)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
}

fn workers(place: &Place) -> Vec<u32> {
    let text = std::fs::read_to_string(place.path("pids")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn runs(pid: u32) -> bool {
    // A zombie is a process that has ended; its parent has yet to ask.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[test]
fn workers_that_die_at_once_fail_the_job() {
    let place = place_with_job();
    let ran = place.finish(submit_local(&place, "/bin/false".as_ref()).wait_with_output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let job: Value = serde_json::from_str(&ran.stdout).expect("stdout holds the job's object and nothing else");
    assert_eq!(job["state"], "failed");
    assert!(job["reason"].is_string() && job["ended"].is_string(), "{job}");
    assert!(ran.stderr.contains("\"class\":\"job_failed\""), "{}", ran.stderr);
    assert!(!place.path("home/coordinator.json").exists());
}

#[test]
fn ctrl_c_leaves_nothing_behind_and_says_how_to_go_on() {
    let place = place_with_job();
    let worker = idle_worker(&place, false);
    let child = submit_local(&place, &worker);
    until("a worker runs", || !workers(&place).is_empty());
    let shown = place.json(&["show", "points"]);
    assert!(keys(&shown).contains(&"state"), "other commands find its coordinator");
    interrupt(&child);
    let ran = place.finish(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(ran.stderr.contains("points goes on with `trainctl up`"), "{}", ran.stderr);
    let job: Value = serde_json::from_str(&ran.stdout).expect("stdout holds the job's object and nothing else");
    assert_eq!(job["state"], "suspended");
    assert!(workers(&place).iter().all(|pid| !runs(*pid)), "workers are left behind");
    assert!(!place.path("home/coordinator.json").exists());
}

#[test]
fn ctrl_c_twice_kills_workers_that_do_not_end() {
    let place = place_with_job();
    let worker = idle_worker(&place, true);
    let said = place.path("said");
    let child = place
        .command(&["submit", "job.toml", "--local"])
        .env("TRAINCTL_WORKER", worker)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    until("a worker runs", || !workers(&place).is_empty());
    interrupt(&child);
    until("it says that it stops", || std::fs::read_to_string(&said).unwrap().contains("stopping: points"));
    let second = std::time::Instant::now();
    interrupt(&child);
    let code = child.wait_with_output().unwrap().status.code();
    assert!(second.elapsed() < WORKERS_GRACE, "{:?}", second.elapsed());
    assert_eq!(code, Some(130));
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.contains("goes on with `trainctl up` from the start"), "{said}");
    assert!(workers(&place).iter().all(|pid| !runs(*pid)), "workers are left behind");
}

#[test]
fn a_coordinator_that_serves_the_home_is_used() {
    let place = place_with_job();
    let _running = place.coordinator();
    let mut child = submit_local(&place, "/bin/false".as_ref());
    until("the job is there", || place.run(&["show", "points"]).code == 0);
    place.json(&["cancel", "points"]);
    assert!(child.wait().is_ok());
    let ran = place.finish(child.wait_with_output().unwrap());
    assert!(
        ran.stderr.contains("a coordinator serves this home already; using it: http://127.0.0.1:[PORT]"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, 1, "a cancelled job has not succeeded");
}

#[test]
fn pools_can_not_be_given_to_a_coordinator_that_runs() {
    let place = place_with_job();
    let _running = place.coordinator();
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml", "--local", "--pools", "pools.toml"])));
}

#[test]
fn a_job_here_and_a_coordinator_elsewhere_exclude_each_other() {
    let place = place_with_job();
    let args = ["submit", "job.toml", "--local", "--coordinator", "http://127.0.0.1:7070"];
    insta::assert_snapshot!(told(&place.run(&args)));
}
