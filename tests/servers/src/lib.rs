//! Real servers for tests: started on free ports of the loopback interface, ended with the value that stands for
//! them. Their programs are what `cargo xtask setup --tests` brought (`cargo xtask test` does so by itself).

mod fake_gcs;
mod process;
mod python;
mod seaweed;

pub use fake_gcs::FakeGcs;
pub use process::free_port;
pub use python::python;
pub use seaweed::Seaweed;

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
