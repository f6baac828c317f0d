//! The real dvc, for the tests that compare what it pushes with what they know of it: a Python environment of its own
//! in the cache. Where it can't be had, these tests say that they are skipped.

use crate::{screen, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;

const VERSION: &str = "3.67.1";

/// Has it in the cache and a link to it in the checkout.
pub(super) fn bring() -> Result<()> {
    let folder = workspace::cache_folder()?.join("dvc").join(VERSION);
    // Written last: an environment can't be made elsewhere and moved.
    let whole = folder.join("whole");
    if !whole.exists() {
        screen::note(&format!("dvc {VERSION} for its tests comes once, into {}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status();
        let install = || {
            let mut pip = Command::new(folder.join("bin/pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check", &format!("dvc=={VERSION}")]).status()
        };
        let done = made.is_ok_and(|status| status.success()) && install().is_ok_and(|status| status.success());
        if !done {
            screen::note("dvc can't be had here: its tests will say that they are skipped");
            return Ok(());
        }
        fs::write(&whole, "").with_context(|| format!("write {}", whole.display()))?;
    }
    super::point(&workspace::root().join(".dvc-of-tests"), &folder)
}
