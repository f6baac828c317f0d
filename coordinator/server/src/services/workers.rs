//! The service for workers: one stream each way. The first message says who it is; its token must say the same.

use super::Answers;
use crate::convert;
use crate::driver::{Attachment, DriverHandle, SessionId};
use crate::refusal::Refusal;
use coordinator_core::{InstanceId, WorkerId};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::workers_server::Workers;
use trainctl_proto::v1::{CoordinatorMessage, Hello, WorkerMessage};

/// Messages that wait for a worker to read them.
const OUTBOX_MAX: usize = 64;
/// How long a stream may be open without a first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// All that a stream needs.
pub(crate) struct WorkersService {
    pub(crate) driver: DriverHandle,
    /// Ends the streams.
    pub(crate) stopping: CancellationToken,
}

#[tonic::async_trait]
impl Workers for WorkersService {
    type AttachStream = Answers<CoordinatorMessage>;

    async fn attach(&self, request: Request<Streaming<WorkerMessage>>) -> Result<Response<Self::AttachStream>, Status> {
        let instance = request.extensions().get::<InstanceId>().cloned();
        let instance = instance.ok_or_else(|| Status::internal("attach: the caller's token was not looked at"))?;
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let stream = Stream { driver: self.driver.clone(), instance, outbox, over: self.stopping.child_token() };
        // Answered before the first message: a client may wait for the answer before it says anything.
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

struct Stream {
    driver: DriverHandle,
    instance: InstanceId,
    outbox: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    over: CancellationToken,
}

impl Stream {
    async fn run(self, mut messages: Streaming<WorkerMessage>) {
        if let Err(refusal) = self.session(&mut messages).await {
            tracing::info!(instance = %self.instance, %refusal, "a worker's stream was refused");
            // A worker that is gone or does not read can't be told; its stream ends all the same.
            let _ = self.outbox.try_send(Err(Status::from(refusal)));
        }
    }

    async fn session(&self, messages: &mut Streaming<WorkerMessage>) -> Result<(), Refusal> {
        let hello = self.hello(messages).await?;
        let worker = WorkerId::from(hello.worker.as_str());
        let attachment = Attachment {
            worker: worker.clone(),
            instance: self.instance.clone(),
            event: convert::attached(hello),
            outbox: self.outbox.clone(),
            over: self.over.clone(),
        };
        let session = self.driver.attach(attachment).await?;
        let outcome = self.listen(session, &worker, messages).await;
        self.driver.detach(session, worker).await?;
        outcome
    }

    async fn hello(&self, messages: &mut Streaming<WorkerMessage>) -> Result<Hello, Refusal> {
        let protocol =
            |expected: &str, found: &str| Refusal::Protocol { expected: expected.to_owned(), found: found.to_owned() };
        let first = tokio::time::timeout(HELLO_WITHIN, messages.message());
        let body = match first.await {
            Ok(Ok(Some(message))) => message.body,
            Ok(Ok(None)) => return Err(protocol("a hello", "the end of the stream")),
            Ok(Err(status)) => return Err(protocol("a hello", status.message())),
            Err(_elapsed) => return Err(protocol("a hello within 10 s", "nothing")),
        };
        let Some(Body::Hello(hello)) = body else {
            return Err(protocol("a hello as the first message", "another one"));
        };
        if hello.instance != self.instance.0 {
            let expected = format!("a worker on instance {}, as its token says", self.instance);
            return Err(protocol(&expected, &format!("one on {:?}", hello.instance)));
        }
        Ok(hello)
    }

    /// Hands on what the worker says until its stream ends, or another one of it has begun.
    async fn listen(
        &self,
        session: SessionId,
        worker: &WorkerId,
        messages: &mut Streaming<WorkerMessage>,
    ) -> Result<(), Refusal> {
        loop {
            let message = tokio::select! {
                message = messages.message() => message,
                () = self.over.cancelled() => return Ok(()),
            };
            let body = match message {
                Ok(Some(WorkerMessage { body: Some(body) })) => body,
                // Of a newer version: what it adds can be done without.
                Ok(Some(WorkerMessage { body: None })) => continue,
                Ok(None) => return Ok(()),
                Err(status) => {
                    tracing::debug!(%worker, %status, "a worker's stream broke");
                    return Ok(());
                }
            };
            let Some(event) = convert::event(worker, &self.instance, body) else {
                let expected = "no second hello in one stream".to_owned();
                return Err(Refusal::Protocol { expected, found: format!("one of {worker}") });
            };
            self.driver.say(session, worker.clone(), event).await?;
        }
    }
}
