//! Benches that are programs of the crates whose work they measure. Each prints figures as JSON, one a line, and so
//! they are passed on.

use super::Bench;
use crate::{setup, workspace};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A step of one worker against a bare loop of the same model.
pub(crate) fn engine(bench: &mut Bench) -> Result<()> {
    pass_on(bench, &["bench", "--quiet", "-p", "trainer-engine", "--bench", "step", "--"])
}

/// Runs a program and tells the figures that it prints.
pub(super) fn pass_on(bench: &mut Bench, args: &[&str]) -> Result<()> {
    let libtorch = setup::run()?;
    let mut command = workspace::cargo();
    command.args(args).args(["--output", "json"]);
    for line in output(libtorch.apply(&mut command))?.lines() {
        bench.tell(serde_json::from_str(line).with_context(|| format!("read the figure {line}"))?)?;
    }
    Ok(())
}

/// Builds a bench of a package that needs no libtorch, and says where it is: for those that are started often, in turn
/// with others.
pub(super) fn build_bench(package: &str, name: &str) -> Result<PathBuf> {
    build(&["bench", "--no-run", "-p", package, "--bench", name], name)
}

/// The program of that name that a cargo command builds.
pub(super) fn build(args: &[&str], name: &str) -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(args).args(["--message-format", "json"]);
    let messages = output(&mut command)?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let is_it = message["target"]["name"] == name && message["executable"].is_string();
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    built.with_context(|| format!("find the program of `{}`", workspace::shown(&command)))
}

/// What it printed. An error with what it said when it fails.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let shown = workspace::shown(command);
    let output = command.output().with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what `{shown}` printed"))
}
