//! The same trouble for others: torchrun's and torchft's recovery from `kill -9` of one of two workers, measured from
//! outside as ours is.

use super::group::{Group, silent};
use super::{Python, free_port};
use crate::cluster::check_interrupted;
use crate::screen;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const STEPS_BEFORE: u64 = 40;
const WAIT_MAX: Duration = Duration::from_secs(120);

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
/// Starts a peer's two workers.
type Start = fn(&Python, &StepSender) -> Result<Group>;

/// One that recovers.
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: &'static str,
    start: Start,
}

impl Peer {
    /// Those that this Python has.
    pub(crate) fn all(python: &Python) -> Result<Vec<Self>> {
        let mut there = Vec::new();
        for (name, module, start) in
            [("torchrun", "torch", start_torchrun as Start), ("torchft", "torchft", start_torchft)]
        {
            if python.has(module)? {
                there.push(Self { name, start });
            } else {
                screen::note(&format!("{name} left out: the Python has no {module}"));
            }
        }
        Ok(there)
    }

    /// Kills worker 1 while both train, and waits for the other's next step. In milliseconds.
    pub(crate) fn pause(&self, python: &Python) -> Result<f64> {
        pause(python, self.start).with_context(|| format!("measure {}", self.name))
    }
}

fn pause(python: &Python, start: Start) -> Result<f64> {
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

fn start_torchrun(python: &Python, send: &StepSender) -> Result<Group> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut command = python.command();
    command
        .args(["-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3", "--rdzv-backend=c10d"])
        .arg(format!("--rdzv-endpoint=127.0.0.1:{}", free_port()?))
        .args(python.script("torchrun_worker.py").get_args())
        .env("CHECKPOINT", folder.path().join("checkpoint.pt"));
    let mut group = Group::default();
    group.keep(folder);
    start(&mut group, &mut command, send)?;
    Ok(group)
}

fn start_torchft(python: &Python, send: &StepSender) -> Result<Group> {
    let port = free_port()?;
    let mut group = Group::default();
    let mut lighthouse = python.sibling("torchft_lighthouse");
    lighthouse.args(["--min_replicas", "1", "--join_timeout_ms", "1000", "--bind"]).arg(format!("127.0.0.1:{port}"));
    group.start(silent(&mut lighthouse))?;
    for worker in 0..2 {
        let mut command = python.script("torchft_replica.py");
        command
            .env("REPLICA_GROUP_ID", worker.to_string())
            .env("TORCHFT_LIGHTHOUSE", format!("http://127.0.0.1:{port}"));
        start(&mut group, &mut command, send)?;
    }
    Ok(group)
}

/// The steps that it prints are sent on with the time that they were read at.
fn start(group: &mut Group, command: &mut Command, send: &StepSender) -> Result<()> {
    let child = group.start(silent(command).stdout(Stdio::piped()))?;
    let (send, output) = (send.clone(), child.stdout.take().context("read a peer's output")?);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let Ok(step) = serde_json::from_str(&line) else { continue };
            if send.send((Instant::now(), step)).is_err() {
                return;
            }
        }
    });
    Ok(())
}
