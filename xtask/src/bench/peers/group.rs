//! Processes of a peer, ended with the value that stands for them.

use crate::workspace;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const STOP_PATIENCE: Duration = Duration::from_secs(35);

/// Processes that end with it, their children too.
#[derive(Default)]
pub(super) struct Group {
    children: Vec<Child>,
    folders: Vec<TempDir>,
}

impl Group {
    /// Starts one more, in a process group of its own.
    pub(super) fn start(&mut self, command: &mut Command) -> Result<&mut Child> {
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("start `{}`", workspace::shown(command)))?;
        self.children.push(child);
        Ok(self.children.last_mut().expect("one was pushed"))
    }

    /// A folder of theirs, removed after them.
    pub(super) fn keep(&mut self, folder: TempDir) {
        self.folders.push(folder);
    }
}

impl Drop for Group {
    /// torchrun's workers are in sessions of their own: it is asked first, and ends them itself.
    fn drop(&mut self) {
        for child in &mut self.children {
            let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { continue };
            let _ = kill_process_group(pid, Signal::TERM);
            let began = Instant::now();
            while began.elapsed() < STOP_PATIENCE && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// No input, no output.
pub(super) fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
