//! Commands against a real coordinator whose pools give nothing, so that jobs wait and no worker runs.

use crate::place::{Place, keys, told, until};
use rustix::process::Signal;
use serde_json::json;

const JOB_KEYS: [&str; 34] = [
    "job",
    "state",
    "step",
    "steps",
    "world_size",
    "generation",
    "loss",
    "eval",
    "state_digest",
    "state_digest_step",
    "evictions",
    "skipped_steps",
    "audits_passed",
    "steps_repeated",
    "longest_pause_ms",
    "checkpoints",
    "submitted",
    "started",
    "ended",
    "reason",
    "samples_per_s",
    "eta_s",
    "workers_min",
    "workers_max",
    "checkpoint_root",
    "data_digest",
    "fingerprint",
    "numerics",
    "shares",
    "corruptions",
    "save_failure",
    "nccl_failures",
    "cost",
    "spec",
];

fn place_with_job() -> Place {
    let place = Place::new();
    place.write_job(&place.pin_points());
    place
}

#[test]
fn up_says_where_it_is() {
    let place = Place::new();
    let running = place.coordinator();
    assert_eq!(keys(&running.first), ["address", "home", "token_file", "pid", "cluster", "version", "jobs"]);
    assert_eq!(running.first["home"], place.path("home").to_str().unwrap());
    let token_file = std::path::Path::new(running.first["token_file"].as_str().unwrap());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(token_file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_job_is_submitted_shown_listed_explained_and_cancelled() {
    let place = place_with_job();
    let _running = place.coordinator();
    insta::assert_snapshot!("submit", told(&place.run(&["submit", "job.toml"])));

    let shown = place.json(&["show", "points"]);
    assert_eq!(keys(&shown), JOB_KEYS);
    assert_eq!((shown["state"].clone(), shown["steps"].clone()), (json!("queued"), json!(20)));
    for key in ["loss", "eval", "state_digest", "started", "ended"] {
        assert!(shown[key].is_null(), "{key}: {}", shown[key]);
    }
    assert_eq!(shown["spec"]["train"]["global_batch"], 8);
    let manifest = place.path("points.manifest.json");
    assert_eq!(shown["spec"]["data"]["manifest"], manifest.to_str().unwrap(), "paths are absolute");

    let listed = place.json(&["ls"]);
    assert_eq!(listed[0]["job"], "points");
    let explained = place.json(&["explain", "points"]);
    assert_eq!(explained["job"]["job"], "points");
    for decision in explained["decisions"].as_array().unwrap() {
        assert_eq!(keys(decision), ["at", "generation", "step", "kind", "what", "why"]);
    }
    assert_eq!(place.run(&["explain", "points"]).code, 0);
    assert_eq!(place.json(&["worker", "ls"]), json!([]));
    assert_eq!(place.run(&["logs", "points"]).code, 0);

    let cancelled = place.json(&["cancel", "points"]);
    assert_eq!(cancelled["job"], "points");
    until("the job is cancelled", || place.json(&["show", "points"])["state"] == "cancelled");
    let watched = place.run(&["watch", "points"]);
    assert_eq!(watched.code, 1, "{}", watched.stderr);
    assert!(watched.stderr.starts_with("error: job points cancelled at step 0 of 20"), "{}", watched.stderr);
}

#[test]
fn settings_change_the_job() {
    let place = place_with_job();
    let _running = place.coordinator();
    let submitted = place.json(&["submit", "job.toml", "--set", "name=\"other\"", "--set", "train.steps=30"]);
    assert_eq!(submitted["job"], "other");
    assert_eq!(submitted["steps"], 30);
}

#[test]
fn a_name_is_used_once() {
    let place = place_with_job();
    let _running = place.coordinator();
    place.json(&["submit", "job.toml"]);
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml"])));
}

#[test]
fn a_job_with_a_pool_that_does_not_exist() {
    let place = place_with_job();
    let _running = place.coordinator();
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml", "--set", "resources.pools=[\"local-spt\"]"])));
    assert_eq!(place.json(&["ls"]), json!([]), "nothing was submitted");
}

#[test]
fn what_is_not_there_gets_the_nearest_name() {
    let place = place_with_job();
    let _running = place.coordinator();
    place.json(&["submit", "job.toml"]);
    for (name, args) in [
        ("unknown_job", &["show", "pints"][..]),
        ("unknown_job_far", &["explain", "resnet"]),
        ("unknown_job_cancel", &["cancel", "pints"]),
        ("unknown_job_watch", &["watch", "pints"]),
        ("unknown_job_logs", &["logs", "pints"]),
        ("unknown_worker_logs", &["logs", "points", "--worker", "w9"]),
        ("unknown_job_ckpt", &["ckpt", "ls", "pints"]),
        ("unknown_worker", &["worker", "drain", "w9"]),
        ("unknown_worker_evict", &["worker", "evict", "w9", "--now"]),
        ("unknown_pool", &["pool", "set", "local-spt", "--capacity", "3"]),
    ] {
        insta::assert_snapshot!(name, told(&place.run(args)));
    }
}

#[test]
fn a_wrong_token_is_refused() {
    let place = Place::new();
    let _running = place.coordinator();
    let wrong = place.write("wrong-token", "not the token\n");
    insta::assert_snapshot!("token_wrong", told(&place.run(&["ls", "--token-file", wrong.to_str().unwrap()])));
    insta::assert_snapshot!("token_missing", told(&place.run(&["ls", "--token-file", "nowhere"])));
}

#[test]
fn a_coordinator_can_be_named_by_its_address() {
    let place = place_with_job();
    let running = place.coordinator();
    let elsewhere = Place::new();
    let address = running.first["address"].as_str().unwrap();
    let token_file = running.first["token_file"].as_str().unwrap();
    let jobs = elsewhere.json(&["ls", "--coordinator", address, "--token-file", token_file]);
    assert_eq!(jobs, json!([]));
}

#[test]
fn pools_are_listed_and_set() {
    let place = Place::new();
    let _running = place.coordinator();
    insta::assert_snapshot!("pools", told(&place.run(&["pool", "ls"])));
    let pools = place.json(&["pool", "ls"]);
    let figures = ["capacity", "in_use", "notice_ms", "evictions", "unowned", "note"];
    let whose = ["pool", "of", "kind", "spot", "market", "region", "zone", "usd_per_hour", "on_demand_usd_per_hour"];
    assert_eq!(keys(&pools[0]), [&whose[..], &figures[..]].concat());
    insta::assert_snapshot!("pool_set", told(&place.run(&["pool", "set", "local-spot", "--capacity", "3"])));
    assert_eq!(place.json(&["pool", "ls"])[0]["capacity"], 3);
}

#[test]
fn ctrl_c_suspends_the_jobs_and_says_how_to_go_on() {
    let place = place_with_job();
    let running = place.coordinator();
    place.json(&["submit", "job.toml"]);
    running.signal(Signal::INT);
    let ran = running.wait(&place);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("stopping: points is saved"), "{}", ran.stderr);
    assert!(ran.stderr.contains("points goes on with `trainctl up --pools pools.toml`"), "{}", ran.stderr);
    assert!(!place.path("home/coordinator.json").exists());
    assert_eq!(place.run(&["ls"]).code, 3);

    let running = place.coordinator();
    assert_eq!(running.first["jobs"], json!(["points"]));
    assert_eq!(place.json(&["show", "points"])["state"], "queued");
}

#[test]
fn stop_ends_the_coordinator() {
    let place = place_with_job();
    let running = place.coordinator();
    place.json(&["submit", "job.toml"]);
    let stopped = place.json(&["stop"]);
    assert_eq!(stopped["suspended"], json!(["points"]));
    assert_eq!(running.wait(&place).code, 0);
    insta::assert_snapshot!(told(&place.run(&["stop"])));
}

#[test]
fn a_home_has_one_coordinator() {
    let place = Place::new();
    let _running = place.coordinator();
    insta::assert_snapshot!(told(&place.run(&["up"])));
}

#[test]
fn a_port_that_is_taken() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    insta::assert_snapshot!(told(&place.run(&["up", "--listen", &address])));
}

#[test]
fn pools_that_do_not_hold() {
    let place = Place::new();
    place.write("pools.toml", "[pools.local-spot]\nkind = \"local\"\ncapacty = 3\n");
    insta::assert_snapshot!(told(&place.run(&["up", "--pools", "pools.toml"])));
}

#[test]
fn watching_ends_with_ctrl_c_and_the_job_goes_on() {
    let place = place_with_job();
    let _running = place.coordinator();
    let watching = place.command(&["submit", "job.toml", "--watch"]);
    let watching = spawn_until_submitted(&place, watching);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(watching.id().try_into().unwrap()).unwrap(),
        Signal::INT,
    )
    .unwrap();
    let ran = place.finish(watching.wait_with_output().unwrap());
    assert_eq!(ran.code, 130);
    assert!(ran.stderr.contains("stopped watching; points goes on"), "{}", ran.stderr);
    assert_eq!(place.json(&["show", "points"])["state"], "queued");
}

#[test]
fn watching_survives_a_coordinator_that_is_killed_and_started_again() {
    let place = place_with_job();
    let killed = place.coordinator();
    place.json(&["submit", "job.toml"]);
    let out = place.path("watch.out");
    let mut watching = place.command(&["watch", "points", "--output", "json"]);
    let watching =
        watching.stdout(std::fs::File::create(&out).unwrap()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&out).unwrap();
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    };
    until("a first status is printed", || !lines().is_empty());
    killed.signal(Signal::KILL);
    assert_eq!(killed.wait(&place).code, -1, "it was killed");
    let _again = place.coordinator();
    place.json(&["cancel", "points"]);
    let ran = place.finish(watching.wait_with_output().unwrap());
    assert_eq!(ran.code, 1, "a cancelled job has not succeeded");
    assert!(ran.stderr.contains("the coordinator is back at http://127.0.0.1:[PORT]"), "{}", ran.stderr);
    assert_eq!(lines().last().unwrap()["state"], "cancelled");
}

#[test]
fn following_logs_ends_when_the_coordinator_is_killed() {
    let place = place_with_job();
    let killed = place.coordinator();
    place.json(&["submit", "job.toml"]);
    place.write("home/logs/points/w1.log", "it starts\n");
    let out = place.path("logs.out");
    let mut following = place.command(&["logs", "points", "--follow"]);
    let following =
        following.stdout(std::fs::File::create(&out).unwrap()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("a first line is printed", || std::fs::read_to_string(&out).unwrap().contains("it starts"));
    killed.signal(Signal::KILL);
    insta::assert_snapshot!(told(&place.finish(following.wait_with_output().unwrap())));
}

#[test]
fn up_does_not_start_where_a_coordinator_is_named() {
    insta::assert_snapshot!(told(&Place::new().run(&["up", "--coordinator", "http://127.0.0.1:7070"])));
}

/// Starts a submission and waits until it follows its job: it has printed a first line.
fn spawn_until_submitted(place: &Place, mut command: std::process::Command) -> std::process::Child {
    use std::fs::File;
    let out = place.path("watch.out");
    let child = command.stdout(File::create(&out).unwrap()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("the job is followed", || std::fs::read_to_string(&out).unwrap().contains("points queued"));
    child
}
