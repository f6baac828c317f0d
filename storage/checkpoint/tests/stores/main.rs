//! Faults of the real world, each on a folder and on SeaweedFS: processes killed at any moment, a store that is down,
//! objects damaged or removed behind our back, groups that save at once, clocks that are wrong. Never may a manifest
//! point at what isn't there, a wrong value be loaded, or the newest checkpoint be lost.
//!
//! The tests proper are ignored ones: they run in a child process, whose environment names the store.

mod broken;
mod damage;
mod down;
mod groups;
mod kill;
mod many;
#[path = "../it/states.rs"]
mod support;
mod unchanged;

use std::process::Command;
use trainctl_checkpoint::RunFolder;
use trainctl_test_servers::Seaweed;

/// Names the store that a child is to use.
const ROOT: &str = "TRAINCTL_TEST_STORE";

#[test]
fn on_a_folder() {
    let root = tempfile::tempdir().unwrap();
    run_all(root.path().to_str().unwrap(), &[]);
}

#[test]
fn in_a_bucket() {
    let server = Seaweed::start();
    server.make_bucket("runs");
    run_all("s3://runs/tests", &server.environment());
}

fn run_all(root: &str, environment: &[(&'static str, String)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "each_store_", "--test-threads=1"]).env(ROOT, root).envs(environment.iter().cloned());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && !text.contains(" 0 passed"), "{root}: {}\n{text}", output.status);
}

/// The store's root for one test.
fn root(test: &str) -> String {
    format!("{}/{test}", std::env::var(ROOT).expect("started by its parent"))
}

/// The run's folder of one test.
fn folder(test: &str) -> RunFolder {
    RunFolder::open(&root(test), support::JOB).unwrap()
}

/// Numbers that look random, the same in each run.
#[derive(Clone, Debug)]
struct Seeded(u64);

impl Seeded {
    /// A number from 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
