//! Jobs on rented machines: the real programs against EC2's and GCE's interfaces, with machines that boot from their user
//! data, hear of their end from their own metadata services, and are taken.
#![allow(missing_docs)]

mod cloud_init;
mod machines;
mod times;
mod world;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};
use trainctl_tests::{Cluster, Job, Options, eventually, kill};
use world::{World, ZONES};

const PATIENCE: Duration = Duration::from_secs(120);

fn job(cluster: &Cluster, name: &str, steps: u64, policy: &str) -> String {
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.workers = (1, 3);
    job.steps = steps;
    job.checkpoint = "every = \"200 steps\"\nkeep_last = 3".to_owned();
    let toml = job.toml().replace("pools = [\"local-spot\"]", "pools = [\"aws\", \"gcp\"]");
    format!("{toml}[policy]\n{policy}\n")
}

/// What one undisturbed local worker makes of it.
fn undisturbed(steps: u64) -> String {
    let cluster = Cluster::up(Options::default());
    let mut job = Job::convnet("alone", &cluster.folder().join("runs"));
    job.workers = (1, 1);
    job.steps = steps;
    cluster.submit(&job.toml());
    digest(&cluster.wait_for_success("alone"))
}

fn digest(status: &Value) -> String {
    let digest = status["state_digest"].as_str().unwrap_or_default();
    assert!(digest.starts_with("blake3:"), "{status:#}");
    digest.to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Pools, or places of pools, of the job's members.
fn places(cluster: &Cluster, name: &str) -> Vec<String> {
    let training = |worker: &Value| worker["state"] == "training";
    let workers = cluster.workers(name).into_iter().filter(training);
    let mut places: Vec<String> = workers.map(|worker| text(&worker["pool"]).to_owned()).collect();
    places.sort();
    places
}

/// What is told of a job that stays as it is; made when it is told.
struct Stuck<'c> {
    cluster: &'c Cluster,
    name: &'c str,
    what: &'c str,
}

impl Display for Stuck<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { cluster, name, what } = self;
        write!(f, "the workers are {what}, not {:?}\n{}", places(cluster, name), cluster.report(name))
    }
}

fn wait_for_places(cluster: &Cluster, name: &str, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    eventually(Stuck { cluster, name, what }, PATIENCE, || {
        let places = places(cluster, name);
        wanted(&places).then_some(places)
    })
}

fn on_demand(place: &str) -> bool {
    place.ends_with("/on-demand")
}

/// Its deadline leaves time to spare for all that happens, and none to wait for spot that never comes.
#[test]
fn a_job_moves_between_zones_clouds_and_markets_and_its_bits_stay() {
    const STEPS: u64 = 2_000;
    let world = World::start();
    // One zone has nothing from the start, and there is nothing on demand until that is all that is left: on a machine
    // so busy that the first step is late, the job would begin with it.
    world.only_spot_and_not_in(&["us-east-1a"]);
    let cluster = world.cluster();
    cluster.submit(&job(&cluster, "moving", STEPS, "deadline = \"90 s\"\non_demand = \"to-meet-deadline\""));
    wait_for_places(&cluster, "moving", "in the other zones", |places| {
        places.len() == 3 && places.iter().all(|place| !place.starts_with("aws/us-east-1a"))
    });

    // A notice, a recommendation, and one that is gone with no word.
    let on_ec2 = world.ec2.running();
    let [noticed, rest @ ..] = &on_ec2[..] else { panic!("none on EC2: {on_ec2:?}") };
    world.ec2.interrupt(&noticed.id, Duration::from_secs(6));
    let _ = cluster.wait_for("moving", "without the one that had a notice", |s| s["evictions"].as_u64() >= Some(1));
    if let Some(recommended) = rest.first() {
        world.ec2.rebalance(&recommended.id);
    }
    wait_for_places(&cluster, "moving", "three again", |places| places.len() == 3);
    let vanished = world.ec2.running().pop().expect("one on EC2");
    world.ec2.take(&vanished.id);

    // EC2 has no spot any more, then GCE hasn't either.
    world.only_spot_and_not_in(&ZONES);
    for instance in world.ec2.running() {
        world.ec2.interrupt(&instance.id, Duration::from_secs(5));
    }
    wait_for_places(&cluster, "moving", "on GCE", |places| {
        !places.is_empty() && places.iter().all(|place| place.starts_with("gcp/"))
    });
    world.only_on_demand();
    for vm in world.gce.vms() {
        world.gce.preempt(text(&vm["name"]), Duration::from_secs(5));
    }
    wait_for_places(&cluster, "moving", "on demand", |places| {
        !places.is_empty() && places.iter().all(|place| on_demand(place))
    });

    let status = cluster.wait_for_success("moving");
    let report = cluster.report("moving");
    assert_eq!(digest(&status), undisturbed(STEPS), "{report}");
    assert!(status["steps_repeated"].as_u64() <= status["evictions"].as_u64(), "{status:#}\n{report}");
    world.adds_up(&cluster, "moving");
    world.nothing_is_left(&cluster);
}

#[test]
fn a_coordinator_killed_while_it_buys_has_exactly_what_it_wants_after_its_restart() {
    let world = World::start();
    for unanswered in [0, 1, 3] {
        let mut cluster = world.cluster();
        let before = world.ec2.calls("CreateFleet");
        // Bought, and the coordinator never hears of it.
        world.ec2.drop_answers("CreateFleet", unanswered);
        cluster.submit(&job(&cluster, "bought", 100_000, ""));
        eventually("it buys", PATIENCE, || (world.ec2.calls("CreateFleet") > before).then_some(()));
        cluster.kill_coordinator();
        cluster.start();
        let _ = cluster.wait_for("bought", "three workers train", |s| s["world_size"] == 3);
        assert_eq!(world.running(), 3, "{}", cluster.report("bought"));
        assert!(cluster.run(&["cancel", "bought"]).status.success());
        world.nothing_is_left(&cluster);
    }
}

#[test]
fn a_hundred_are_bought_once_each_while_the_api_throttles_and_the_coordinator_dies() {
    const JOBS: usize = 25;
    const EACH: u32 = 4;
    const ALL: usize = JOBS * EACH as usize;
    let world = World::start_unmanned();
    let mut cluster = world.cluster_of(ALL);
    world.ec2.throttle(20.0, 10);
    let names: Vec<String> = (0..JOBS).map(|n| format!("throttled-{n}")).collect();
    for name in &names {
        let mut job = Job::convnet(name, &cluster.folder().join("runs"));
        job.workers = (EACH, EACH);
        cluster.submit(&job.toml().replace("[\"local-spot\"]", "[\"aws\"]"));
    }
    // Once among the first purchases, once among the last.
    for so_many in [ALL / 4, ALL * 3 / 4] {
        eventually("it buys", PATIENCE, || (world.running() >= so_many).then_some(()));
        cluster.kill_coordinator();
        cluster.start();
    }
    eventually(format!("all run\n{}", cluster.coordinator_log()), PATIENCE, || (world.running() == ALL).then_some(()));
    for name in &names {
        assert!(cluster.run(&["cancel", name]).status.success());
    }
    world.nothing_is_left(&cluster);
    let ever = world.ec2.instances();
    let wanted: BTreeSet<&str> = ever.iter().map(|one| one.tags["trainctl:instance"].as_str()).collect();
    assert_eq!((ever.len(), wanted.len()), (ALL, ALL), "something was bought twice");
}

#[test]
fn training_goes_on_while_both_clouds_are_down_and_nothing_leaks() {
    training_goes_on_while_both_clouds_are_down_for(Duration::ZERO);
}

#[test]
#[ignore = "takes ten minutes"]
fn training_goes_on_while_both_clouds_are_down_for_ten_minutes() {
    training_goes_on_while_both_clouds_are_down_for(Duration::from_secs(600));
}

fn training_goes_on_while_both_clouds_are_down_for(outage: Duration) {
    let world = World::start();
    let cluster = world.cluster();
    cluster.submit(&job(&cluster, "unheard", 10_000_000, ""));
    let _ = cluster.wait_for("unheard", "three workers train", |s| s["world_size"] == 3);
    let before = cluster.wait_for_step("unheard", 50);
    let began = Instant::now();
    world.outage(true);
    // One dies with no API to tell of it.
    let worker = cluster.workers("unheard").pop().expect("a worker");
    kill(u32::try_from(worker["pid"].as_u64().unwrap()).unwrap(), Signal::KILL);
    let mut step = before["step"].as_u64().unwrap();
    loop {
        let further = |s: &Value| s["world_size"] == 2 && s["step"].as_u64() > Some(step + 200);
        step = cluster.wait_for("unheard", "two go on", further)["step"].as_u64().unwrap();
        if began.elapsed() >= outage {
            break;
        }
    }
    world.outage(false);
    let _ = cluster.wait_for("unheard", "three again", |s| s["world_size"] == 3);
    assert!(cluster.run(&["cancel", "unheard"]).status.success());
    world.nothing_is_left(&cluster);
}

#[test]
fn credentials_that_expire_stop_purchases_and_not_the_training() {
    let world = World::start();
    let cluster = world.cluster();
    let toml = job(&cluster, "expired", 100_000, "").replace("[\"aws\", \"gcp\"]", "[\"aws\"]");
    cluster.submit(&toml);
    let _ = cluster.wait_for("expired", "three workers train", |s| s["world_size"] == 3);
    world.ec2.expire(&["AKIATESTTESTTEST"]);
    let taken = world.ec2.running().pop().expect("one on EC2");
    world.ec2.take(&taken.id);
    let status = cluster.wait_for("expired", "two go on", |s| s["world_size"] == 2);
    let step = status["step"].as_u64().unwrap();
    let _ =
        cluster.wait_for("expired", "further", |s| s["step"].as_u64() > Some(step + 200) && s["state"] == "running");
    world.ec2.expire(&[]);
    assert!(cluster.run(&["cancel", "expired"]).status.success());
    world.nothing_is_left(&cluster);
}

#[test]
fn a_quota_is_kept_and_what_is_left_comes_from_the_other_cloud() {
    let world = World::start();
    world.ec2.faults(&json!([{ "code": "MaxSpotInstanceCountExceeded", "lifecycle": "spot" }]));
    let cluster = world.cluster();
    cluster.submit(&job(&cluster, "quota", 400, ""));
    wait_for_places(&cluster, "quota", "on GCE", |places| {
        places.len() == 3 && places.iter().all(|place| place.starts_with("gcp/"))
    });
    let _ = cluster.wait_for_success("quota");
    assert!(cluster.report("quota").to_lowercase().contains("quota"), "{}", cluster.report("quota"));
    world.nothing_is_left(&cluster);
}
