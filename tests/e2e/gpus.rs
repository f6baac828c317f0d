//! Gradients that stay on the workers' GPUs, with the processor in the GPUs' place and the mesh in NCCL's: the same bits,
//! whatever happens to the workers, and a group in which one has no GPU does without.

use crate::faults::run_in;
use crate::{digest, options, undisturbed, with_another};
use serde_json::{Value, json};
use trainctl_tests::{Cluster, Job};

const AS_GPU: (&str, &str) = ("TRAINCTL_DEVICE", "cpu-as-gpu");
const STAY: &str = "gradients stay on the GPUs";

fn over_nccl(job: &mut Job) {
    job.resources = "backend = \"nccl\"\nencryption = \"never\"".to_owned();
}

/// Runs the usual job so, with workers that die as `fail_at` says: its last status, and what all wrote.
fn run(name: &str, fail_at: &str, change: impl FnOnce(&mut Job)) -> (Value, String) {
    let cluster = Cluster::up(options(&[AS_GPU, ("TRAINCTL_FAIL_AT", fail_at)]));
    let status = run_in(&cluster, name, fail_at, |job| {
        over_nccl(job);
        change(job);
    });
    let report = cluster.report(name);
    assert!(!report.contains("gradients go over TCP"), "{report}");
    assert!(!report.contains("can't use NCCL"), "{report}");
    (status, report)
}

#[test]
fn they_give_the_same_bits() {
    let (_, report) = run("as-gpu", "", |job| job.workers = (3, 3));
    assert_eq!(report.matches(STAY).count(), 3, "each worker, once: {report}");
}

#[test]
fn a_death_at_every_phase_of_a_step() {
    for phase in ["compute", "reduce", "gather", "apply", "evaluate"] {
        let (status, _) = run(&format!("as-gpu-{phase}"), &format!("w2@25:{phase}"), |job| job.workers = (3, 3));
        assert!(status["steps_repeated"].as_u64() <= Some(1), "{phase}: {status:#}");
    }
}

#[test]
fn several_deaths_and_as_many_joiners() {
    let (_, report) = run("as-gpu-several", "w1@5:gather,w2@11:reduce,w3@23:compute,w5@31:apply", |job| {
        job.workers = (1, 4);
        job.steps = 500;
    });
    assert!(report.matches(STAY).count() > 4, "{report}");
}

#[test]
fn one_with_notice_goes_and_one_without_a_gpu_comes_and_goes() {
    // w2 computes on the processor: as long as it is there, all sums go as between hosts.
    let cluster = with_another(&[AS_GPU], "TRAINCTL_DEVICE=cpu");
    let mut job = Job::convnet("without", &cluster.folder().join("runs"));
    over_nccl(&mut job);
    job.workers = (3, 3);
    job.steps = 500;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("without", 10);
    let before = cluster.report("without");
    assert!(before.contains("gradients go over TCP: w2 has no NCCL that works"), "{before}");
    assert!(
        before.contains("gradients go over TCP: no CUDA device 0: this worker computes on the processor"),
        "{before}"
    );
    assert!(!before.contains(STAY), "{before}");
    let told = cluster.wait_for("without", "unable to use NCCL", |status| status["nccl_failures"] != json!([]));
    assert_eq!(told["nccl_failures"][0]["worker"], "w2", "{told:#}");
    let _ = cluster.json(&["worker", "evict", "w2", "--notice", "5"]);
    let _ = cluster.wait_for("without", "on NCCL", |status| status["nccl_failures"] == json!([]));
    let status = cluster.wait_for_success("without");
    let report = cluster.report("without");
    assert_eq!(digest(&status), undisturbed(500), "{report}");
    assert_eq!(status["steps_repeated"], 0, "{status:#}\n{report}");
    assert!(report.contains(STAY), "{report}");
    assert_eq!(report.matches("exchange gradients over TCP while w2 is a member").count(), 1, "{report}");
    assert!(report.contains("w2 can't use NCCL: no CUDA device 0: this worker computes on the processor"), "{report}");
}
