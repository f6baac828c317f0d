//! moto, which tests use as EC2: a Python environment in the cache, of exactly the wheels that
//! `tests/servers/python/requirements.txt` names with their digests.

use crate::{screen, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Command;

const REQUIREMENTS: &str = "tests/servers/python/requirements.txt";

/// Has it in the cache and a link to it in the checkout.
pub(super) fn bring() -> Result<()> {
    let path = workspace::root().join(REQUIREMENTS);
    let wanted = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let version = wanted.lines().find_map(|line| line.strip_prefix("moto==")?.split(' ').next());
    let version = version.with_context(|| format!("{} doesn't name moto", path.display()))?;
    let folder = workspace::cache_folder()?.join("moto").join(version);
    // Written last: an environment can't be made elsewhere and moved.
    let whole = folder.join("whole");
    if !fs::read_to_string(&whole).is_ok_and(|found| found == wanted) {
        screen::note(&format!("moto {version} for tests comes once, into {}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&folder);
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
        pip.args(["--only-binary=:all:", "--requirement"]).arg(&path);
        for mut command in [venv, pip] {
            if !command.status().is_ok_and(|status| status.success()) {
                bail!(
                    "moto can't be had: `{}` failed\nhint: check python3 with its venv and pip, and the network",
                    workspace::shown(&command)
                );
            }
        }
        fs::write(&whole, wanted).with_context(|| format!("write {}", whole.display()))?;
    }
    super::point(&workspace::root().join(".moto"), &folder)
}
