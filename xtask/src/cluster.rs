//! A coordinator of its own in a temporary home, driven through the real `trainctl` with `--output json`, as a user's
//! script would.
//!
//! Nothing is left behind: dropping it stops the coordinator, its workers, and removes the home.

use crate::{setup, workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// A job, as `trainctl show` tells it. Fields that aren't needed here are left out.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    /// queued, provisioning, running, ..., succeeded, failed, cancelled.
    pub(crate) state: String,
    /// Updates applied.
    pub(crate) step: u64,
    /// Updates in all.
    pub(crate) steps: u64,
    /// Workers that train together.
    pub(crate) world_size: u32,
    /// Loss of the newest step.
    pub(crate) loss: Option<f64>,
    /// The newest evaluation.
    pub(crate) eval: Option<Evaluation>,
    /// Of parameters, buffers and slots.
    pub(crate) state_digest: Option<String>,
    /// Workers that were taken or lost.
    pub(crate) evictions: u32,
    /// Steps computed again.
    pub(crate) steps_repeated: u64,
    /// Between two steps.
    pub(crate) longest_pause_ms: f64,
    /// Over the whole group.
    #[serde(default)]
    pub(crate) samples_per_s: f64,
    /// Why it is in this state.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

impl Status {
    /// It won't change any more.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

/// The held-out samples, evaluated.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Evaluation {
    /// Share that is right.
    pub(crate) accuracy: Option<f64>,
}

/// A line of `trainctl worker ls`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Worker {
    /// Its id.
    pub(crate) worker: String,
    /// launching, attached, joining, training, draining, gone.
    pub(crate) state: String,
    /// Of its process.
    pub(crate) pid: Option<i32>,
}

/// A line of `trainctl explain`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Decision {
    /// The step that it was taken at.
    pub(crate) step: u64,
    /// What was decided.
    pub(crate) what: String,
    /// The reason.
    pub(crate) why: String,
}

/// The programs under `profile`, built.
pub(crate) struct Programs {
    trainctl: PathBuf,
}

impl Programs {
    /// Sets up and builds; cargo's own progress shows.
    pub(crate) fn build(release: bool) -> Result<Self> {
        let libtorch = setup::run()?;
        let mut command = workspace::cargo();
        command.args(["build", "-p", "trainctl", "-p", "trainctl-worker"]);
        if release {
            command.arg("--release");
        }
        workspace::run(libtorch.apply(&mut command))?;
        let folder = workspace::target_folder(if release { "release" } else { "debug" });
        Ok(Self { trainctl: folder.join("trainctl") })
    }
}

/// Set by Ctrl-C (SIGTERM and SIGHUP too): whoever waits here ends with an error, and what was started is stopped.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Has an interruption wind things up instead of ending this process at once.
pub(crate) fn catch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("catch Ctrl-C")
}

/// Whether the user has.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// An error once the user has interrupted.
pub(crate) fn check_interrupted() -> Result<()> {
    if interrupted() {
        bail!("interrupted; coordinator and workers were stopped, nothing is left behind");
    }
    Ok(())
}

/// A running coordinator.
pub(crate) struct Cluster {
    trainctl: PathBuf,
    home: tempfile::TempDir,
    environment: Vec<(String, String)>,
    up: Child,
}

impl Cluster {
    /// Starts a coordinator with these pools (the text of a `pools.toml`) and waits until it answers.
    pub(crate) fn start(programs: &Programs, pools: &str) -> Result<Self> {
        Self::start_in(programs, pools, &[])
    }

    /// The same with more in the environment of the coordinator, its workers, and whoever asks it.
    pub(crate) fn start_in(programs: &Programs, pools: &str, environment: &[(String, String)]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("trainctl-").tempdir().context("make a home folder")?;
        let pools_file = home.path().join("pools.toml");
        fs::write(&pools_file, pools).context("write pools.toml")?;
        let log = fs::File::create(home.path().join("up.log")).context("create up.log")?;
        let mut command = command(&programs.trainctl, home.path());
        command
            .args(["up", "--pools"])
            .arg(&pools_file)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share up.log")?)
            .stderr(log);
        own_group(&mut command);
        let up = command.spawn().with_context(|| format!("start {}", programs.trainctl.display()))?;
        let environment = environment.to_vec();
        let mut cluster = Self { trainctl: programs.trainctl.clone(), home, environment, up };
        cluster.wait_until_it_answers()?;
        Ok(cluster)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let said = self.home.path().join("coordinator.json");
        let began = Instant::now();
        while !said.exists() {
            check_interrupted()?;
            if let Some(status) = self.up.try_wait().context("look at the coordinator")? {
                bail!("the coordinator ended at its start ({status}):\n{}", self.log());
            }
            if began.elapsed() > Duration::from_secs(20) {
                bail!("the coordinator didn't start within 20 s:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What the coordinator said so far.
    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("up.log")).unwrap_or_default().trim_end().to_owned()
    }

    /// Runs `trainctl ARGS --output json` and reads its answer.
    pub(crate) fn ask<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let mut command = command(&self.trainctl, self.home.path());
        command.args(args).args(["--output", "json"]).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        let output = command.output().context("start trainctl")?;
        let shown = format!("trainctl {}", args.join(" "));
        if !output.status.success() {
            bail!("`{shown}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("read the answer of `{shown}`: {}", String::from_utf8_lossy(&output.stdout)))
    }

    /// Submits a job file of the checkout, changed by these `KEY=VALUE`.
    pub(crate) fn submit(&self, job_file: &str, settings: &[&str]) -> Result<()> {
        let mut args = vec!["submit", job_file];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        self.ask::<serde_json::Value>(&args)?;
        Ok(())
    }

    /// Its status now.
    pub(crate) fn show(&self, job: &str) -> Result<Status> {
        self.ask(&["show", job])
    }

    /// The workers that a job has now.
    pub(crate) fn workers(&self) -> Result<Vec<Worker>> {
        Ok(self.ask::<Vec<Worker>>(&["worker", "ls"])?.into_iter().filter(|worker| worker.state != "gone").collect())
    }

    /// Follows a job until it ends.
    pub(crate) fn watch(&self, job: &str) -> Result<Watch> {
        let mut command = command(&self.trainctl, self.home.path());
        command
            .args(["watch", job, "--output", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        own_group(&mut command);
        let mut child = command.spawn().context("start trainctl watch")?;
        let lines = BufReader::new(child.stdout.take().context("read trainctl watch")?).lines();
        let (send, updates) = sync_channel(64);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Watch { child, updates })
    }
}

impl Drop for Cluster {
    /// An orderly stop ends the workers as well. Whatever outlives it is killed: a demo leaves no process behind.
    fn drop(&mut self) {
        let pids: Vec<i32> = self.workers().unwrap_or_default().iter().filter_map(|worker| worker.pid).collect();
        signal(self.up.id().cast_signed(), rustix::process::Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(15) && matches!(self.up.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.up.kill();
        let _ = self.up.wait();
        for pid in pids {
            if is_ours(pid, self.home.path()) {
                signal(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// A followed job.
pub(crate) struct Watch {
    child: Child,
    updates: Receiver<(Instant, String)>,
}

impl Watch {
    /// The next status and when it was read; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<(Instant, Status)>> {
        loop {
            check_interrupted()?;
            match self.updates.recv_timeout(Duration::from_millis(100)) {
                Ok((at, line)) => {
                    let status = serde_json::from_str(&line).with_context(|| format!("read the status {line}"))?;
                    return Ok(Some((at, status)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kill -9`, as from outside.
pub(crate) fn kill_outright(worker: &Worker) -> Result<()> {
    let pid = worker.pid.filter(|pid| *pid > 0).with_context(|| format!("{} has no process", worker.worker))?;
    let pid = rustix::process::Pid::from_raw(pid).context("a process id is above 0")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).with_context(|| format!("kill {}", worker.worker))
}

fn command(trainctl: &Path, home: &Path) -> Command {
    let mut command = Command::new(trainctl);
    command.current_dir(workspace::root()).env("TRAINCTL_HOME", home);
    for name in ["TRAINCTL_COORDINATOR", "TRAINCTL_TOKEN_FILE", "TRAINCTL_WORKER", "TRAINCTL_FAIL_AT"] {
        command.env_remove(name);
    }
    command
}

/// Ctrl-C in the terminal goes to this process alone, which then stops the others in order.
fn own_group(command: &mut Command) {
    command.process_group(0);
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether the process is still a worker of this home: a number may have been given to another by now.
fn is_ours(pid: i32, home: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains(&*home.to_string_lossy())
}
