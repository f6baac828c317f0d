//! Tools that copy files to a bucket and back, if they are installed beside the Python or on the path.

use super::Python;
use crate::screen;
use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// One of them.
pub(crate) struct Copier {
    /// As figures call it.
    pub(crate) name: &'static str,
    program: OsString,
}

impl Copier {
    /// Those that are there.
    pub(crate) fn all(python: &Python) -> Result<Vec<Self>> {
        let mut there = Vec::new();
        for (name, program, version) in [("s5cmd", "s5cmd", "version"), ("aws_cli", "aws", "--version")] {
            let runs = |command: &mut Command| {
                let status = command.arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
                status.is_ok_and(|status| status.success())
            };
            match [python.sibling(program), Command::new(program)].iter_mut().find_map(|it| runs(it).then_some(it)) {
                Some(command) => there.push(Self { name, program: command.get_program().to_owned() }),
                None => screen::note(&format!("{program} left out: it is neither beside the Python nor on the path")),
            }
        }
        Ok(there)
    }

    /// Copies all files of a folder to below `bucket`, which ends with a slash.
    pub(crate) fn upload(&self, endpoint: &str, folder: &Path, bucket: &str) -> Command {
        let all = format!("{}/*", folder.display());
        let folder = folder.display().to_string();
        self.copy(endpoint, if self.is_s5cmd() { &all } else { &folder }, bucket)
    }

    /// Copies all that is below `bucket` into a folder.
    pub(crate) fn download(&self, endpoint: &str, bucket: &str, folder: &Path) -> Command {
        let all = format!("{bucket}*");
        let folder = format!("{}/", folder.display());
        self.copy(endpoint, if self.is_s5cmd() { &all } else { bucket }, &folder)
    }

    fn is_s5cmd(&self) -> bool {
        self.name == "s5cmd"
    }

    fn copy(&self, endpoint: &str, from: &str, to: &str) -> Command {
        let mut command = Command::new(&self.program);
        if self.is_s5cmd() {
            command.args(["--endpoint-url", endpoint, "--log", "error", "cp", from, to]);
        } else {
            let recursive = ["s3", "cp", "--recursive", "--only-show-errors"];
            command.args(["--endpoint-url", endpoint]).args(recursive).args([from, to]);
        }
        command
    }
}
