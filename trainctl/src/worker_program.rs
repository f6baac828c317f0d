//! The worker program, run for what needs libtorch, which this program does without.

use crate::failure::{Class, Failure, Report};
use std::ffi::OsStr;
use std::process::Stdio;

/// Runs it with these arguments and gives its stdout.
///
/// # Errors
/// That it isn't there, or the last line that it wrote to stderr.
pub(crate) async fn run(args: &[&OsStr]) -> Result<Vec<u8>, Failure> {
    let program = coordinator_server::default_worker_program();
    let mut command = tokio::process::Command::new(&program);
    // Its own words are shown here, and nothing but errors.
    command.args(args).env("TRAINCTL_LOG", "error").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        Failure::file("start the worker program", &program, &error)
            .hint("build it with `cargo build -p trainctl-worker`, or name it in TRAINCTL_WORKER")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = match said.split_once("ERROR ") {
        Some((_, error)) => Report::of_text(error.trim()),
        None => Report::of_text(&format!("{} ended with {}: {}", program.display(), output.status, said.trim())),
    };
    Err(Failure { class: Class::Local, reports: vec![said] })
}
