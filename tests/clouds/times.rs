//! How long a replacement takes: from the notice until it is requested, and from the machine's start until it trains.

use crate::world::World;
use crate::{PATIENCE, job, text};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use trainctl_tests::{Cluster, eventually};

const REPLACEMENTS: usize = 10;

#[test]
#[ignore = "measures, and prints what it measured"]
fn how_long_a_replacement_takes() {
    let world = World::start();
    let cluster = world.cluster();
    cluster.submit(&job(&cluster, "replaced", 1_000_000, "").replace("[\"aws\", \"gcp\"]", "[\"aws\"]"));
    let _ = cluster.wait_for("replaced", "three workers train", |s| s["world_size"] == 3);
    let (mut requested, mut trained) = (Vec::new(), Vec::new());
    for _ in 0..REPLACEMENTS {
        let before = instances(&world);
        let purchases = world.ec2.calls("CreateFleet");
        let (noticed, id) = before.first_key_value().expect("one on EC2");
        world.ec2.interrupt(id, Duration::from_secs(10));
        let notice = Instant::now();
        wait(|| (world.ec2.calls("CreateFleet") > purchases).then_some(()));
        requested.push(notice.elapsed());
        let new = wait(|| instances(&world).into_keys().find(|instance| !before.contains_key(instance)));
        let up = Instant::now();
        wait(|| trains(&cluster, &new).then_some(()));
        trained.push(up.elapsed());
        eventually("the old one is gone", PATIENCE, || (!instances(&world).contains_key(noticed)).then_some(()));
        let _ = cluster.wait_for("replaced", "three workers train", |s| s["world_size"] == 3);
    }
    print("from the notice until a replacement is requested", requested);
    print("from the machine's start until its worker trains", trained);
    assert!(cluster.run(&["cancel", "replaced"]).status.success());
    world.nothing_is_left(&cluster);
}

/// What runs on EC2: the coordinator's names, and EC2's.
fn instances(world: &World) -> BTreeMap<String, String> {
    let running = world.ec2.running().into_iter();
    running.map(|instance| (instance.tags["trainctl:instance"].clone(), instance.id)).collect()
}

fn trains(cluster: &Cluster, instance: &str) -> bool {
    let workers = cluster.workers("replaced");
    workers.iter().any(|worker| text(&worker["instance"]) == instance && text(&worker["state"]) == "training")
}

/// Without a pause between looks: each is a question to a process.
fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "nothing happened for {PATIENCE:?}");
    }
}

#[allow(clippy::print_stdout, reason = "it measures, and says what")]
fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (least, most) = (times[0], times[times.len() - 1]);
    println!("{what}: median {:.0?}, {least:.0?} to {most:.0?}, {} times", times[times.len() / 2], times.len());
}
