//! The scripts that machines run, run: against a bucket that checks signatures, with the metadata services that a
//! machine would ask.

use crate::machine::vm;
use crate::metadata::Metadata;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use tempfile::TempDir;
use trainctl_test_servers::{FakeGcs, Seaweed, free_port};

const KEY: &str = "bundles/trainctl-0.1.0.tar";

/// A folder for what would lie in `/run` and `/opt`.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("make a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the script with these variables and no others.
    fn boot(&self, verb: &str, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut command = Command::new("bash");
        command.arg(vm().join("boot.sh")).arg(verb).env_clear().env("PATH", path);
        command.env("TRAINCTL_RUN_FOLDER", self.path("run")).env("TRAINCTL_OPT_FOLDER", self.path("opt"));
        command.envs(variables.iter().copied()).output().expect("run bash")
    }

    /// Stands for systemd: notes what it is asked for.
    fn note_systemctl(&self) {
        let bin = self.path("bin");
        std::fs::create_dir_all(&bin).expect("make a folder");
        let script = format!("#!/bin/sh\necho \"$@\" >> {}\n", self.path("asked").display());
        std::fs::write(bin.join("systemctl"), script).expect("write a script");
        let made = Command::new("chmod").arg("+x").arg(bin.join("systemctl")).status();
        assert!(made.is_ok_and(|status| status.success()));
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.path("asked")).unwrap_or_default()
    }
}

/// A bundle with one program, not compressed, and its digest. Being text, any door of a bucket takes it.
fn bundle(folder: &Path) -> (String, String) {
    let bin = folder.join("trainctl-0.1.0/bin");
    std::fs::create_dir_all(&bin).expect("make a folder");
    std::fs::write(bin.join("trainctl-worker"), "#!/bin/sh\n").expect("write a program");
    let path = folder.join("bundle.tar");
    let packed = Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&path).arg("trainctl-0.1.0").status();
    assert!(packed.is_ok_and(|status| status.success()));
    let said = Command::new("sha256sum").arg(&path).output().expect("run sha256sum").stdout;
    let digest = String::from_utf8_lossy(&said).split(' ').next().unwrap_or_default().to_owned();
    (std::fs::read_to_string(path).expect("a tar of text"), format!("sha256:{digest}"))
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A bucket of S3's protocol that checks signatures, with the bundle in it, and a metadata service with its keys.
struct Aws {
    bucket: Seaweed,
    metadata: Metadata,
    uri: String,
}

impl Aws {
    fn with(bundle: &str) -> Self {
        let bucket = Seaweed::start();
        bucket.make_bucket("example");
        bucket.put_text("example", KEY, bundle);
        let environment = bucket.environment();
        let of = |name: &str| environment.iter().find(|(key, _)| *key == name).expect("a variable").1.clone();
        let metadata = Metadata::ec2(&of("AWS_ACCESS_KEY_ID"), &of("AWS_SECRET_ACCESS_KEY"));
        Self { bucket, metadata, uri: format!("s3://example/{KEY}") }
    }

    fn fetch(&self, machine: &Machine, digest: &str) -> Output {
        let variables = [
            ("TRAINCTL_NOTICES", "ec2"),
            ("TRAINCTL_BUNDLE_URI", &self.uri),
            ("TRAINCTL_BUNDLE_DIGEST", digest),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.metadata.endpoint()),
            ("AWS_ENDPOINT_URL_S3", &self.bucket.endpoint()),
        ];
        machine.boot("fetch", &variables)
    }
}

#[test]
fn from_s3_with_the_role_of_the_machine() {
    let machine = Machine::new();
    let (text, digest) = bundle(machine.folder.path());
    let mut aws = Aws::with(&text);
    let output = aws.fetch(&machine, &digest);
    assert!(output.status.success(), "{}", told(&output));
    assert!(machine.path("opt/current/bin/trainctl-worker").exists());
    assert!(!machine.path("opt/bundle").exists());
    let found = std::fs::read_to_string(machine.path("run/found.env")).expect("what it found");
    assert_eq!(found, "TRAINCTL_ADDRESS=\"10.20.1.7\"\nAWS_REGION=\"us-east-1\"\n");

    // It is there already: nobody is asked for it again.
    aws.bucket.kill();
    let output = aws.fetch(&machine, &digest);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn from_a_bucket_in_another_region_than_the_machine() {
    let machine = Machine::new();
    let (text, digest) = bundle(machine.folder.path());
    let (asked, signatures) = mpsc::channel();
    let bucket = Metadata::bucket("eu-central-1", &text, asked);
    let metadata = Metadata::ec2("AKIATEST", "secret");
    let variables = [
        ("TRAINCTL_NOTICES", "ec2"),
        ("TRAINCTL_BUNDLE_URI", &format!("s3://example/{KEY}")),
        ("TRAINCTL_BUNDLE_DIGEST", &digest),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint()),
        ("AWS_ENDPOINT_URL_S3", bucket.endpoint()),
    ];
    let output = machine.boot("fetch", &variables);
    assert!(output.status.success(), "{}", told(&output));
    let signatures: Vec<String> = signatures.try_iter().collect();
    assert_eq!(signatures[0], "HEAD ", "where it lies is asked without keys");
    assert!(signatures[1].contains("/eu-central-1/s3/"), "{signatures:?}");
    let found = std::fs::read_to_string(machine.path("run/found.env")).expect("what it found");
    assert_eq!(found, "TRAINCTL_ADDRESS=\"10.20.1.7\"\nAWS_REGION=\"eu-central-1\"\n");
}

#[test]
fn another_bundle_than_the_promised_one_is_not_unpacked() {
    let machine = Machine::new();
    let (text, digest) = bundle(machine.folder.path());
    let other = format!("sha256:{}", "0".repeat(64));
    let output = Aws::with(&text).fetch(&machine, &other);
    assert!(!output.status.success());
    let said = told(&output);
    assert!(said.contains(&format!("expected {}, found {}", &other[7..], &digest[7..])), "{said}");
    assert!(!machine.path("opt/current").exists());
}

#[test]
fn from_gcs_with_the_account_of_the_machine() {
    let machine = Machine::new();
    let (_, digest) = bundle(machine.folder.path());
    let server = FakeGcs::start();
    server.make_bucket("example");
    let upload = format!("{}/upload/storage/v1/b/example/o?uploadType=media&name={KEY}", server.endpoint());
    let file = format!("@{}", machine.path("bundle.tar").display());
    let put = Command::new("curl").args(["--fail", "--silent", "--data-binary", &file, &upload]).output();
    assert!(put.is_ok_and(|output| output.status.success()));
    let metadata = Metadata::gce();
    let endpoint = server.endpoint();
    let uri = format!("gs://example/{KEY}");
    let variables = [
        ("TRAINCTL_NOTICES", "gce"),
        ("TRAINCTL_BUNDLE_URI", uri.as_str()),
        ("TRAINCTL_BUNDLE_DIGEST", &digest),
        ("GCE_METADATA_HOST", metadata.host()),
        ("STORAGE_EMULATOR_HOST", &endpoint),
    ];
    let output = machine.boot("fetch", &variables);
    assert!(output.status.success(), "{}", told(&output));
    assert!(machine.path("opt/current/bin/trainctl-worker").exists());
    let found = std::fs::read_to_string(machine.path("run/found.env")).expect("what it found");
    assert_eq!(found, "TRAINCTL_ADDRESS=\"10.30.1.7\"\n");
}

#[test]
fn a_machine_without_a_coordinator_ends_itself() {
    let machine = Machine::new();
    machine.note_systemctl();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    let answering = format!("http://{}", listener.local_addr().expect("an address"));
    let silent = format!("http://127.0.0.1:{}", free_port());
    let watch = |url: &str, minutes: &str| {
        let output = machine.boot("watch", &[("TRAINCTL_COORDINATOR_URL", url), ("TRAINCTL_ORPHAN_MINUTES", minutes)]);
        assert!(output.status.success(), "{}", told(&output));
    };
    // The first look starts the clock.
    watch(&silent, "1");
    assert_eq!(machine.asked(), "");
    // Long ago: when the machine started.
    std::fs::write(machine.path("run/heard"), "-60").expect("write");
    watch(&silent, "100000000");
    assert_eq!(machine.asked(), "");
    watch(&answering, "1");
    watch(&silent, "1");
    assert_eq!(machine.asked(), "", "it was heard a moment ago");
    std::fs::write(machine.path("run/heard"), "-60").expect("write");
    watch(&silent, "1");
    assert_eq!(machine.asked(), "stop trainctl-worker.service\n--no-block poweroff\n");
}

#[test]
fn what_it_is_not_told_it_does_not_do() {
    let machine = Machine::new();
    let output = machine.boot("fetch", &[("TRAINCTL_BUNDLE_DIGEST", "sha256:0"), ("TRAINCTL_NOTICES", "azure")]);
    assert!(!output.status.success());
    assert!(told(&output).contains("TRAINCTL_NOTICES: expected ec2 or gce, found azure"), "{}", told(&output));
    let output = machine.boot("", &[]);
    assert!(told(&output).contains("expected fetch or watch, found nothing"), "{}", told(&output));
}

#[test]
fn records_without_their_disk_are_not_begun_elsewhere() {
    let machine = Machine::new();
    let output = Command::new("bash")
        .arg(vm().join("records.sh"))
        .env("TRAINCTL_RECORDS_DEVICE", machine.path("disk"))
        .env("TRAINCTL_RECORDS_FOLDER", machine.path("records"))
        .env("TRAINCTL_RECORDS_PATIENCE_S", "0")
        .output()
        .expect("run bash");
    assert!(!output.status.success());
    assert!(told(&output).contains("expected a disk for the records, found none within 0 s"), "{}", told(&output));
    assert!(!machine.path("records").exists());
}
