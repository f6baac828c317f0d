//! The service for machines that join a pool: carries what they say to their seat in it, and their orders back.

use super::Answers;
use crate::providers::Providers;
use crate::refusal::Refusal;
use coordinator_core::{InstanceId, PoolName};
use coordinator_static::{Hello, Order, Seat};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use trainctl_proto::v1::machine_message::Body;
use trainctl_proto::v1::machine_order::Body as ToBody;
use trainctl_proto::v1::machines_server::Machines;
use trainctl_proto::v1::{EndWorker, MachineHello, MachineMessage, MachineOrder, StartWorker};

/// Orders that wait for a machine to read them.
const ORDERS_MAX: usize = 16;
/// How long a stream may be open without a first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// All that a stream needs.
pub(crate) struct MachinesService {
    pub(crate) providers: Arc<Providers>,
    pub(crate) cluster: String,
    /// Ends the streams.
    pub(crate) stopping: CancellationToken,
}

#[tonic::async_trait]
impl Machines for MachinesService {
    type JoinStream = Answers<MachineOrder>;

    async fn join(&self, request: Request<Streaming<MachineMessage>>) -> Result<Response<Self::JoinStream>, Status> {
        let pool = request.extensions().get::<PoolName>().cloned();
        let pool = pool.ok_or_else(|| Status::internal("join: the caller's token was not looked at"))?;
        let (answers, stream) = mpsc::channel(ORDERS_MAX);
        let stopping = self.stopping.clone();
        let machine = Machine { providers: Arc::clone(&self.providers), pool, cluster: self.cluster.clone(), answers };
        let mut messages = request.into_inner();
        // Answered before the first message: a client may wait for the answer before it says anything.
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                outcome = machine.run(&mut messages) => if let Err(refusal) = outcome {
                    tracing::info!(pool = %machine.pool, %refusal, "a machine was refused");
                    // One that is gone can't be told; its stream ends all the same.
                    let _ = machine.answers.try_send(Err(Status::from(refusal)));
                },
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

struct Machine {
    providers: Arc<Providers>,
    pool: PoolName,
    cluster: String,
    answers: mpsc::Sender<Result<MachineOrder, Status>>,
}

impl Machine {
    async fn run(&self, messages: &mut Streaming<MachineMessage>) -> Result<(), Refusal> {
        let hello = self.hello(messages).await?;
        let (orders, mut ordered) = mpsc::channel(ORDERS_MAX);
        let seat = self.providers.machines().join(&self.pool, hello, orders)?;
        loop {
            tokio::select! {
                order = ordered.recv() => {
                    // None: the machine has joined anew, over another stream.
                    let Some(order) = order else { return Ok(()) };
                    if self.answers.send(Ok(self.to_wire(order))).await.is_err() {
                        return Ok(());
                    }
                }
                message = messages.message() => match message {
                    Ok(Some(message)) => heard(&seat, message.body),
                    Ok(None) | Err(_) => return Ok(()),
                },
            }
        }
    }

    async fn hello(&self, messages: &mut Streaming<MachineMessage>) -> Result<Hello, Refusal> {
        let first = tokio::time::timeout(HELLO_WITHIN, messages.message()).await;
        let Ok(Ok(Some(MachineMessage { body: Some(Body::Hello(hello)) }))) = first else {
            let (expected, found) = ("a hello as the first message".to_owned(), "none".to_owned());
            return Err(Refusal::Protocol { expected, found });
        };
        let MachineHello { machine, host, pid, instance, ended_instance, exit_code } = hello;
        if machine.is_empty() {
            let (expected, found) = ("the name of a machine".to_owned(), "an empty one".to_owned());
            return Err(Refusal::Protocol { expected, found });
        }
        let named = |instance: String| (!instance.is_empty()).then_some(InstanceId(instance));
        let ended = named(ended_instance).map(|instance| (instance, exit_code));
        Ok(Hello { machine, host, pid, instance: named(instance), ended })
    }

    fn to_wire(&self, order: Order) -> MachineOrder {
        let body = match order {
            Order::Start { instance, worker, token } => ToBody::Start(StartWorker {
                cluster: self.cluster.clone(),
                instance: instance.0,
                worker: worker.0,
                token,
            }),
            Order::End { instance, grace } => ToBody::End(EndWorker {
                instance: instance.0,
                grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            }),
        };
        MachineOrder { body: Some(body) }
    }
}

fn heard(seat: &Seat, body: Option<Body>) {
    match body {
        Some(Body::Started(started)) => seat.started(&InstanceId(started.instance)),
        Some(Body::Leaving(_)) => seat.leaving(),
        // A second hello says nothing new; what can't be read is of a newer version.
        Some(Body::Hello(_)) | None => {}
    }
}
