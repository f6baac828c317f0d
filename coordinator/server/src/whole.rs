//! The parts of a running coordinator, and the order in which they end.

use crate::auth::{Keys, MachinesOnly, UserOnly, WorkersOnly};
use crate::driver::{DriverError, DriverHandle};
use crate::home::{Home, Identity};
use crate::providers::Providers;
use crate::serve::ServeError;
use crate::services::{JobsService, MESSAGE_BYTES_MAX, MachinesService, WORKER_MESSAGE_BYTES_MAX, WorkersService};
use crate::stop::{self, StopRequest};
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use trainctl_proto::v1::jobs_server::JobsServer;
use trainctl_proto::v1::machines_server::MachinesServer;
use trainctl_proto::v1::workers_server::WorkersServer;

/// A peer that does not answer a ping for so long is gone.
const PEER_SILENT_MAX: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(5);
/// Who has not proved to speak TLS by then is cut off.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long open calls may take to end when the coordinator stops.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// All that is answered.
pub(crate) struct Services {
    pub(crate) jobs: JobsService,
    pub(crate) workers: WorkersService,
    pub(crate) machines: MachinesService,
}

/// What answers calls, over TLS only if there is an identity. A key that is not the certificate's is an error.
pub(crate) fn server(identity: Option<&Identity>) -> Result<Server, tonic::transport::Error> {
    let server =
        Server::builder().http2_keepalive_interval(Some(PING_EVERY)).http2_keepalive_timeout(Some(PEER_SILENT_MAX));
    let Some(Identity { pem, .. }) = identity else { return Ok(server) };
    let identity = tonic::transport::Identity::from_pem(pem, pem);
    server.tls_config(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_WITHIN))
}

/// Answers calls until it is to stop and those that are open have ended.
pub(crate) async fn answer(
    mut server: Server,
    listener: TcpListener,
    keys: Keys,
    services: Services,
    stopping: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(PING_EVERY));
    let Services { jobs, workers, machines } = services;
    let jobs = JobsServer::new(jobs).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let workers = WorkersServer::new(workers).max_decoding_message_size(WORKER_MESSAGE_BYTES_MAX);
    let machines = MachinesServer::new(machines).max_decoding_message_size(WORKER_MESSAGE_BYTES_MAX);
    server
        .add_service(InterceptedService::new(jobs, UserOnly(keys.clone())))
        .add_service(InterceptedService::new(workers, WorkersOnly(keys.clone())))
        .add_service(InterceptedService::new(machines, MachinesOnly(keys)))
        .serve_with_incoming_shutdown(incoming, async move { stopping.cancelled().await })
        .await
}

/// All that runs, and must end in order.
pub(crate) struct Whole {
    pub(crate) home: Home,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) handle: DriverHandle,
    pub(crate) driver: JoinHandle<Result<(), DriverError>>,
    pub(crate) server: JoinHandle<Result<(), tonic::transport::Error>>,
    pub(crate) stopping: CancellationToken,
    pub(crate) ended: watch::Sender<bool>,
}

impl Whole {
    /// Until it is stopped or can't go on.
    pub(crate) async fn run(mut self, mut stop_requests: mpsc::Receiver<StopRequest>) -> Result<(), ServeError> {
        let mut waiting = Vec::new();
        let outcome = tokio::select! {
            ended = &mut self.driver => Err(driver_end(ended)),
            ended = &mut self.server => Err(server_end(ended)),
            Some(request) = stop_requests.recv() => {
                waiting.push(request.done);
                waiting.extend(stop::stop(request.mode, &self.handle, &self.providers, &mut stop_requests).await);
                self.close_driver().await
            }
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "the coordinator can't go on; workers train on");
            self.providers.pause();
        }
        let store = Arc::clone(&self.store);
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        self.home.withdraw();
        // All that waited are answered; further requests to stop find the channel closed, and are answered so.
        drop((waiting, stop_requests));
        self.stopping.cancel();
        if !self.server.is_finished() {
            let abort = self.server.abort_handle();
            if tokio::time::timeout(LAST_ANSWERS_WITHIN, &mut self.server).await.is_err() {
                abort.abort();
            }
        }
        drop(self.home);
        self.ended.send_replace(true);
        outcome?;
        Ok(closed.map_err(ServeError::Task)??)
    }

    async fn close_driver(&mut self) -> Result<(), ServeError> {
        self.handle.close().await;
        match (&mut self.driver).await {
            Ok(Ok(())) => Ok(()),
            ended => Err(driver_end(ended)),
        }
    }
}

fn driver_end(ended: Result<Result<(), DriverError>, tokio::task::JoinError>) -> ServeError {
    match ended {
        Ok(Err(error)) => error.into(),
        Err(error) => ServeError::Task(error),
        // It ends by itself only when every handle is gone, and one is in `Whole`.
        Ok(Ok(())) => unreachable!("the driver ended without having been told to"),
    }
}

fn server_end(ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> ServeError {
    match ended {
        Ok(Err(error)) => ServeError::Answer(error),
        Err(error) => ServeError::Task(error),
        Ok(Ok(())) => unreachable!("the server ended without having been told to"),
    }
}
