//! Real servers for tests: started on free ports of the loopback interface, ended with the value that stands for
//! them. Programs of others are what `cargo xtask setup --tests` brought (`cargo xtask test` does so by itself); where
//! there is none, a server of our own runs inside the test's process.

mod ec2_metadata;
mod fake_gcs;
mod gce;
mod moto;
mod process;
mod python;
mod s3_faults;
mod seaweed;
mod web;

pub use ec2_metadata::Ec2Metadata;
pub use fake_gcs::FakeGcs;
pub use gce::{Boot, Booted, FakeGce, Fault, GceMetadata, How};
pub use moto::{Moto, MotoInstance, Network};
pub use process::free_port;
pub use python::python;
pub use s3_faults::{S3Fault, S3Faults};
pub use seaweed::Seaweed;
pub use web::Misbehaviour;

use std::path::{Path, PathBuf};

/// The program of a server.
///
/// # Panics
/// When it was not brought.
fn program(pack: &str, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(format!(".{pack}")).join("bin").join(name);
    assert!(path.exists(), "{} isn't there; hint: cargo xtask setup --tests", path.display());
    path
}
