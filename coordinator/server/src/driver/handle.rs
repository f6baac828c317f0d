//! How the rest of the server speaks to the driver: through a bounded queue, each question with its answer.

use super::{Attachment, SessionId};
use crate::refusal::Refusal;
use coordinator_core::{Core, Event, JobId, Rejection, WorkerId};
use tokio::sync::{mpsc, oneshot, watch};

/// Inputs that wait for the driver; whoever sends more waits itself.
const INPUTS_MAX: usize = 256;

/// One thing for the driver to do.
pub(super) enum Input {
    Event { event: Event, answer: oneshot::Sender<Result<(), Rejection>> },
    Submit { event: Event, job: JobId, answer: oneshot::Sender<Result<(), Rejection>> },
    Attach { attachment: Box<Attachment>, answer: oneshot::Sender<Result<SessionId, Rejection>> },
    FromWorker { session: SessionId, worker: WorkerId, event: Event },
    Detach { session: SessionId, worker: WorkerId },
    Read(Box<dyn FnOnce(&Core) + Send>),
    Close,
}

/// How the rest of the server speaks to the driver.
#[derive(Clone)]
pub(crate) struct DriverHandle {
    inputs: mpsc::Sender<Input>,
    revision: watch::Receiver<u64>,
}

/// The driver's end of the queue, and the counter that it moves on after each event.
pub(super) fn queue() -> (DriverHandle, mpsc::Receiver<Input>, watch::Sender<u64>) {
    let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
    let sender = watch::Sender::new(0);
    (DriverHandle { inputs, revision: sender.subscribe() }, receiver, sender)
}

impl DriverHandle {
    /// Lets the scheduler take an event in, and waits until it is persisted and acted on.
    pub(crate) async fn request(&self, event: Event) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Event { event, answer }).await?;
        Ok(answered.await.map_err(|_| Refusal::Stopping)??)
    }

    /// Takes a job in, with keys of its own.
    pub(crate) async fn submit(&self, job: JobId, event: Event) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Submit { event, job, answer }).await?;
        Ok(answered.await.map_err(|_| Refusal::Stopping)??)
    }

    /// Opens a worker's session; it replaces an earlier one of the same worker.
    pub(crate) async fn attach(&self, attachment: Attachment) -> Result<SessionId, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Attach { attachment: Box::new(attachment), answer }).await?;
        Ok(answered.await.map_err(|_| Refusal::Stopping)??)
    }

    /// What a worker says in its session. Nothing waits for what comes of it.
    pub(crate) async fn say(&self, session: SessionId, worker: WorkerId, event: Event) -> Result<(), Refusal> {
        self.send(Input::FromWorker { session, worker, event }).await
    }

    /// The worker's stream ended.
    pub(crate) async fn detach(&self, session: SessionId, worker: WorkerId) -> Result<(), Refusal> {
        self.send(Input::Detach { session, worker }).await
    }

    /// Looks at the scheduler as it is after all that came before.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let look = move |core: &Core| {
            // Nobody waits any more when the caller went away.
            let _ = answer.send(look(core));
        };
        self.send(Input::Read(Box::new(look))).await?;
        answered.await.map_err(|_| Refusal::Stopping)
    }

    /// Moves on after each event.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Ends the driver after all that came before.
    pub(crate) async fn close(&self) {
        let _ = self.send(Input::Close).await;
    }

    async fn send(&self, input: Input) -> Result<(), Refusal> {
        self.inputs.send(input).await.map_err(|_| Refusal::Stopping)
    }
}
