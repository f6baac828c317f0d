//! A process finds a library where LD_LIBRARY_PATH says at its start, so a test that loads one runs in a process of its
//! own.

use std::path::Path;
use std::process::{Command, Output};

/// Set in a process that was started again.
const AGAIN: &str = "TRAINER_NCCL_TEST_AGAIN";

/// Whether this is the process in which the test is to run.
pub(crate) fn here() -> bool {
    std::env::var_os(AGAIN).is_some()
}

/// Runs this test in a process that looks for libraries in that folder, and checks that it passes there.
pub(crate) fn run(test: &str, libraries: Option<&Path>, settings: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(AGAIN, "1").env("NCCL_SOCKET_IFNAME", "lo");
    command.env_remove("LD_LIBRARY_PATH").envs(settings.iter().copied());
    if let Some(folder) = libraries {
        command.env("LD_LIBRARY_PATH", folder);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success() && text(&stdout).contains("1 passed"), "{}{}", text(&stdout), text(&stderr));
}
