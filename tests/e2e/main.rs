//! The real programs, from submission to the final weights, whatever happens on the way.
#![allow(missing_docs)]

mod audits;
mod coordinator;
mod corruption;
mod cost;
mod data;
mod exact;
mod fast;
mod faults;
mod freeze;
mod gpus;
mod joining;
mod links;
mod loading;
mod local;
mod modules;
mod pools;
mod reproduce;
mod saving;
mod storage;
mod tls;
mod trace;
mod uneven;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use trainctl_tests::{Cluster, Job, Options};

/// A quick spot pool: short notice, and capacity that comes back at once.
pub(crate) const QUICK: &str = "[pools.local-spot]\nkind = \"local\"\nspot = true\ncapacity = 8\nnotice = \"5s\"\n\
                                capacity_returns_after = \"100ms\"\n";

pub(crate) fn options(environment: &[(&str, &str)]) -> Options {
    let own = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
    Options { pools: QUICK.to_owned(), environment: environment.iter().map(own).collect() }
}

/// A cluster whose second worker's libtorch is told to use plain kernels: really different bits.
pub(crate) fn mixed() -> Cluster {
    with_another(&[], "ATEN_CPU_CAPABILITY=default")
}

/// A cluster whose second worker has something else in its environment.
pub(crate) fn with_another(environment: &[(&str, &str)], of_second: &str) -> Cluster {
    let mut cluster = Cluster::prepare(options(environment));
    let wrapper = cluster.folder().join("mixed-worker");
    let worker = trainctl_tests::program("trainctl-worker");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'--worker w2 '*) export {of_second};; esac\nexec {} \"$@\"\n",
        worker.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::process::Command::new("chmod").arg("+x").arg(&wrapper).status().unwrap();
    cluster.set_environment("TRAINCTL_WORKER", &wrapper.to_string_lossy());
    cluster.start();
    cluster
}

/// What one undisturbed worker makes of the usual job in so many steps: the digest that all others must reach.
pub(crate) fn undisturbed(steps: u64) -> String {
    static DIGESTS: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());
    let mut digests = DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let compute = || {
        let cluster = Cluster::up(options(&[]));
        let mut job = Job::convnet("alone", &cluster.folder().join("runs"));
        job.workers = (1, 1);
        job.steps = steps;
        cluster.submit(&job.toml());
        digest(&cluster.wait_for_success("alone"))
    };
    digests.entry(steps).or_insert_with(compute).clone()
}

pub(crate) fn digest(status: &serde_json::Value) -> String {
    let digest = status["state_digest"].as_str().unwrap_or_default();
    assert!(digest.starts_with("blake3:"), "{status:#}");
    digest.to_owned()
}
