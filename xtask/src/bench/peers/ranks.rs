//! The ranks of a peer's process group, kept from run to run and asleep between: they measure when they are asked to,
//! in turn with ours.

use super::group::{Group, silent};
use super::{Python, free_port};
use crate::cluster::check_interrupted;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

const ANSWER_PATIENCE: Duration = Duration::from_secs(300);

/// One process a rank. Rank 0 reads a line for each turn and prints a line of JSON.
pub(crate) struct Ranks {
    script: &'static str,
    questions: ChildStdin,
    answers: Receiver<String>,
    errors: NamedTempFile,
    _group: Group,
}

impl Ranks {
    /// Starts `world` processes of a script.
    pub(crate) fn start(python: &Python, script: &'static str, args: &[&str], world: u32) -> Result<Self> {
        let errors = NamedTempFile::new().context("make a file")?;
        let port = free_port()?.to_string();
        let mut group = Group::default();
        let mut first = None;
        for rank in 0..world {
            let mut command = python.script(script);
            silent(&mut command)
                .args(args)
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", world.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", &port)
                .stderr(errors.reopen().context("open a file anew")?);
            if rank > 0 {
                group.start(&mut command)?;
                continue;
            }
            let child = group.start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
            first = child.stdin.take().zip(child.stdout.take());
        }
        let (questions, output) = first.context("reach the first rank")?;
        let (send, answers) = sync_channel(1);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { script, questions, answers, errors, _group: group })
    }

    /// One turn.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<T> {
        // That it has ended is found out below, with what it said.
        let _ = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        let began = Instant::now();
        loop {
            check_interrupted()?;
            match self.answers.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return serde_json::from_str(&line).with_context(|| format!("read the answer {line}")),
                Err(RecvTimeoutError::Timeout) if began.elapsed() < ANSWER_PATIENCE => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no answer from {} within {} s", self.script, ANSWER_PATIENCE.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let said = fs::read_to_string(self.errors.path()).unwrap_or_default();
                    bail!("{} ended early:\n{}", self.script, said.trim_end())
                }
            }
        }
    }
}
