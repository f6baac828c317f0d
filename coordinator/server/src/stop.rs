//! Stopping: with the jobs saved and their workers ended, or leaving the workers to train on by themselves until the
//! next coordinator adopts them.

use crate::driver::DriverHandle;
use crate::providers::Providers;
use coordinator_core::{Core, Event};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long jobs may take to save.
const SUSPEND_WITHIN: Duration = Duration::from_secs(60);
/// What a worker that did not end by then gets between SIGTERM and SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What becomes of jobs and workers when the coordinator stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopMode {
    /// Jobs are saved and their workers ended; they go on at the next start.
    Suspend,
    /// Workers train on by themselves; the next coordinator adopts them.
    Leave,
    /// Workers are killed; their jobs go on from their newest checkpoints at the next start.
    Kill,
}

/// A request to stop.
#[derive(Debug)]
pub(crate) struct StopRequest {
    pub(crate) mode: StopMode,
    /// Dropped when it has stopped.
    pub(crate) done: oneshot::Sender<()>,
}

/// Asks for a stop.
#[derive(Clone, Debug)]
pub(crate) struct StopHandle(pub(crate) mpsc::Sender<StopRequest>);

impl StopHandle {
    /// Returns when all that matters is on disk; the last answers are still being sent then.
    pub(crate) async fn stop(&self, mode: StopMode) {
        let (done, stopped) = oneshot::channel();
        if self.0.send(StopRequest { mode, done }).await.is_ok() {
            // An error says that the coordinator has ended, which is what was asked for.
            let _ = stopped.await;
        }
    }
}

/// Does with jobs and workers what the first request says. A request to kill, made meanwhile, cuts a suspension short.
pub(crate) async fn stop(
    mode: StopMode,
    driver: &DriverHandle,
    providers: &Providers,
    more: &mut mpsc::Receiver<StopRequest>,
) -> Vec<oneshot::Sender<()>> {
    providers.pause();
    let mut waiting = Vec::new();
    let kill = match mode {
        StopMode::Leave => false,
        StopMode::Kill => true,
        StopMode::Suspend => tokio::select! {
            () = suspend(driver, providers) => false,
            () = killed(more, &mut waiting) => true,
        },
    };
    if kill {
        // So that nothing is started in place of those who are killed.
        let _ = driver.request(Event::SuspendRequested).await;
        providers.stop(Duration::ZERO).await;
    }
    waiting
}

async fn killed(more: &mut mpsc::Receiver<StopRequest>, waiting: &mut Vec<oneshot::Sender<()>>) {
    while let Some(request) = more.recv().await {
        waiting.push(request.done);
        if request.mode == StopMode::Kill {
            return;
        }
    }
    std::future::pending().await
}

/// Saves all jobs and ends all workers, by force those that are not done in time: none is left behind.
async fn suspend(driver: &DriverHandle, providers: &Providers) {
    let saved = tokio::time::timeout(SUSPEND_WITHIN, save(driver)).await;
    if saved.is_err() {
        tracing::warn!("jobs did not save within {} s; their workers are ended", SUSPEND_WITHIN.as_secs());
    }
    providers.stop(END_WITHIN).await;
}

async fn save(driver: &DriverHandle) {
    let mut revision = driver.revision();
    if driver.request(Event::SuspendRequested).await.is_err() {
        return;
    }
    loop {
        revision.borrow_and_update();
        match driver.read(at_rest).await {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
        if revision.changed().await.is_err() {
            return;
        }
    }
}

/// No job runs and no instance is left.
fn at_rest(core: &Core) -> bool {
    let rests = |state: &str| matches!(state, "suspended" | "succeeded" | "failed" | "cancelled");
    core.jobs().iter().all(|job| rests(job.state)) && core.instances().is_empty()
}
