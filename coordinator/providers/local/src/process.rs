//! One worker's process: started, signalled, and noticed when it ends, by its pidfd. Works alike for own children and
//! for those that an earlier coordinator started; only the exit status of the latter can't be known.

use crate::procfs::{self, POOL_VARIABLE, Stat};
use coordinator_core::{DownCause, PoolName};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The worker program's file name, beside the running executable.
pub const DEFAULT_PROGRAM: &str = "trainctl-worker";

/// How to start one.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Path,
    pub(crate) cluster: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) pool: &'a PoolName,
    pub(crate) coordinator_file: &'a Path,
    pub(crate) token: &'a str,
    /// Appended to; its folder is made.
    pub(crate) log: PathBuf,
}

/// A process group of its own, led by a worker.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    start_ticks: u64,
    descriptor: AsyncFd<OwnedFd>,
}

#[expect(unsafe_code, reason = "tokio asks its caller to promise that the descriptor stays open")]
fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open, and owned by the `AsyncFd` from here on: nobody else can close or replace it, and
    // `Process` never takes it out again.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

impl Process {
    /// Starts a worker, in its own process group, so that a Ctrl-C in the coordinator's terminal does not reach it.
    pub(crate) fn start(start: &Start<'_>) -> io::Result<Self> {
        if let Some(folder) = start.log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&start.log)?;
        let child = Command::new(start.program)
            .args(["run", "--cluster", start.cluster, "--instance", start.instance, "--worker", start.worker])
            .arg("--coordinator-file")
            .arg(start.coordinator_file)
            .env("TRAINCTL_WORKER_TOKEN", start.token)
            .env(POOL_VARIABLE, &start.pool.0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&child);
        procfs::await_begin(pid, start.cluster);
        // Until it is waited for, which only `ended` does, its pid is not used again.
        match Self::open(pid) {
            Ok(process) => Ok(process),
            Err(error) => {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                Err(error)
            }
        }
    }

    /// Takes over a process that is nobody's child. `None`: it has ended, and the pid may be somebody else's.
    pub(crate) fn adopt(pid: Pid, start_ticks: u64) -> io::Result<Option<Self>> {
        match Self::open(pid) {
            Ok(process) if process.start_ticks == start_ticks => Ok(Some(process)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(pid: Pid) -> io::Result<Self> {
        let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Read after the descriptor is held: what it names can't have changed since.
        let stat = Stat::read(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, start_ticks: stat.start_ticks, descriptor: register(descriptor)? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Signals the whole group; one that has ended is fine.
    pub(crate) fn signal(&self, signal: Signal) {
        // The group's number is the leader's pid: it must still be this one, or be nobody's.
        if Stat::read(self.pid).is_none_or(|stat| stat.start_ticks == self.start_ticks) {
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// Waits until it has ended, ends what is left of its group, and says how, if that can be known.
    pub(crate) async fn ended(&self) -> DownCause {
        loop {
            let Ok(mut ready) = self.descriptor.readable().await else {
                return DownCause::Vanished;
            };
            if let Some(cause) = self.reap() {
                return cause;
            }
            ready.clear_ready();
        }
    }

    /// Whether it has not ended yet.
    fn lives(&self) -> bool {
        self.stat().is_some_and(|stat| !stat.ended)
    }

    /// Whether its end has begun, noticed or not.
    pub(crate) fn is_ending(&self) -> bool {
        self.stat().is_none_or(|stat| stat.ending)
    }

    fn stat(&self) -> Option<Stat> {
        Stat::read(self.pid).filter(|stat| stat.start_ticks == self.start_ticks)
    }

    /// `None`: it lives.
    fn reap(&self) -> Option<DownCause> {
        let look = |options| {
            rustix::process::waitid(WaitId::PidFd(self.descriptor.get_ref().as_fd()), WaitIdOptions::EXITED | options)
        };
        match look(WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT) {
            Ok(None) => None,
            Ok(Some(_)) => {
                // Before it is reaped, while nobody else can have its number.
                self.signal(Signal::KILL);
                let status = look(WaitIdOptions::NOHANG).ok().flatten();
                Some(match status {
                    Some(status) if status.exited() => DownCause::Exited(status.exit_status().unwrap_or_default()),
                    Some(status) => DownCause::Killed(status.terminating_signal().unwrap_or_default()),
                    None => DownCause::Vanished,
                })
            }
            Err(_not_a_child) => {
                if self.lives() {
                    return None;
                }
                self.signal(Signal::KILL);
                Some(DownCause::Vanished)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// As a coordinator that is killed right after the start must find it.
    #[tokio::test]
    async fn who_was_started_is_found_at_once() {
        let folder = tempfile::tempdir().expect("temp folder");
        let program = folder.path().join("worker");
        std::fs::write(&program, "#!/bin/sh\nsleep 60 & wait\n").expect("write the program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
        let cluster = folder.path().display().to_string();
        for turn in 0..300 {
            let started = Process::start(&Start {
                program: &program,
                cluster: &cluster,
                instance: &format!("i{turn}"),
                worker: "w1",
                pool: &PoolName::from("local-spot"),
                coordinator_file: Path::new("none"),
                token: "token",
                log: folder.path().join("log"),
            });
            let process = started.expect("start a process");
            let found = procfs::find(&cluster).expect("list the processes");
            process.signal(Signal::KILL);
            process.ended().await;
            let [found] = &found[..] else { panic!("turn {turn}: expected one worker, found {found:?}") };
            assert_eq!((&*found.instance.0, &found.pool), (&*format!("i{turn}"), &Some(PoolName::from("local-spot"))));
        }
    }
}
