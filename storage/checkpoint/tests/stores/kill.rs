//! Savers that are killed at any moment.

use crate::support::{info, layout, state, values};
use crate::{Seeded, folder};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use trainctl_checkpoint::{Retention, TensorInfo, state_digest};

const PARTS: u32 = 3;
const KILLS: u32 = 50;
const SEED: u64 = 4;

/// Files of one request and of several.
pub(crate) fn tensors() -> (Vec<TensorInfo>, usize) {
    layout(&[&[2_300_000], &[400_000], &[30_000], &[30_000], &[7], &[7]])
}

/// The state after `step` updates: the first tensor is trained in every third step only.
pub(crate) fn state_at(tensors: &[TensorInfo], len: usize, step: u64) -> Vec<f32> {
    let mut values = state(len, step);
    let first = tensors[0].offset..tensors[0].offset + tensors[0].len;
    values[first.clone()].copy_from_slice(&state(len, step / 3 * 3)[first]);
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child, on each store"]
async fn each_store_keeps_the_newest_checkpoint_whole_after_each_kill() {
    let (tensors, len) = tensors();
    let folder = folder("kill");
    let saver = Saver::start("kill");
    let six_saves = saver.time_to_commit(6);
    let mut committed = saver.kill().or(Some(6));
    let mut moments = Seeded(SEED);
    for round in 1..=KILLS {
        let saver = Saver::start("kill");
        // Anywhere in six saves: the time is the fault's, nothing is waited for.
        tokio::time::sleep(six_saves.mul_f64(moments.next())).await;
        committed = saver.kill().or(committed);

        let mut out = vec![0.0; len];
        let loaded = folder.load_newest(&tensors, &mut out).await.unwrap().expect("a commit was reported");
        let step = loaded.manifest.step;
        assert!(loaded.skipped.is_empty(), "round {round}: {:?}", loaded.skipped);
        assert!(Some(step) >= committed, "round {round}: step {committed:?} was reported, found {step}");
        assert!(values(&tensors, &out) == values(&tensors, &state_at(&tensors, len, step)), "round {round}");
        for step in folder.steps().await.unwrap() {
            folder.verify(step).await.unwrap_or_else(|error| panic!("round {round}: step {step} is visible: {error}"));
        }
    }
    folder.prune(1).await.unwrap();
    let newest = folder.steps().await.unwrap();
    assert_eq!(newest.len(), 1);
    folder.verify(newest[0]).await.unwrap();
}

/// The process that is killed, and what it says.
pub(crate) struct Saver {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Saver {
    /// Returns when it is about to save, below the store's root for `test`.
    pub(crate) fn start(test: &str) -> Self {
        Self::start_child("kill::saver", test, &[])
    }

    /// Returns when the child says that it is ready.
    pub(crate) fn start_child(child: &str, test: &str, environment: &[(&'static str, String)]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--ignored", "--nocapture"])
            .env("TRAINCTL_TEST_SAVER", test)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for line in lines.filter_map(|line| line.split("saver: ").nth(1).map(str::to_owned)) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let saver = Self { process, lines };
        assert_eq!(saver.next().as_deref(), Some("ready"));
        saver
    }

    pub(crate) fn next(&self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_secs(120)).ok()
    }

    pub(crate) fn time_to_commit(&self, count: usize) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            self.next().expect("the saver commits");
        }
        start.elapsed()
    }

    /// The newest step that it said was committed before it died.
    pub(crate) fn kill(mut self) -> Option<u64> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        // Ends with the pipe.
        self.lines.iter().last().map(|line| line.parse().unwrap())
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process that is killed: goes on where the last one was, saves, prunes, says so, until it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child"]
async fn saver() {
    let folder = folder(&std::env::var("TRAINCTL_TEST_SAVER").expect("started by its parent"));
    let (tensors, len) = tensors();
    let mut step = match folder.load_newest(&tensors, &mut vec![0.0; len]).await.unwrap() {
        Some(loaded) => loaded.manifest.step,
        None => 0,
    };
    report("ready");
    loop {
        step += 1;
        let mut workers = JoinSet::new();
        for part in 0..PARTS {
            let (folder, tensors) = (folder.clone(), tensors.clone());
            workers.spawn(async move {
                let state = state_at(&tensors, len, step);
                folder.write_part(step, part, PARTS, &tensors, &state).await.unwrap();
                let info = info(state_digest(&tensors, &state, step));
                folder.try_commit(step, PARTS, &info).await.unwrap()
            });
        }
        assert!(workers.join_all().await.into_iter().flatten().count() > 0);
        report(&step.to_string());
        let retention = Retention { keep_last: 2, just_saved: Some(step), ..Retention::default() };
        folder.prune(retention).await.unwrap();
    }
}

pub(crate) fn report(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "saver: {line}").unwrap();
    stdout.flush().unwrap();
}
