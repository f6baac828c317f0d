//! `cargo xtask setup`: libtorch's CPU part, pinned, in the user's cache, and linked to from the checkout. What
//! only tests need, NCCL and the servers that stand for clouds, comes the same way with `cargo xtask setup --tests` and
//! `cargo xtask test`.
//!
//! Decides whether there is anything to do. [`wheels`] fetches, [`layout`] lays out, [`pins`] says what.

mod dvc;
mod layout;
mod moto;
mod pins;
mod wheels;

use self::pins::Pack;
use crate::{screen, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Where libtorch is, and whose it is.
pub(crate) enum Libtorch {
    /// The user's, from their LIBTORCH.
    Given(PathBuf),
    /// Ours, in the cache.
    Pinned(PathBuf),
}

impl Libtorch {
    /// The folder with `include` and `lib`.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Given(folder) | Self::Pinned(folder) => folder,
        }
    }

    /// Has a cargo command build against it, where the checkout's own settings don't say so already.
    ///
    /// A target folder outside the checkout may serve several checkouts. Each would name libtorch by its own link, and
    /// torch-sys be built anew for each; named by its place in the cache it is built once.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let shared = env::var_os("CARGO_TARGET_DIR")
            .is_some_and(|it| !workspace::root().join(it).starts_with(workspace::root()));
        match self {
            Self::Pinned(folder) if shared => command.env("LIBTORCH", folder),
            Self::Pinned(_) | Self::Given(_) => command,
        }
    }
}

#[derive(Args)]
pub(crate) struct Options {
    /// Bring also what only tests need: NCCL, dvc and the servers that stand for clouds (0.7 GB)
    #[arg(long)]
    tests: bool,
}

/// Sets up and says where libtorch is.
pub(crate) fn announce(options: &Options) -> Result<()> {
    let libtorch = run()?;
    if options.tests {
        for_tests()?;
    }
    match libtorch {
        Libtorch::Given(folder) => screen::say(&format!("libtorch: {} (from LIBTORCH)", folder.display())),
        Libtorch::Pinned(folder) => screen::say(&format!("libtorch {}: {}", pins::LIBTORCH.version, folder.display())),
    }
    Ok(())
}

/// Brings what building the workers needs. Quick when all is there.
pub(crate) fn run() -> Result<Libtorch> {
    check_compiler()?;
    let link = workspace::root().join(".libtorch");
    // Cargo's own settings point LIBTORCH at the link for every program that it runs; that isn't the user's word.
    if let Some(given) = env::var_os("LIBTORCH").map(PathBuf::from).filter(|given| *given != link) {
        check_given(&given)?;
        return Ok(Libtorch::Given(given));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "no libtorch is pinned for this platform, only for Linux on x86_64\n\
             hint: set LIBTORCH to the folder of a libtorch {} for it (the folder that holds `include` and `lib`)",
            pins::LIBTORCH.version
        );
    }
    Ok(Libtorch::Pinned(bring(&pins::LIBTORCH)?))
}

/// Brings what only tests need, where there is one for this platform.
pub(crate) fn for_tests() -> Result<()> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        for pack in [&pins::NCCL, &pins::SEAWEEDFS, &pins::FAKE_GCS_SERVER] {
            bring(pack)?;
        }
    }
    moto::bring()?;
    dvc::bring()
}

/// Has the pack in the cache and a link to it in the checkout; where it is.
fn bring(pack: &Pack) -> Result<PathBuf> {
    let folder = workspace::cache_folder()?.join(pack.name).join(pack.version);
    if !layout::is_whole(pack, &folder) {
        fetch_into(pack, &folder)?;
    }
    point(&workspace::root().join(format!(".{}", pack.name)), &folder)?;
    Ok(folder)
}

/// Fetches, unpacks and moves into place, one process at a time.
fn fetch_into(pack: &Pack, folder: &Path) -> Result<()> {
    let wheels_folder = workspace::cache_folder()?.join("wheels");
    fs::create_dir_all(&wheels_folder).with_context(|| format!("make folder {}", wheels_folder.display()))?;
    let lock_path = wheels_folder.join("lock");
    let lock = fs::File::create(&lock_path).with_context(|| format!("create {}", lock_path.display()))?;
    if lock.try_lock().is_err() {
        screen::note("waiting for another set-up to finish");
        lock.lock().with_context(|| format!("lock {}", lock_path.display()))?;
    }
    if layout::is_whole(pack, folder) {
        return Ok(());
    }
    let Pack { name, version, remark, .. } = pack;
    screen::note(&format!("{name} {version}{remark} comes once, into {}", folder.display()));
    for wheel in pack.wheels {
        wheels::fetch(wheel, &wheels_folder)?;
    }
    layout::lay_out(pack, &wheels_folder, folder)?;
    for wheel in pack.wheels {
        let path = wheels_folder.join(wheel.filename);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// A libtorch of the user's must at least look like one: cargo's message would come minutes later.
fn check_given(folder: &Path) -> Result<()> {
    if folder.is_relative() {
        bail!(
            "LIBTORCH is {}, expected an absolute path: each crate is built in a folder of its own",
            folder.display()
        );
    }
    let lib = folder.join("lib");
    let entries = fs::read_dir(&lib).with_context(|| {
        format!(
            "LIBTORCH is {}, but {} can't be read\nhint: unset LIBTORCH to have a pinned one fetched",
            folder.display(),
            lib.display()
        )
    })?;
    let is_library =
        |name: &str| name.starts_with("libtorch") && [".so", ".dylib", ".a"].iter().any(|end| name.ends_with(end));
    if !entries.flatten().any(|entry| is_library(&entry.file_name().to_string_lossy())) {
        bail!(
            "LIBTORCH is {}, but {} holds no libtorch library\nhint: unset LIBTORCH to have a pinned one fetched",
            folder.display(),
            lib.display()
        );
    }
    Ok(())
}

/// torch-sys compiles C++; its own failure without a compiler is a page long.
fn check_compiler() -> Result<()> {
    let compiler = env::var("CXX").ok().filter(|it| !it.trim().is_empty()).unwrap_or_else(|| "c++".to_owned());
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("c++");
    let status =
        Command::new(program).args(words).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        bail!(
            "no C++ compiler: `{compiler} --version` doesn't run\n\
             hint: install one, for example `sudo apt install g++` or `sudo dnf install gcc-c++`, or name yours in CXX"
        );
    }
    Ok(())
}

/// Makes `link` lead to `folder`, in one step for whoever builds meanwhile.
fn point(link: &Path, folder: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == folder) {
        return Ok(());
    }
    if link.is_dir() && !link.is_symlink() {
        bail!("{} is a folder, expected a link or nothing\nhint: move it away, or set LIBTORCH to it", link.display());
    }
    let fresh = link.with_extension(std::process::id().to_string());
    std::os::unix::fs::symlink(folder, &fresh).with_context(|| format!("create link {}", fresh.display()))?;
    fs::rename(&fresh, link).with_context(|| format!("rename {} to {}", fresh.display(), link.display()))
}
