//! Writes checkpoints in the background. Training waits only for the copy of the state; all workers write their parts
//! at once, and whoever finishes last commits.

use crate::attachment::unix_ms;
use crate::control::Control;
use crate::faults::{Faults, Moment};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime};
use trainctl_checkpoint::{CheckpointError, CommitInfo, Manifest, RunFolder, StateCopy, TensorInfo, state_digest};
use trainctl_proto::v1::Saved;
use trainctl_proto::v1::worker_message::Body;

/// Between two looks whether the others' parts are there, for a save that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What to save, and as whose part.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) step: u64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
    pub(crate) generation: u64,
    pub(crate) loss: Option<f64>,
    pub(crate) why: String,
}

/// How a save that is waited for ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The manifest is there.
    Committed,
    /// Another worker's part is missing.
    Incomplete,
}

struct Job {
    order: Order,
    copy: StateCopy,
    began: Instant,
    stall: Duration,
    wait: Option<(Duration, Arc<AtomicBool>)>,
    answer: SyncSender<Result<Outcome, CheckpointError>>,
}

/// A save under way.
#[derive(Debug)]
pub(crate) struct Pending {
    answer: Receiver<Result<Outcome, CheckpointError>>,
    stop: Arc<AtomicBool>,
}

/// The background writer.
pub(crate) struct Saver {
    jobs: Sender<Job>,
    copies: Receiver<StateCopy>,
    busy: Arc<AtomicBool>,
    /// Milliseconds of the last save that this worker saw through, for `every = "auto"`; 0: none yet.
    took_ms: Arc<std::sync::atomic::AtomicU64>,
}

impl Saver {
    /// For one run folder. Older checkpoints than the newest `keep_last` are removed after each commit.
    pub(crate) fn start(
        folder: RunFolder,
        tensors: Vec<TensorInfo>,
        state_length: usize,
        keep_last: u32,
        control: Control,
        faults: Faults,
    ) -> std::io::Result<Self> {
        let (jobs, todo) = channel::<Job>();
        let (done, copies) = channel();
        let busy = Arc::new(AtomicBool::new(false));
        let took_ms = Arc::default();
        // A channel without a receiver only if this function's caller is gone.
        let _ = done.send(StateCopy::new(state_length));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let writer = Writer { folder, tensors, keep_last, control, faults, took_ms: Arc::clone(&took_ms) };
        let writing = Arc::clone(&busy);
        std::thread::Builder::new().name("saver".to_owned()).spawn(move || {
            for job in todo {
                let outcome = runtime.block_on(writer.save(&job));
                if let Err(error) = &outcome {
                    tracing::error!(step = job.order.step, "can't save, training goes on: {}", chain(error));
                }
                writing.store(false, Ordering::Release);
                let _ = done.send(job.copy);
                let _ = job.answer.send(outcome);
            }
        })?;
        Ok(Self { jobs, copies, busy, took_ms })
    }

    /// Whether an earlier save is still being written.
    pub(crate) fn busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// What the last save took.
    pub(crate) fn took(&self) -> Option<Duration> {
        let ms = self.took_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// Waits until nothing is being written, or so long. No save may begin after this.
    pub(crate) fn settle(&self, at_most: Duration) {
        if self.copies.recv_timeout(at_most).is_err() {
            tracing::warn!("leaves while a checkpoint is being written");
        }
    }

    /// Copies the state and writes it while training goes on. With `wait`, the writer waits so long for the others'
    /// parts.
    pub(crate) fn begin(&self, order: Order, state: &[f32], wait: Option<Duration>) -> Pending {
        let began = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let (answer, answered) = sync_channel(1);
        // An earlier save that is still being written holds the copy; only a save that must not be skipped gets here.
        if let Ok(mut copy) = self.copies.recv() {
            copy.copy_from(state);
            self.busy.store(true, Ordering::Release);
            let wait = wait.map(|patience| (patience, Arc::clone(&stop)));
            let _ = self.jobs.send(Job { order, copy, began, stall: began.elapsed(), wait, answer });
        }
        Pending { answer: answered, stop }
    }
}

impl Pending {
    /// Waits for the end; gives up when `interrupted` says so.
    pub(crate) fn wait(self, interrupted: &dyn Fn() -> bool) -> Option<Result<Outcome, CheckpointError>> {
        loop {
            match self.answer.recv_timeout(LOOK_AGAIN) {
                Ok(outcome) => return Some(outcome),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !interrupted() => {}
                Err(_) => {
                    self.stop.store(true, Ordering::Release);
                    return None;
                }
            }
        }
    }
}

struct Writer {
    folder: RunFolder,
    tensors: Vec<TensorInfo>,
    keep_last: u32,
    control: Control,
    faults: Faults,
    took_ms: Arc<std::sync::atomic::AtomicU64>,
}

impl Writer {
    async fn save(&self, job: &Job) -> Result<Outcome, CheckpointError> {
        let Order { step, part, parts, .. } = job.order;
        let state = job.copy.state();
        let digest = state_digest(&self.tensors, state, step);
        self.folder.write_part(step, part, parts, &self.tensors, state).await?;
        self.faults.at(step, Moment::Checkpoint);
        let info = CommitInfo {
            loss: job.order.loss,
            world_size: parts,
            generation: job.order.generation,
            why: job.order.why.clone(),
            state_digest: digest,
            created_ms: unix_ms(SystemTime::now()),
        };
        let written = Instant::now();
        loop {
            if let Some(manifest) = self.folder.try_commit(step, parts, &info).await? {
                self.committed(job, &manifest).await;
                return Ok(Outcome::Committed);
            }
            match &job.wait {
                Some((patience, stop)) if written.elapsed() < *patience && !stop.load(Ordering::Acquire) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                _ => return Ok(Outcome::Incomplete),
            }
        }
    }

    async fn committed(&self, job: &Job, manifest: &Manifest) {
        let took = job.began.elapsed();
        self.took_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        tracing::info!(step = manifest.step, bytes = manifest.bytes(), ?took, "saved: {}", manifest.why);
        self.control.tell(Body::Saved(Saved {
            step: manifest.step,
            bytes: manifest.bytes(),
            seconds: took.as_secs_f64(),
            stall_ms: job.stall.as_secs_f64() * 1e3,
            why: manifest.why.clone(),
            state_digest: manifest.state_digest.to_string(),
            committed_ms: unix_ms(SystemTime::now()),
        }));
        if let Err(error) = self.folder.prune(self.keep_last).await {
            tracing::warn!("can't remove older checkpoints: {}", chain(&error));
        }
    }
}

/// An error with its sources, in one line; a source that only says again what was said is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = error.source();
    }
    text
}
