//! A Python with packages, for tests that check what others read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of a virtual environment with exactly these packages (`name==version`), made below `folder` by
/// whoever needs it first, and kept.
///
/// # Errors
/// Why there is none: no Python, no packages to be had.
pub fn python(folder: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let name = packages.join("+").replace("==", "-");
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let lock = File::create(folder.join(format!("{name}.lock"))).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let venv = folder.join(&name);
    let python = venv.join("bin/python");
    let done = folder.join(format!("{name}.done"));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--only-binary=:all:"]).args(packages))?;
        File::create(done).map_err(|error| error.to_string())?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}
