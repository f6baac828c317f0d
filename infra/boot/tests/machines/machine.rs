//! A machine as these tests have one.

use coordinator_core::{InstanceId, WorkerId};
use std::path::PathBuf;
use trainctl_boot::{Boot, Notices};

/// The files that go to machines.
pub(crate) fn vm() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vm")
}

/// One of EC2.
pub(crate) fn boot() -> Boot {
    Boot {
        cluster: "c0123456789abcdef".to_owned(),
        instance: InstanceId::from("i7"),
        worker: WorkerId::from("w7"),
        coordinator_url: "https://10.20.0.10:7070".to_owned(),
        certificate: Some("MIIBcertificate+of/the+coordinator==".to_owned()),
        join_token: "worker:i7:secret-of-i7".to_owned(),
        bundle_uri: "s3://example-trainctl/bundles/trainctl-0.1.0-linux-x86_64.tar.zst".to_owned(),
        bundle_digest: format!("sha256:{}", "0".repeat(64)),
        notices: Notices::Ec2,
        orphan_minutes: 60,
    }
}

/// A Python with these packages. `None`, said, where there is none.
pub(crate) fn python(packages: &[&str]) -> Option<PathBuf> {
    let venvs = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    trainctl_test_servers::python(&venvs, packages).inspect_err(|why| eprintln!("SKIPPED: {why}")).ok()
}
