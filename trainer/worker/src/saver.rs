//! Writes checkpoints in the background. Training waits only for the copy of the state; all workers write their parts
//! at once, and whoever finishes last commits. When a worker is lost with its part unwritten, the others write that part
//! from their copies. Also keeps the run's record, since that is written there too.

use crate::attachment::unix_ms;
use crate::control::Control;
use crate::faults::{Faults, Moment};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use trainctl_checkpoint::{
    CheckpointError, CommitInfo, Digest, Finish, Manifest, Retention, RunEvent, RunFolder, StateCopy, StateDigests,
    TensorInfo,
};
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::{SaveFailed, Saved};

/// Between two looks whether the others' parts are there, for a save that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// That send, and sign what they send; hashing is the saver's own thread's.
const THREADS: usize = 2;

/// Events that are remembered for the run's record; of more, the oldest go.
const REMEMBERED_MAX: usize = 1000;
/// Why the last checkpoint of a run is saved.
pub(crate) const FINAL: &str = "final";

/// What to save, and as whose part.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) step: u64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
    pub(crate) generation: u64,
    pub(crate) loss: Option<f64>,
    /// Of the run, by then.
    pub(crate) audits_passed: u64,
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

enum Task {
    Save(Job),
    Cover(Share, StateCopy),
    Note(Box<RunEvent>),
}

/// Which part of a save, and of how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) part: u32,
    pub(crate) parts: u32,
}

struct Job {
    order: Order,
    copy: StateCopy,
    began: Instant,
    stall: Duration,
    wait: Option<(Duration, Arc<AtomicBool>)>,
    digested: SyncSender<Digest>,
    answer: SyncSender<Result<Outcome, CheckpointError>>,
}

/// A save under way.
#[derive(Debug)]
pub(crate) struct Pending {
    digested: Receiver<Digest>,
    answer: Receiver<Result<Outcome, CheckpointError>>,
    stop: Arc<AtomicBool>,
}

/// The newest state that was copied to be saved: its step and its digest.
type Digested = Arc<Mutex<Option<(u64, Digest)>>>;

/// What is added to the run's record with the next checkpoint.
type Remembered = Arc<Mutex<VecDeque<RunEvent>>>;

/// The background writer.
pub(crate) struct Saver {
    tasks: Sender<Task>,
    copies: Receiver<StateCopy>,
    give_back: Sender<StateCopy>,
    busy: Arc<AtomicBool>,
    /// What is to be covered once the save that is being written is done.
    cover_next: Arc<Mutex<Option<Share>>>,
    digested: Digested,
    remembered: Remembered,
    /// Milliseconds that this worker's part of the last save took, for `every = "auto"`; 0: none yet.
    took_ms: Arc<std::sync::atomic::AtomicU64>,
}

impl Saver {
    /// For one run folder. Checkpoints that `retention` doesn't keep are removed after each commit.
    pub(crate) fn start(
        folder: RunFolder,
        tensors: Vec<TensorInfo>,
        state_length: usize,
        retention: Retention,
        control: Control,
        faults: Faults,
    ) -> std::io::Result<Self> {
        let (tasks, todo) = channel::<Task>();
        let (done, copies) = channel();
        let give_back = done.clone();
        let digested = Digested::default();
        let remembered = Remembered::default();
        let busy = Arc::new(AtomicBool::new(false));
        let took_ms = Arc::default();
        // A channel without a receiver only if this function's caller is gone.
        let _ = done.send(StateCopy::new(state_length));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("saver-io")
            .enable_all()
            .build()?;
        let writer = Writer {
            folder,
            tensors,
            retention,
            control,
            faults,
            took_ms: Arc::clone(&took_ms),
            digested: Arc::clone(&digested),
            remembered: Arc::clone(&remembered),
        };
        let writing = Arc::clone(&busy);
        let cover_next = Arc::new(Mutex::new(None));
        let then = Arc::clone(&cover_next);
        std::thread::Builder::new().name("saver".to_owned()).spawn(move || {
            let mut incomplete: Option<Order> = None;
            for task in todo {
                let mut job = match task {
                    Task::Save(job) => job,
                    Task::Cover(share, copy) => {
                        if let Some(order) = incomplete.take() {
                            runtime.block_on(writer.cover(&order, share, &copy));
                        }
                        writing.store(false, Ordering::Release);
                        let _ = done.send(copy);
                        continue;
                    }
                    Task::Note(event) => {
                        runtime.block_on(writer.note(&[*event]));
                        continue;
                    }
                };
                writer.faults.flip(job.order.step, Moment::FlipSaved, job.copy.state_mut());
                let outcome = runtime.block_on(writer.save(&job));
                if let Err(error) = &outcome {
                    let (step, reason) = (job.order.step, chain(error));
                    tracing::error!(step, "can't save, training goes on: {reason}");
                    writer.control.tell(Body::SaveFailed(SaveFailed { step, reason }));
                }
                if job.order.part == 0 && matches!(outcome, Ok(Outcome::Committed)) {
                    runtime.block_on(writer.note_remembered(&job));
                }
                incomplete = matches!(outcome, Ok(Outcome::Incomplete)).then_some(job.order);
                let _ = job.answer.send(outcome);
                if let Some(share) = lock(&then).take()
                    && let Some(order) = incomplete.take()
                {
                    runtime.block_on(writer.cover(&order, share, &job.copy));
                }
                // With the lock: who doesn't find the copy must find that somebody will look.
                let _looking = lock(&then);
                writing.store(false, Ordering::Release);
                let _ = done.send(job.copy);
            }
        })?;
        Ok(Self { tasks, copies, give_back, busy, cover_next, digested, remembered, took_ms })
    }

    /// A member was lost, perhaps with its part of the newest save: this worker writes its share of what isn't there,
    /// if that save isn't committed.
    pub(crate) fn cover(&self, share: Share) {
        let mut next = lock(&self.cover_next);
        match self.copies.try_recv() {
            Ok(copy) => {
                self.busy.store(true, Ordering::Release);
                let _ = self.tasks.send(Task::Cover(share, copy));
            }
            Err(_) => *next = Some(share),
        }
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

    /// Waits until nothing is being written, or so long.
    pub(crate) fn rest(&self, at_most: Duration) {
        if let Ok(copy) = self.copies.recv_timeout(at_most) {
            let _ = self.give_back.send(copy);
        }
    }

    /// The newest step whose state was copied to be saved, and the digest of that copy.
    pub(crate) fn digested(&self) -> Option<(u64, Digest)> {
        *self.digested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That state is not this worker's any more.
    pub(crate) fn forget_digest(&self) {
        *self.digested.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Adds to the run's record, at once.
    pub(crate) fn note(&self, event: RunEvent) {
        let _ = self.tasks.send(Task::Note(Box::new(event)));
    }

    /// Adds to the run's record with the next checkpoint, if this worker is first in the group then.
    pub(crate) fn remember(&self, event: RunEvent) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() == REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back(event);
    }

    /// Copies the state and writes it while training goes on. With `wait`, the writer waits so long for the others'
    /// parts.
    pub(crate) fn begin(&self, order: Order, state: &[f32], wait: Option<Duration>) -> Pending {
        let began = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let (answer, answered) = sync_channel(1);
        let (tell_digest, digested) = sync_channel(1);
        // An earlier save that is still being written holds the copy; only a save that must not be skipped gets here.
        if let Ok(mut copy) = self.copies.recv() {
            copy.copy_from(state);
            *lock(&self.cover_next) = None;
            self.busy.store(true, Ordering::Release);
            let wait = wait.map(|patience| (patience, Arc::clone(&stop)));
            let stall = began.elapsed();
            let _ = self.tasks.send(Task::Save(Job { order, copy, began, stall, wait, digested: tell_digest, answer }));
        }
        Pending { digested, answer: answered, stop }
    }
}

/// Nobody waits any more.
impl Drop for Pending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Pending {
    /// Waits for the digest of what is saved; gives up when `interrupted` says so.
    pub(crate) fn digest(&self, interrupted: &dyn Fn() -> bool) -> Option<Digest> {
        loop {
            match self.digested.recv_timeout(LOOK_AGAIN) {
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !interrupted() => {}
                answer => return answer.ok(),
            }
        }
    }

    /// Waits for the end; gives up when `interrupted` says so.
    pub(crate) fn wait(self, interrupted: &dyn Fn() -> bool) -> Option<Result<Outcome, CheckpointError>> {
        loop {
            match self.answer.recv_timeout(LOOK_AGAIN) {
                Ok(outcome) => return Some(outcome),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !interrupted() => {}
                Err(_) => return None,
            }
        }
    }
}

struct Writer {
    folder: RunFolder,
    tensors: Vec<TensorInfo>,
    retention: Retention,
    control: Control,
    faults: Faults,
    took_ms: Arc<std::sync::atomic::AtomicU64>,
    digested: Digested,
    remembered: Remembered,
}

impl Writer {
    async fn note(&self, events: &[RunEvent]) {
        if let Err(error) = self.folder.note(events).await {
            tracing::error!("can't add to the run's record, training goes on: {}", chain(&error));
        }
    }

    /// Adds what was remembered, and after the last checkpoint how the run ended.
    async fn note_remembered(&self, job: &Job) {
        let mut events = std::mem::take(&mut *self.remembered.lock().unwrap_or_else(PoisonError::into_inner));
        let digest = *self.digested.lock().unwrap_or_else(PoisonError::into_inner);
        if job.order.why == FINAL
            && let Some((step, state_digest)) = digest
        {
            let Order { loss, audits_passed, .. } = job.order;
            let at_ms = unix_ms(SystemTime::now());
            events.push_back(RunEvent::Finished(Finish { step, state_digest, loss, audits_passed, at_ms }));
        }
        if !events.is_empty() {
            self.note(events.make_contiguous()).await;
        }
    }

    async fn save(&self, job: &Job) -> Result<Outcome, CheckpointError> {
        let Order { step, part, parts, .. } = job.order;
        let state = job.copy.state();
        let digests = StateDigests::of(&self.tensors, state, step);
        let digest = digests.state();
        *self.digested.lock().unwrap_or_else(PoisonError::into_inner) = Some((step, digest));
        let _ = job.digested.try_send(digest);
        self.faults.at(step, Moment::Save);
        self.folder.write_part_of(&digests, step, part, parts, &self.tensors, state).await?;
        // Whoever finishes last commits; what a save costs must be known to all.
        let took = u64::try_from(job.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.took_ms.store(took.max(1), Ordering::Relaxed);
        self.faults.at(step, Moment::Checkpoint);
        let info = info(&job.order, digest);
        let written = Instant::now();
        loop {
            if let Some(manifest) = self.folder.try_commit(step, parts, &info).await? {
                self.committed(&manifest, job.began.elapsed(), job.stall).await;
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

    /// Writes this worker's share of what a lost member didn't: files that are there already are not written again.
    async fn cover(&self, order: &Order, Share { part, parts }: Share, copy: &StateCopy) {
        let step = order.step;
        // After a roll-back that state counts no more.
        if lock(&self.digested).is_none_or(|(newest, _)| newest != step) {
            return;
        }
        let began = Instant::now();
        let digests = StateDigests::of(&self.tensors, copy.state(), step);
        let covered = async {
            self.folder.write_part_of(&digests, step, part, parts, &self.tensors, copy.state()).await?;
            self.folder.try_commit(step, parts, &info(order, digests.state())).await
        };
        match covered.await {
            Ok(Some(manifest)) => {
                tracing::info!(step, "a save that lost a worker is whole");
                self.committed(&manifest, began.elapsed(), Duration::ZERO).await;
            }
            Ok(None) => tracing::info!(step, part, parts, "covered a share of a save that lost a worker"),
            Err(error) => tracing::warn!(step, "gives up a save that lost a worker: {}", chain(&error)),
        }
    }

    async fn committed(&self, manifest: &Manifest, took: Duration, stall: Duration) {
        tracing::info!(step = manifest.step, bytes = manifest.bytes(), ?took, "saved: {}", manifest.why);
        self.control.tell(Body::Saved(Saved {
            step: manifest.step,
            bytes: manifest.bytes(),
            seconds: took.as_secs_f64(),
            stall_ms: stall.as_secs_f64() * 1e3,
            why: manifest.why.clone(),
            state_digest: manifest.state_digest.to_string(),
            committed_ms: unix_ms(SystemTime::now()),
        }));
        let retention = Retention { just_saved: Some(manifest.step), ..self.retention };
        if let Err(error) = self.folder.prune(retention).await {
            tracing::warn!("can't remove older checkpoints: {}", chain(&error));
        }
    }
}

fn info(order: &Order, state_digest: Digest) -> CommitInfo {
    CommitInfo {
        loss: order.loss,
        world_size: order.parts,
        generation: order.generation,
        audits_passed: order.audits_passed,
        why: order.why.clone(),
        state_digest,
        created_ms: unix_ms(SystemTime::now()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
