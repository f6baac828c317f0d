//! Where the programs are, and which of them run.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};

/// A program of this workspace, built beside this test.
///
/// # Panics
/// When it isn't there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let Ok(this) = std::env::current_exe() else { panic!("can't tell where this test is") };
    let folder = this.ancestors().find(|folder| folder.join(name).is_file());
    match folder {
        Some(folder) => folder.join(name),
        None => panic!("{name} is not built: run the tests with `cargo xtask test`"),
    }
}

/// Sends a signal to a process; one that is gone already is fine.
pub fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself in this moment.
        let _ = kill_process(pid, signal);
    }
}

/// Ids of all processes whose command line names this home.
#[must_use]
pub fn processes_of(home: &Path) -> Vec<u32> {
    let home = home.to_string_lossy();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_string_lossy().parse::<u32>().ok());
    let ours = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&command).contains(home.as_ref())
    };
    pids.filter(ours).collect()
}
