//! `ckpt` straight on a bucket of a real S3 server, and what is said when that isn't there or refuses.

use crate::place::{Place, Ran, told};
use crate::saved;
use std::time::{Duration, Instant};
use trainctl_test_servers::{S3Fault, S3Faults, Seaweed, free_port};

/// People at a terminal wait this long for a store that doesn't answer, and a little for a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct Bucket {
    server: Seaweed,
    place: Place,
}

impl Bucket {
    /// Steps 10 and 20 of the job `points` below `s3://runs/team`.
    fn with_checkpoints() -> Self {
        let server = Seaweed::start();
        server.make_bucket("runs");
        let place = Place::new();
        // In a process of their own: the environment says where the bucket is.
        let saved = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "buckets::saves_where_its_environment_says", "--ignored"])
            .envs(server.environment())
            .env("TEST_ROOT", "s3://runs/team")
            .output()
            .unwrap();
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stdout));
        Self { server, place }
    }

    /// Runs the binary with the server's environment, and `settings` over it.
    fn run(&self, args: &[&str], settings: &[(&str, &str)]) -> Ran {
        let mut command = self.place.command(args);
        command.envs(self.server.environment()).envs(settings.iter().copied());
        let mut ran = self.place.finish(command.output().unwrap());
        ran.stderr = ran.stderr.replace("http://127.0.0.1:[PORT]", "[ENDPOINT]");
        ran
    }
}

#[test]
#[ignore = "run by the other tests, in an environment of theirs"]
fn saves_where_its_environment_says() {
    saved::save(&std::env::var("TEST_ROOT").unwrap(), &[10, 20]);
}

#[test]
fn all_of_it_works_on_a_bucket_and_what_goes_wrong_is_told() {
    let bucket = Bucket::with_checkpoints();
    let run = "s3://runs/team/points";

    let listed = bucket.run(&["ckpt", "ls", run], &[]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""), "{}", listed.stderr);
    assert!(listed.stdout.contains("every 20 steps"), "{}", listed.stdout);
    insta::assert_snapshot!("show_in_a_bucket", told(&bucket.run(&["ckpt", "show", run], &[])));
    insta::assert_snapshot!("diff_in_a_bucket", told(&bucket.run(&["ckpt", "diff", &format!("{run}@10"), run], &[])));
    assert_eq!(bucket.run(&["ckpt", "verify", run], &[]).code, 0);
    insta::assert_snapshot!("pull_from_a_bucket", told(&bucket.run(&["ckpt", "pull", run, "weights"], &[])));
    assert_eq!(bucket.run(&["ckpt", "export", run, "model.safetensors"], &[]).code, 0);
    assert!(bucket.place.path("model.safetensors").exists() && bucket.place.path("weights/manifest.json").exists());

    let told_of = |name: &str, ran: &Ran| insta::assert_snapshot!(name.to_owned(), told(ran));
    told_of("no_bucket", &bucket.run(&["ckpt", "ls", "s3://others/team/points"], &[]));
    told_of("nothing_there", &bucket.run(&["ckpt", "show", "s3://runs/team/pints"], &[]));
    told_of("no_record", &bucket.run(&["reproduce", run], &[]));
    told_of("whole_bucket", &bucket.run(&["ckpt", "ls", "s3://runs"], &[]));
    told_of("wrong_key", &bucket.run(&["ckpt", "ls", run], &[("AWS_ACCESS_KEY_ID", "AKIANOBODY")]));
    told_of("wrong_secret", &bucket.run(&["ckpt", "ls", run], &[("AWS_SECRET_ACCESS_KEY", "guessed")]));

    let dead = format!("http://127.0.0.1:{}", free_port());
    let began = Instant::now();
    let ran = bucket.run(&["ckpt", "ls", run], &[("AWS_ENDPOINT_URL_S3", dead.as_str())]);
    told_of("dead_endpoint", &ran);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    told_of("endpoint_that_is_none", &bucket.run(&["ckpt", "ls", run], &[("AWS_ENDPOINT_URL_S3", "localhost:9000")]));

    insta::assert_snapshot!("prune_in_a_bucket", told(&bucket.run(&["ckpt", "prune", run, "--keep-last", "1"], &[])));
    assert_eq!(bucket.run(&["ckpt", "verify", run], &[]).code, 0);
}

#[test]
fn a_scheme_that_is_none() {
    insta::assert_snapshot!(told(&Place::new().run(&["ckpt", "ls", "gcs://bucket/runs/points"])));
}

#[test]
fn a_store_without_conditional_writes_is_refused_before_there_is_a_job() {
    let server = Seaweed::start();
    server.make_bucket("runs");
    let faults = S3Faults::before(&server.endpoint());
    let place = Place::new();
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/digits.toml");
    for (fault, found) in [
        (S3Fault::NoConditions, "found one that refuses it: A header you provided implies functionality"),
        (S3Fault::IgnoresConditions, "found one that replaces the object (s3://runs/team)"),
    ] {
        faults.set(&[fault]);
        let mut command = place.command(&["submit", job, "--set", "checkpoint.root=\"s3://runs/team\""]);
        command.envs(server.environment()).env("AWS_ENDPOINT_URL_S3", faults.endpoint());
        let ran = place.finish(command.output().unwrap());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("checkpoint.root: expected a store that can create an object only if"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(found) && ran.stderr.contains("hint: save to another store"), "{}", ran.stderr);
    }
}
