//! Runs `wheel.py` and shows how far it is.

use super::pins::Wheel;
use crate::screen;
use crate::workspace;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// One line of `wheel.py`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Report {
    /// Bytes done.
    at: Option<u64>,
    /// Bytes in all, where known.
    size: Option<u64>,
    /// Something that a person may want to know.
    note: Option<String>,
    /// Why it ended.
    error: Option<String>,
    /// What to do about it.
    hint: Option<String>,
    /// Why this pip can't be asked for addresses.
    pip_differs: Option<String>,
}

/// How `wheel.py` ended.
enum End {
    Done,
    PipDiffers(String),
}

/// Fetches a wheel into `folder`, going on from where an earlier try stopped.
pub(crate) fn fetch(wheel: &Wheel, folder: &Path) -> Result<()> {
    let path = folder.join(wheel.filename);
    let mut command = script("fetch");
    command.args([wheel.project, wheel.filename, wheel.sha256]).arg(&path);
    match watch(&mut command, &format!("fetch {} {}", wheel.project, wheel.version))? {
        End::Done => Ok(()),
        End::PipDiffers(why) => {
            screen::note(&format!(
                "this pip isn't known ({why}); fetching with it, without going on after interruptions"
            ));
            download_with_pip(wheel, folder)?;
            match watch(&mut command, &format!("check {} {}", wheel.project, wheel.version))? {
                End::Done => Ok(()),
                End::PipDiffers(_) => bail!("pip downloaded another file than {}", wheel.filename),
            }
        }
    }
}

/// Unpacks what is needed of a wheel into `folder`.
pub(crate) fn unpack(wheel: &Wheel, wheels_folder: &Path, folder: &Path) -> Result<()> {
    let mut command = script("unpack");
    command.arg(wheels_folder.join(wheel.filename)).arg(folder).args(wheel.rules);
    match watch(&mut command, &format!("unpack {} {}", wheel.project, wheel.version))? {
        End::Done => Ok(()),
        End::PipDiffers(why) => bail!("unpack {}: {why}", wheel.filename),
    }
}

/// The documented way, for a pip whose inside `wheel.py` doesn't know.
fn download_with_pip(wheel: &Wheel, folder: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version=3.11", "--abi=cp311"])
        .args([
            "--platform=manylinux_2_28_x86_64",
            "--platform=manylinux_2_27_x86_64",
            "--platform=manylinux_2_25_x86_64",
            "--platform=manylinux2014_x86_64",
        ])
        .arg("--dest")
        .arg(folder)
        .arg(format!("{}=={}", wheel.project, wheel.version));
    workspace::run(&mut command)
}

fn script(verb: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(workspace::root().join("xtask/src/setup/wheel.py")).arg(verb).stdout(Stdio::piped());
    command
}

fn watch(command: &mut Command, doing: &str) -> Result<End> {
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "no python3 on the PATH: libtorch and NCCL come as Python packages\n\
             hint: install it, for example `sudo apt install python3 python3-pip`, or set LIBTORCH to a libtorch of yours"
        ),
        _ => anyhow::Error::new(error).context("start python3"),
    })?;
    let bar = bar(doing);
    let lines = BufReader::new(child.stdout.take().context("read wheel.py's output")?);
    let mut last = Report::default();
    for line in lines.lines() {
        let line = line.context("read wheel.py's output")?;
        let report: Report = serde_json::from_str(&line).with_context(|| format!("parse wheel.py's line {line:?}"))?;
        if let Some(size) = report.size {
            bar.set_length(size);
        }
        if let Some(at) = report.at {
            bar.set_position(at);
        }
        if let Some(note) = &report.note {
            bar.suspend(|| screen::note(note));
        }
        last = report;
    }
    let status = child.wait().context("wait for wheel.py")?;
    bar.finish_and_clear();
    end(last, status, doing)
}

fn end(last: Report, status: ExitStatus, doing: &str) -> Result<End> {
    match (last.pip_differs, last.error) {
        (Some(why), _) => Ok(End::PipDiffers(why)),
        (None, Some(error)) => bail!("{doing}: {error}\nhint: {}", last.hint.unwrap_or_default()),
        (None, None) if status.success() => {
            screen::note(&format!("{doing}: done"));
            Ok(End::Done)
        }
        (None, None) => {
            bail!("{doing}: ended early ({status})\nhint: run the command again, it goes on where it stopped")
        }
    }
}

fn bar(doing: &str) -> ProgressBar {
    let style = "  {msg:34} {bar:32.cyan/dim} {bytes:>10} / {total_bytes:10} {bytes_per_sec:>12}  {eta}";
    let bar = ProgressBar::new(0).with_message(doing.to_owned());
    bar.set_style(ProgressStyle::with_template(style).expect("a constant template").progress_chars("━━─"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
