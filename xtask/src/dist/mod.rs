//! `cargo xtask dist`: what rented machines run, as one file with its digest beside it. [`pack`] makes the file,
//! [`check`] takes it apart again somewhere else.
//!
//! The same checkout in the same folder, with the same Rust and libtorch, gives the same bytes: entries are sorted,
//! their times fixed, their owner nobody.

mod check;
mod pack;

use self::pack::{Archive, Entry, What};
use crate::setup::{self, Libtorch};
use crate::{screen, workspace};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::{Path, PathBuf};

/// Read by the worker's build script: look for libraries in the bundle only, not where this machine has them.
const FOR_BUNDLE: &str = "TRAINCTL_FOR_BUNDLE";

/// NCCL's packages have it by the first name alone, and the worker looks for the second.
const NCCL: (&str, &str) = ("libnccl.so.2", "libnccl.so");

#[derive(Args)]
pub(crate) struct Options {
    /// What the bundle's coordinator can rent machines from, and its workers keep checkpoints in: each cloud's client
    /// takes minutes to build, and EC2's 8 GB of memory
    #[arg(long, value_delimiter = ',', value_name = "CLOUD,..")]
    cloud: Vec<Cloud>,
    /// Also unpack it elsewhere, run what is in it with an empty environment, and pack it once more to compare
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cloud {
    /// EC2 and S3
    Aws,
    /// Compute Engine and Cloud Storage
    Gcp,
}

impl Cloud {
    /// S3 is always built in.
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Aws => &["trainctl/aws"],
            Self::Gcp => &["trainctl/gcp", "trainctl/gcs", "trainctl-worker/gcs"],
        }
    }
}

/// Builds, packs, says where it is.
pub(crate) fn run(options: &Options) -> Result<()> {
    let libtorch = setup::run()?;
    build(&libtorch, &options.cloud)?;
    let archive = Archive { name: format!("trainctl-{}", env!("CARGO_PKG_VERSION")), entries: entries(&libtorch)? };
    let folder = workspace::target_folder("dist");
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    let file =
        format!("trainctl-{}-{}-{}.tar.zst", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    let path = folder.join(&file);
    screen::note(&format!("packing {} files", archive.entries.len()));
    let digest = pack::write(&archive, &path)?;
    // As `sha256sum --check` reads it.
    let beside = folder.join(format!("{file}.sha256"));
    fs::write(&beside, format!("{digest}  {file}\n")).with_context(|| format!("write {}", beside.display()))?;
    let bytes = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
    screen::say(&format!("{} ({} MB)", path.display(), bytes / 1_000_000));
    screen::say(&format!("sha256:{digest}"));
    if options.check {
        check::run(&archive, &path, &digest)?;
        screen::note("unpacked elsewhere it runs with an empty environment; packed again it is the same");
    }
    Ok(())
}

fn build(libtorch: &Libtorch, clouds: &[Cloud]) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--locked", "-p", "trainctl", "-p", "trainctl-worker"]).env(FOR_BUNDLE, "1");
    let features: Vec<&str> = clouds.iter().flat_map(|cloud| cloud.features()).copied().collect();
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    workspace::run(libtorch.apply(&mut command))
}

/// The two programs, the libraries that the worker loads, the licences.
fn entries(libtorch: &Libtorch) -> Result<Vec<Entry>> {
    let built = workspace::target_folder("release");
    let mut entries = Vec::new();
    for program in ["trainctl", "trainctl-worker"] {
        entries.push(Entry { name: format!("bin/{program}"), what: What::Program(built.join(program)) });
    }
    for folder in library_folders(libtorch.folder())? {
        for from in libraries(&folder)? {
            let name = name_of(&from);
            if name == NCCL.0 {
                entries.push(Entry { name: format!("lib/{}", NCCL.1), what: What::Link(name.clone()) });
            }
            entries.push(Entry { name: format!("lib/{name}"), what: What::File(from) });
        }
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        entries.push(Entry { name: licence.to_owned(), what: What::File(workspace::root().join(licence)) });
    }
    Ok(entries)
}

/// libtorch's own folder, and those of CUDA's libraries where they are packages beside it, as pip installs them.
fn library_folders(libtorch: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![libtorch.join("lib")];
    let beside = libtorch.parent().map(|packages| packages.join("nvidia"));
    if let Some(cuda) = beside.filter(|cuda| folders[0].join("libtorch_cuda.so").exists() && cuda.is_dir()) {
        for entry in fs::read_dir(&cuda).with_context(|| format!("read {}", cuda.display()))? {
            let folder = entry.with_context(|| format!("read {}", cuda.display()))?.path().join("lib");
            folders.extend(folder.is_dir().then_some(folder));
        }
    }
    Ok(folders)
}

/// Every shared library of the folder. What only looks like one is for linkers.
fn libraries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
        if name_of(&path).contains(".so") && begins_as_elf(&path)? {
            libraries.push(path);
        }
    }
    if libraries.is_empty() {
        bail!("{}: expected shared libraries, found none", folder.display());
    }
    Ok(libraries)
}

fn begins_as_elf(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut magic = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.take(4).read_to_end(&mut magic).with_context(|| format!("read {}", path.display()))?;
    Ok(magic == b"\x7fELF")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_scripts_are_left_out() {
        let folder = tempfile::tempdir().expect("make a folder");
        for (name, bytes) in [
            ("libgomp.so.1", &b"\x7fELF..."[..]),
            ("libtorch.so", b"INPUT(libtorch_cpu.so)\n"),
            ("libtorch.a", b"\x7fELF"),
            ("libempty.so", b""),
        ] {
            fs::write(folder.path().join(name), bytes).expect("write");
        }
        assert_eq!(libraries(folder.path()).expect("readable"), [folder.path().join("libgomp.so.1")]);
    }

    #[test]
    fn cudas_libraries_come_from_the_packages_beside_libtorch() {
        let packages = tempfile::tempdir().expect("make a folder");
        let path = |name: &str| packages.path().join(name);
        for folder in ["torch/lib", "nvidia/cu13/lib", "nvidia/nccl/lib", "nvidia/empty"] {
            fs::create_dir_all(path(folder)).expect("make a folder");
        }
        assert_eq!(library_folders(&path("torch")).expect("readable"), [path("torch/lib")], "for the CPU");
        fs::write(path("torch/lib/libtorch_cuda.so"), b"\x7fELF").expect("write");
        let mut folders = library_folders(&path("torch")).expect("readable");
        folders.sort();
        assert_eq!(folders, [path("nvidia/cu13/lib"), path("nvidia/nccl/lib"), path("torch/lib")]);
    }

    #[test]
    fn a_folder_without_libraries_is_an_error() {
        let folder = tempfile::tempdir().expect("make a folder");
        let error = libraries(folder.path()).expect_err("empty").to_string();
        assert!(error.contains("expected shared libraries, found none"), "{error}");
    }
}
