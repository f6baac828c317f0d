//! The same trouble for others: torchrun's and torchft's recovery from `kill -9` of one of two workers, measured from
//! outside as ours is. Their scripts are in `xtask/benches/peers`.

use crate::cluster::check_interrupted;
use crate::{screen, workspace};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::Deserialize;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const RUNS: usize = 3;
const STEPS_BEFORE: u64 = 40;
const WAIT_MAX: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(35);

/// A step, as a peer's script prints it.
#[derive(Deserialize)]
struct Step {
    worker: u32,
    step: u64,
    world: u32,
    pid: i32,
}

/// Steps as they are read, with the time.
type StepSender = SyncSender<(Instant, Step)>;
/// Starts a peer's two workers with a Python.
type Start = fn(&Path, &StepSender) -> Result<Group>;

/// The pauses of each peer that this Python has, in milliseconds.
pub(crate) fn recovery(python: &Path) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let mut found = Vec::new();
    for (name, module, start) in [("torchrun", "torch", start_torchrun as Start), ("torchft", "torchft", start_torchft)]
    {
        if !has_module(python, module)? {
            screen::note(&format!("{name} left out: {} has no {module}", python.display()));
            continue;
        }
        let pauses = (0..RUNS)
            .map(|_| pause(python, start))
            .collect::<Result<_>>()
            .with_context(|| format!("measure {name}"))?;
        found.push((name, pauses));
    }
    Ok(found)
}

/// Kills worker 1 while both train, and waits for the other's next step.
fn pause(python: &Path, start: Start) -> Result<f64> {
    let (send, steps) = sync_channel(1024);
    let _group = start(python, &send)?;
    drop(send);
    let mut victim = None;
    loop {
        let (_, step) = next(&steps)?;
        if step.worker == 1 {
            victim = Some(step.pid);
        }
        if step.worker == 0 && step.world == 2 && step.step >= STEPS_BEFORE && victim.is_some() {
            break;
        }
    }
    let pid = victim.and_then(Pid::from_raw).context("find the second worker")?;
    kill_process(pid, Signal::KILL).context("kill the second worker")?;
    let killed = Instant::now();
    // What was on its way when the worker died is no recovery: the longest gap among the following steps is.
    let mut last = killed;
    let mut longest = Duration::ZERO;
    let mut counted = 0;
    while counted < 20 {
        let (at, step) = next(&steps)?;
        if step.worker == 0 && at > killed {
            longest = longest.max(at - last);
            last = at;
            counted += 1;
        }
    }
    Ok(longest.as_secs_f64() * 1e3)
}

fn next(steps: &Receiver<(Instant, Step)>) -> Result<(Instant, Step)> {
    let began = Instant::now();
    loop {
        check_interrupted()?;
        match steps.recv_timeout(Duration::from_millis(100)) {
            Ok(step) => return Ok(step),
            Err(RecvTimeoutError::Timeout) if began.elapsed() < WAIT_MAX => {}
            Err(RecvTimeoutError::Timeout) => bail!("no step within {} s", WAIT_MAX.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("the peer ended early"),
        }
    }
}

/// Processes that end with it, their children too.
struct Group {
    children: Vec<Child>,
    _checkpoints: Option<tempfile::TempDir>,
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

fn start_torchrun(python: &Path, send: &StepSender) -> Result<Group> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut command = Command::new(python);
    command
        .args(["-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3", "--rdzv-backend=c10d"])
        .arg(format!("--rdzv-endpoint=127.0.0.1:{}", free_port()?))
        .arg(script("torchrun_worker.py"))
        .env("CHECKPOINT", folder.path().join("checkpoint.pt"));
    Ok(Group { children: vec![spawn(&mut command, Some(send))?], _checkpoints: Some(folder) })
}

fn start_torchft(python: &Path, send: &StepSender) -> Result<Group> {
    let port = free_port()?;
    let mut lighthouse = Command::new(python.with_file_name("torchft_lighthouse"));
    lighthouse.args(["--min_replicas", "1", "--join_timeout_ms", "1000", "--bind"]).arg(format!("127.0.0.1:{port}"));
    let mut group = Group { children: vec![spawn(&mut lighthouse, None)?], _checkpoints: None };
    for worker in 0..2 {
        let mut command = Command::new(python);
        command
            .arg(script("torchft_replica.py"))
            .env("REPLICA_GROUP_ID", worker.to_string())
            .env("TORCHFT_LIGHTHOUSE", format!("http://127.0.0.1:{port}"));
        group.children.push(spawn(&mut command, Some(send))?);
    }
    Ok(group)
}

/// In a group of its own; the steps that it prints are sent on with the time that they were read at.
fn spawn(command: &mut Command, send: Option<&StepSender>) -> Result<Child> {
    command
        .envs([("GLOO_SOCKET_IFNAME", "lo"), ("PYTHONDONTWRITEBYTECODE", "1")])
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command.stdout(if send.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("start `{}`", workspace::shown(command)))?;
    if let (Some(send), Some(stdout)) = (send.cloned(), child.stdout.take()) {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(step) = serde_json::from_str(&line) else { continue };
                if send.send((Instant::now(), step)).is_err() {
                    return;
                }
            }
        });
    }
    Ok(child)
}

fn script(name: &str) -> std::path::PathBuf {
    workspace::root().join("xtask/benches/peers").join(name)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).context("find a free port")?.port())
}

fn has_module(python: &Path, module: &str) -> Result<bool> {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{} isn't there\nhint: give --peers a Python that has torch", python.display())
        }
        Err(error) => Err(error).with_context(|| format!("start {}", python.display())),
    }
}
