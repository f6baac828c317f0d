//! `cargo xtask test`: everything, with nextest where it is installed.

use crate::workspace::CLOUDS;
use crate::{setup, workspace};
use anyhow::Result;
use clap::Args;
use std::process::Stdio;

#[derive(Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// For the test runner, after `--`
    #[arg(last = true)]
    passed_on: Vec<String>,
}

/// Sets up, builds the programs that end-to-end tests start, and runs the tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    let libtorch = setup::run()?;
    setup::for_tests()?;
    // With the tests: what these add to their dependencies' features would have the largest of them built again.
    let build = ["build", "--workspace", "--bins", "--tests", CLOUDS];
    workspace::run(libtorch.apply(workspace::cargo().args(build)))?;

    let nextest = has_nextest();
    // nextest leaves the examples in the documentation out.
    if nextest && options.filter.is_none() {
        workspace::run(libtorch.apply(workspace::cargo().args(["test", "--workspace", "--doc", "--quiet", CLOUDS])))?;
    }
    let mut command = workspace::cargo();
    command.args(if nextest { &["nextest", "run"][..] } else { &["test"][..] });
    command.args(["--no-fail-fast", "--workspace", CLOUDS]).args(&options.filter);
    if !options.passed_on.is_empty() {
        command.arg("--").args(&options.passed_on);
    }
    workspace::run(libtorch.apply(&mut command))?;
    Ok(())
}

fn has_nextest() -> bool {
    let mut command = workspace::cargo();
    command.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
