//! The worker program, run for what needs libtorch, which this program does without.

use crate::failure::{Class, Failure, Report};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// What came of asking it.
pub(crate) enum Answer<T> {
    /// Its answer.
    Json(T),
    /// It isn't there.
    NoProgram(PathBuf),
}

/// Runs it with these arguments and gives its stdout.
///
/// # Errors
/// That it isn't there, or the last line that it wrote to stderr.
pub(crate) async fn run(args: &[&OsStr]) -> Result<Vec<u8>, Failure> {
    let program = coordinator_server::default_worker_program();
    let output = output(&program, args).await.map_err(|error| not_started(&program, &error))?;
    if output.status.success() { Ok(output.stdout) } else { Err(ended(&program, &output)) }
}

/// Runs it with these arguments and reads the JSON that it prints, whatever its exit code.
///
/// # Errors
/// That it can't be started, or the last line that it wrote to stderr in place of an answer.
pub(crate) async fn ask<T: DeserializeOwned>(args: &[&OsStr]) -> Result<Answer<T>, Failure> {
    let program = coordinator_server::default_worker_program();
    let output = match output(&program, args).await {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Answer::NoProgram(program)),
        Err(error) => return Err(not_started(&program, &error)),
    };
    match serde_json::from_slice(&output.stdout) {
        Ok(answer) => Ok(Answer::Json(answer)),
        Err(error) if output.status.success() => {
            let message = format!("{}: expected an answer in JSON: {error}", program.display());
            Err(Failure::new(Class::Local, message).hint("trainctl and trainctl-worker must be of one version"))
        }
        Err(_) => Err(ended(&program, &output)),
    }
}

async fn output(program: &Path, args: &[&OsStr]) -> io::Result<Output> {
    let mut command = tokio::process::Command::new(program);
    // Its own words are shown here, and nothing but errors.
    command.args(args).env("TRAINCTL_LOG", "error").stdin(Stdio::null()).kill_on_drop(true);
    command.output().await
}

fn not_started(program: &Path, error: &io::Error) -> Failure {
    Failure::file("start the worker program", program, error)
        .hint("build it with `cargo build -p trainctl-worker`, or name it in TRAINCTL_WORKER")
}

fn ended(program: &Path, output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = match said.split_once("ERROR ") {
        Some((_, error)) => Report::of_text(error.trim()),
        None => {
            let words = said.trim();
            let separator = if words.is_empty() { "" } else { ": " };
            Report::of_text(&format!("{} ended with {}{separator}{words}", program.display(), output.status))
        }
    };
    Failure { class: Class::Local, reports: vec![said] }
}
