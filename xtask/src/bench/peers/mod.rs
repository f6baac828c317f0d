//! What a user would take instead, measured on the same machine: PyTorch's DDP on Gloo, torchrun, torchft, torch's
//! distributed checkpoints, tools that copy files. Their scripts are in `xtask/benches/peers`; their numbers are never quoted.

mod copiers;
mod group;
mod ranks;
pub(crate) mod recovery;

pub(crate) use copiers::Copier;
pub(crate) use ranks::Ranks;

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Those that the figures of this project were compared with.
const PACKAGES: &str = "torch==2.13.0 torchft-nightly numpy awscli s5cmd";

/// An interpreter that has torch.
pub(crate) struct Python(PathBuf);

impl Python {
    /// # Errors
    /// When it isn't there or has no torch.
    pub(crate) fn check(path: &Path) -> Result<Self> {
        // Programs are started in other folders than the one that the path was typed in.
        let path =
            if path.components().count() > 1 { std::path::absolute(path).context("find here")? } else { path.into() };
        let python = Self(path);
        if !python.has("torch")? {
            let shown = python.0.display();
            bail!("{shown} has no torch\nhint: run `{shown} -m pip install {PACKAGES}`");
        }
        Ok(python)
    }

    /// Whether it can import a module.
    fn has(&self, module: &str) -> Result<bool> {
        let mut command = Command::new(&self.0);
        command.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) => Ok(status.success()),
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{} isn't there\nhint: make one with `python3 -m venv peers && peers/bin/pip install {PACKAGES}`",
                self.0.display()
            ),
            Err(error) => Err(error).with_context(|| format!("start {}", self.0.display())),
        }
    }

    /// Runs a program of `xtask/benches/peers`, Gloo's connections on loopback.
    fn script(&self, name: &str) -> Command {
        let mut command = self.command();
        command.arg(workspace::root().join("xtask/benches/peers").join(name));
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.envs([("GLOO_SOCKET_IFNAME", "lo"), ("PYTHONDONTWRITEBYTECODE", "1")]);
        command
    }

    /// A program installed beside it.
    fn sibling(&self, name: &str) -> Command {
        Command::new(self.0.with_file_name(name))
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    Ok(listener.and_then(|it| it.local_addr()).context("find a free port")?.port())
}
