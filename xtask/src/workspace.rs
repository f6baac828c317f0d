//! Where things are, and how other programs are run: the checkout, the cache, cargo.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All there is, tests included. Off in a plain build: the clouds' clients take minutes to build.
pub(crate) const CLOUDS: &str = "--features=trainctl-objects/gcs,trainctl/aws,trainctl/gcp";

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

/// `$XDG_CACHE_HOME/trainctl` or `~/.cache/trainctl`: what can be fetched again.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base.context("neither HOME nor XDG_CACHE_HOME names a folder\nhint: set one of them")?.join("trainctl"))
}

/// Cargo, the one that runs this, in the checkout's root. What it has told this program of its package stays here: build
/// scripts that look at such variables (ring's does) would run anew, and all that rests on them be built again, wherever
/// a plain `cargo build` or another checkout has the same target folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Where cargo puts what it builds in `profile` (`debug` or `release`).
pub(crate) fn target_folder(profile: &str) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder).join(profile),
        None => root().join("target").join(profile),
    }
}

/// Runs a program to its end, its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}
