//! A store that is down for a while during a save, and during a load: both wait, and end well.

use crate::kill::{Saver, report, state_at, tensors};
use crate::support::{JOB, values};
use crate::{ROOT, folder};
use std::time::Duration;
use trainctl_checkpoint::RunFolder;
use trainctl_test_servers::Seaweed;

/// Seconds that the store is down; more are asked for with this variable.
const OUTAGE: &str = "TRAINCTL_TEST_OUTAGE_S";
const OUTAGE_S: u64 = 5;

fn outage() -> Duration {
    Duration::from_secs(std::env::var(OUTAGE).ok().and_then(|text| text.parse().ok()).unwrap_or(OUTAGE_S))
}

#[test]
fn a_store_that_is_down_for_a_while_costs_time_only() {
    let mut server = Seaweed::start();
    server.make_bucket("runs");
    let mut environment = server.environment();
    environment.push((ROOT, "s3://runs/tests".to_owned()));

    let saver = Saver::start_child("kill::saver", "down", &environment);
    saver.time_to_commit(3);
    // In the middle of a save: the saver does nothing else.
    server.kill();
    std::thread::sleep(outage());
    server.resume();
    // What was said before may still be in the pipe.
    let mut newest = 0;
    for _ in 0..6 {
        newest = saver.next().expect("saves go on").parse().unwrap();
    }
    newest = newest.max(saver.kill().unwrap_or(newest));

    environment.push(("TRAINCTL_TEST_NEWEST", newest.to_string()));
    let loader = Saver::start_child("down::loader", "down", &environment);
    server.kill();
    std::thread::sleep(outage());
    server.resume();
    assert_eq!(loader.next().as_deref(), Some("done"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child"]
async fn loader() {
    let newest: u64 = std::env::var("TRAINCTL_TEST_NEWEST").expect("started by its parent").parse().unwrap();
    let (tensors, len) = tensors();
    let folder: RunFolder = folder("down");
    assert_eq!(folder.job(), JOB);
    for load in 0..20 {
        if load == 1 {
            report("ready");
        }
        let mut out = vec![0.0; len];
        let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().unwrap();
        let step = loaded.manifest.step;
        assert!(step >= newest && loaded.skipped.is_empty(), "{step}: {:?}", loaded.skipped);
        assert!(values(&tensors, &out) == values(&tensors, &state_at(&tensors, len, step)));
    }
    report("done");
}
