//! Benches that are programs of the crates whose work they measure. Each prints figures as JSON, one a line, and so
//! they are passed on.

use super::Bench;
use crate::{setup, workspace};
use anyhow::{Context, Result, bail};

/// A step of one worker against a bare loop of the same model.
pub(crate) fn engine(bench: &mut Bench<'_>) -> Result<()> {
    pass_on(bench, &["bench", "--quiet", "-p", "trainer-engine", "--bench", "step", "--"])
}

/// What a checkpoint of a 100 MB state costs.
pub(crate) fn checkpoint(bench: &mut Bench<'_>) -> Result<()> {
    pass_on(bench, &["run", "--quiet", "--release", "-p", "trainctl-checkpoint", "--example", "save_stall", "--"])
}

fn pass_on(bench: &mut Bench<'_>, args: &[&str]) -> Result<()> {
    let libtorch = setup::run()?;
    let mut command = workspace::cargo();
    command.args(args).args(["--output", "json"]);
    let output = libtorch.apply(&mut command).output().context("start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed:\n{}", workspace::shown(&command), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        bench.tell(serde_json::from_str(line).with_context(|| format!("read the figure {line}"))?)?;
    }
    Ok(())
}
