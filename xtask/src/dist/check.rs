//! Whether a bundle holds all that it needs: unpacked into a folder that nobody knows, and run with nothing in its
//! environment.

use super::pack::{self, Archive};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Unpacks, runs, packs again.
pub(super) fn run(archive: &Archive, path: &Path, digest: &str) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let unpacked = zstd::Decoder::new(file).and_then(|tar| tar::Archive::new(tar).unpack(folder.path()));
    unpacked.with_context(|| format!("unpack {}", path.display()))?;
    let bin = folder.path().join(&archive.name).join("bin");

    let version = said(Command::new(bin.join("trainctl")).arg("--version"))?;
    if !version.contains(env!("CARGO_PKG_VERSION")) {
        bail!("trainctl --version: expected {}, found {version:?}", env!("CARGO_PKG_VERSION"));
    }
    let measured = said(Command::new(bin.join("trainctl-worker")).arg("fingerprint"))?;
    let measured: serde_json::Value = serde_json::from_str(&measured).context("read the fingerprint")?;
    if !measured["fingerprint"].is_string() {
        bail!("trainctl-worker fingerprint: expected a fingerprint, found {measured}");
    }
    let loaded = libraries_outside(&bin.join("trainctl-worker"), folder.path())?;
    if !loaded.is_empty() {
        bail!("trainctl-worker: expected libtorch from the bundle, found {}", loaded.join(", "));
    }

    let second = folder.path().join("again.tar.zst");
    let again = pack::write(archive, &second)?;
    if again != digest {
        bail!("packed again: expected {digest}, found {again}");
    }
    Ok(())
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.env_clear().output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the program would load that is neither the system's nor below this folder.
fn libraries_outside(program: &Path, folder: &Path) -> Result<Vec<String>> {
    let listed = said(Command::new("/usr/bin/ldd").arg(program))?;
    let paths = listed.lines().filter_map(|line| line.split(" => ").nth(1)?.split(' ').next());
    let systems = ["/lib", "/usr/lib"];
    let outside =
        paths.filter(|path| !Path::new(path).starts_with(folder) && !systems.iter().any(|it| path.starts_with(it)));
    Ok(outside.map(str::to_owned).collect())
}
