//! The control plane over TLS: workers and machines find the coordinator by its certificate, and nobody else gets in.

use crate::pools::{Machine, joining, wait_for_lab};
use crate::{digest, options, undisturbed};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;
use trainctl_tests::{Cluster, Job, Options};

fn encrypted(options: Options) -> Cluster {
    let mut cluster = Cluster::prepare(options);
    cluster.encrypt();
    cluster.start();
    cluster
}

fn certificate(cluster: &Cluster) -> String {
    let text = std::fs::read_to_string(cluster.home().join("token")).unwrap();
    text[text.find("-----BEGIN CERTIFICATE-----").unwrap()..].to_owned()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_job_trains_to_its_end_and_a_coordinator_that_was_killed_comes_back_as_itself() {
    let mut cluster = encrypted(options(&[]));
    assert!(cluster.url().starts_with("https://127.0.0.1:"), "{}", cluster.url());
    let key = std::fs::metadata(cluster.home().join("identity.pem")).unwrap().permissions().mode();
    assert_eq!(key & 0o777, 0o600);
    let before = certificate(&cluster);
    cluster.keep_address();
    let mut job = Job::convnet("sealed", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    job.steps = 400;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("sealed", 20);
    let pids = cluster.worker_pids("sealed");
    cluster.kill_coordinator();
    cluster.start();
    let _ = cluster.wait_for("sealed", "attached again", |s| s["world_size"] == 2 && s["step"].as_u64() > Some(20));
    assert_eq!(cluster.worker_pids("sealed"), pids, "{}", cluster.report("sealed"));
    let status = cluster.wait_for_success("sealed");
    assert_eq!(digest(&status), undisturbed(400), "{}", cluster.report("sealed"));
    assert_eq!((&status["steps_repeated"], &status["evictions"]), (&0.into(), &0.into()), "{status:#}");
    assert_eq!(certificate(&cluster), before);
}

#[test]
fn machines_join_with_the_certificate_and_are_told_what_is_wrong_without() {
    let pools = "[pools.lab]\nkind = \"static\"\n".to_owned();
    let cluster = encrypted(Options { pools: pools.clone(), environment: Vec::new() });
    let machine = Machine::join(&cluster);
    wait_for_lab(&cluster, (1, 0));

    let missing = joining(&cluster).env_remove("TRAINCTL_CERTIFICATE").output().unwrap();
    let said = told(&missing);
    assert!(
        !missing.status.success() && said.contains("expected the certificate of the coordinator at https"),
        "{said}"
    );
    assert!(said.contains("hint: `trainctl pool token POOL` prints it"), "{said}");
    let broken = joining(&cluster).env("TRAINCTL_CERTIFICATE", "no certificate").output().unwrap();
    let said = told(&broken);
    assert!(said.contains("TRAINCTL_CERTIFICATE: expected a certificate in PEM, found text that is none"), "{said}");
    let other = encrypted(Options { pools, environment: Vec::new() });
    let wrong = joining(&cluster).env("TRAINCTL_CERTIFICATE", certificate(&other)).output().unwrap();
    let said = told(&wrong);
    assert!(said.contains("expected the one whose certificate was given, found another\nhint: "), "{said}");
    // PEM as it stands in a file does as well.
    let again = joining(&cluster).env("TRAINCTL_CERTIFICATE", certificate(&cluster)).spawn().unwrap();
    wait_for_lab(&cluster, (2, 0));
    trainctl_tests::kill(again.id(), rustix::process::Signal::TERM);
    assert!(again.wait_with_output().unwrap().status.success());
    drop(machine);
}

#[test]
fn a_command_from_elsewhere_gets_in_with_the_right_certificate_only() {
    let cluster = encrypted(options(&[]));
    let other = encrypted(options(&[]));
    let files = tempfile::tempdir().unwrap();
    let url = cluster.url();
    let list = |text: &str| {
        let path = files.path().join("token");
        std::fs::write(&path, text).unwrap();
        let home = files.path().join("home");
        let mut command = cluster.command(&["ls", "--coordinator", &url, "--home"]);
        command.arg(home).arg("--token-file").arg(path).output().unwrap()
    };
    let token = std::fs::read_to_string(cluster.home().join("token")).unwrap();
    let right = list(&token);
    assert!(right.status.success(), "{}", told(&right));
    let alone = list(token.lines().next().unwrap());
    assert_eq!(alone.status.code(), Some(2), "{}", told(&alone));
    assert!(told(&alone).contains("expected the certificate of the coordinator at https"), "{}", told(&alone));
    let wrong = list(&format!("{}\n{}", token.lines().next().unwrap(), certificate(&other)));
    assert_eq!(wrong.status.code(), Some(4), "{}", told(&wrong));
    assert!(told(&wrong).contains("found another"), "{}", told(&wrong));
}

#[test]
fn who_speaks_no_tls_is_refused() {
    let cluster = encrypted(options(&[]));
    let mut stream = TcpStream::connect(cluster.url().strip_prefix("https://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    // It may be cut off before all was read, which some systems tell as a reset.
    let _ = stream.read_to_end(&mut answer);
    // An alert, and nothing of HTTP/2.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert!(answer.len() <= 7, "{answer:?}");
}
