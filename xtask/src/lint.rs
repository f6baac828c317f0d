//! `cargo xtask lint`: format, lints, and documents that are made from code.

use crate::{screen, setup, workspace};
use anyhow::{Context, Result, bail};
use std::fs;

/// A document in the repository, and the cargo command that writes it.
struct Document {
    path: &'static str,
    command: &'static [&'static str],
}

const DOCUMENTS: &[Document] = &[Document {
    path: "docs/JOB_SPEC.md",
    command: &["run", "--quiet", "-p", "trainctl-jobs", "--example", "reference"],
}];

/// All checks, in the order of what they cost.
pub(crate) fn run() -> Result<()> {
    let libtorch = setup::run()?;
    let mut format = workspace::cargo();
    workspace::run(format.args(["fmt", "--all", "--check"]))
        .context("check the format\nhint: run `cargo fmt --all`")?;
    let stale = write_anew()?;
    if !stale.is_empty() {
        bail!("not what the code says, written anew: {}\nhint: look at the change and keep it", stale.join(", "));
    }
    let mut clippy = workspace::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", workspace::CLOUDS, "--", "-D", "warnings"]);
    workspace::run(libtorch.apply(&mut clippy))
}

/// Writes each document anew and names those that changed.
pub(crate) fn write_documents() -> Result<()> {
    write_anew()?.into_iter().for_each(screen::say);
    Ok(())
}

fn write_anew() -> Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    for document in DOCUMENTS {
        let path = workspace::root().join(document.path);
        let before = fs::read(&path).ok();
        workspace::run(workspace::cargo().args(document.command))?;
        let now = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if before.as_ref() != Some(&now) {
            changed.push(document.path);
        }
    }
    Ok(changed)
}
