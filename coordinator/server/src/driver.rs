//! The driver: one task that owns the scheduler. It takes events from a bounded queue, one after the other; for each it
//! commits all records in one batch, and only then does the rest. What comes of that returns as further events.

mod handle;
mod routes;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use handle::DriverHandle;
pub(crate) use session::{Attachment, SessionId};

use crate::clock::Clock;
use crate::convert::{self, JobInputs};
use crate::job_keys::JobKeys;
use crate::logs;
use crate::providers::Providers;
use crate::store::{Store, StoreError};
use coordinator_certificates::{CertificateError, Issued};
use coordinator_core::{
    Action, Core, DownCause, Event, InstanceId, JobId, LaunchError, LaunchErrorKind, PoolSpec, Record, Rejection,
    Scope, ToWorker, WorkerId,
};
use coordinator_provider::{LaunchRequest, UnknownPool};
use handle::Input;
use routes::Routes;
use session::Sessions;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// What the driver starts with.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) provider_events: mpsc::UnboundedReceiver<Event>,
    pub(crate) job_keys: BTreeMap<JobId, JobKeys>,
    pub(crate) clock: Clock,
    pub(crate) logs: PathBuf,
    pub(crate) orphan_s: u32,
    /// What an instance under the cluster's tag that nobody asked for gets to end by itself.
    pub(crate) unowned_grace: Duration,
}

/// The driver can't go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store does not keep what it is given: going on would be to act on what may be forgotten.
    #[error("commit the records of an event")]
    Store(#[from] StoreError),
    /// The system gives no randomness.
    #[error("make the keys of a job")]
    Keys(#[from] CertificateError),
    /// The thread that writes the store is gone.
    #[error("wait for the store")]
    Thread(#[source] tokio::task::JoinError),
}

/// The task's own state.
pub(crate) struct Driver {
    parts: Parts,
    inputs: mpsc::Receiver<Input>,
    sessions: Sessions,
    routes: Routes,
    /// Follow from what was just done, and come before anything from outside.
    pending: VecDeque<Event>,
    revision: watch::Sender<u64>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> (Self, DriverHandle) {
        let (handle, inputs, revision) = handle::queue();
        let routes = Routes::new(&parts.core);
        let (sessions, pending) = (Sessions::default(), VecDeque::new());
        let driver = Self { parts, inputs, sessions, routes, pending, revision };
        (driver, handle)
    }

    /// Runs until it is closed. What the provider has said by the start comes first, what it has said by the end is
    /// still taken in.
    pub(crate) async fn run(mut self) -> Result<(), DriverError> {
        self.drain().await?;
        for pool in self.forsaken_pools() {
            self.take(Event::PoolChanged { pool }).await?;
        }
        loop {
            while let Some(event) = self.pending.pop_front() {
                self.take(event).await?;
            }
            let deadline = self.parts.core.next_deadline().map(|at| self.parts.clock.instant(at));
            let tick = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.parts.provider_events.recv() => self.provider_event(event).await?,
                input = self.inputs.recv() => match input {
                    None | Some(Input::Close) => return self.drain().await,
                    Some(input) => self.input(input).await?,
                },
                () = tick => self.take(Event::Tick).await?,
            }
        }
    }

    /// Pools of an earlier start that are not configured any more: they hold nothing, and a job that waits for one can
    /// say so.
    fn forsaken_pools(&self) -> Vec<PoolSpec> {
        let configured = self.parts.providers.names();
        let known = self.parts.core.pools().into_iter().map(|pool| PoolSpec { capacity: 0, ..pool.spec });
        known.filter(|spec| !configured.contains(&spec.of)).collect()
    }

    /// What the provider has said so far.
    async fn drain(&mut self) -> Result<(), DriverError> {
        while let Ok(event) = self.parts.provider_events.try_recv() {
            self.provider_event(event).await?;
        }
        Ok(())
    }

    async fn input(&mut self, input: Input) -> Result<(), DriverError> {
        match input {
            // Whoever asked may have gone away meanwhile; what was asked is done all the same.
            Input::Event { event, answer } => {
                let _ = answer.send(self.take_with(event, Vec::new()).await?);
            }
            Input::Submit { event, job, answer } => {
                let _ = answer.send(self.submit(event, job).await?);
            }
            Input::Attach { attachment, answer } => {
                if let Some(rejection) = self.impostor(&attachment) {
                    let _ = answer.send(Err(rejection));
                    return Ok(());
                }
                let (worker, event) = (attachment.worker.clone(), attachment.event.clone());
                // Open before the event: the welcome that it leads to goes through it.
                let session = self.sessions.open(*attachment);
                let outcome = self.take_with(event, Vec::new()).await?;
                if outcome.is_err() {
                    self.sessions.close(session, &worker);
                }
                let _ = answer.send(outcome.map(|()| session));
            }
            Input::FromWorker { session, worker, event } => {
                if self.sessions.is_current(session, &worker) {
                    self.take(event).await?;
                }
            }
            Input::Detach { session, worker } => {
                if self.sessions.close(session, &worker) {
                    self.take(Event::WorkerDetached { worker }).await?;
                }
            }
            Input::Read(look) => look(&self.parts.core),
            Input::Close => {}
        }
        Ok(())
    }

    /// One who says that it is another worker than its instance's: it must not get that one's session.
    fn impostor(&self, attachment: &Attachment) -> Option<Rejection> {
        let Attachment { worker, instance, .. } = attachment;
        match self.parts.core.instances().into_iter().find(|view| view.instance == *instance) {
            Some(view) if view.worker != *worker => Some(Rejection::WrongWorker {
                instance: instance.clone(),
                expected: view.worker,
                found: worker.clone(),
            }),
            None if self.sessions.is_open(worker) => Some(Rejection::UnknownInstance(instance.clone())),
            _ => None,
        }
    }

    async fn submit(&mut self, event: Event, job: JobId) -> Result<Result<(), Rejection>, DriverError> {
        match &event {
            Event::JobSubmitted { spec, .. } if !self.parts.core.may_submit(&job, spec) => {
                return Ok(Err(Rejection::JobExists(job)));
            }
            // It goes on with the keys that it has.
            _ if self.parts.job_keys.contains_key(&job) => return self.take_with(event, Vec::new()).await,
            _ => {}
        }
        let keys = JobKeys::new(&job)?;
        let records = keys.records(&job);
        // Before the event: workers may be launched, and attach, as soon as it is taken in.
        self.parts.job_keys.insert(job, keys);
        self.take_with(event, records.into()).await
    }

    async fn provider_event(&mut self, event: Event) -> Result<(), DriverError> {
        let unknown = self.routes.heard(&event, &self.parts.core, Instant::now());
        if let Event::InstancesListed { provider, .. } = &event {
            for instance in unknown {
                if self.parts.providers.note_unowned(&instance, provider) {
                    let grace_s = self.parts.unowned_grace.as_secs();
                    tracing::warn!(%instance, %provider, grace_s, "found an instance that nobody asked for; it is ended");
                }
            }
        }
        if let Event::InstanceDown { instance, cause: DownCause::Exited(1..) | DownCause::Killed(_) } = &event {
            let died = self.parts.core.instances().into_iter().find(|view| view.instance == *instance);
            if let Some(view) = died {
                let path = logs::path(&self.parts.logs, &view.job, &view.worker);
                if let Some(lines) = logs::last_lines(path).await {
                    self.take(Event::WorkerLogged { worker: view.worker, lines }).await?;
                }
            }
        }
        self.take(event).await
    }

    async fn take(&mut self, event: Event) -> Result<(), DriverError> {
        self.take_with(event, Vec::new()).await?.unwrap_or_else(|rejection| {
            // Late and stray messages are part of its life.
            tracing::debug!(%rejection, "an event was refused");
        });
        Ok(())
    }

    /// One event: decided, persisted together with `batch`, then acted on.
    async fn take_with(&mut self, event: Event, mut batch: Vec<Record>) -> Result<Result<(), Rejection>, DriverError> {
        let mut actions = Vec::new();
        let now = self.parts.clock.now();
        let core = &mut self.parts.core;
        let late_ms = core.next_deadline().map_or(0, |deadline| now.since_ms(deadline));
        if late_ms > core.settings().heartbeat_ms / 2 {
            tracing::info!(late_ms, "the coordinator was held up; workers' silence is counted anew");
            if let Err(rejection) = core.handle(now, Event::Awoke, &mut actions) {
                unreachable!("it is about nobody who may be unknown: {rejection}");
            }
        }
        let outcome = core.handle(now, event, &mut actions);
        if cfg!(debug_assertions) {
            self.parts.core.check_invariants();
        }
        let mut effects = Vec::with_capacity(actions.len());
        for action in actions {
            match action {
                Action::Persist(record) => batch.push(record),
                effect => effects.push(effect),
            }
        }
        if !batch.is_empty() {
            let store = Arc::clone(&self.parts.store);
            tokio::task::spawn_blocking(move || store.commit(&batch)).await.map_err(DriverError::Thread)??;
        }
        for effect in effects {
            self.perform(effect);
        }
        self.revision.send_modify(|revision| *revision += 1);
        Ok(outcome)
    }

    fn perform(&mut self, effect: Action) {
        match effect {
            Action::Persist(record) => unreachable!("{} is committed before the effects", record.key),
            Action::Launch { instance, worker, pool, job, generation } => {
                self.launch(LaunchRequest { instance, worker, pool, job, generation });
            }
            Action::Terminate { instance, grace_ms } => {
                let left = self.routes.left(&instance, self.parts.unowned_grace, Instant::now());
                self.terminate(&instance, left.unwrap_or(Duration::from_millis(grace_ms)));
            }
            Action::Evict { instance, notice_ms } => {
                let provider = self.routes.of_instance(&instance).and_then(|name| self.parts.providers.named(name));
                if let Some(provider) = provider {
                    provider.evict(&instance, Duration::from_millis(notice_ms));
                }
            }
            Action::Send { worker, message } => self.tell(worker, message),
        }
    }

    fn launch(&mut self, request: LaunchRequest) {
        let providers = &self.parts.providers;
        match self.routes.of_pool(&request.pool).and_then(|name| providers.named(name)) {
            Some(provider) => {
                self.routes.launched(&request.instance, &provider.name());
                provider.launch(&request);
            }
            None => {
                let message = UnknownPool::new(&request.pool, providers.names()).to_string();
                let error = LaunchError { kind: LaunchErrorKind::Configuration, scope: Scope::Pool, message };
                self.pending.push_back(Event::LaunchFailed { instance: request.instance, error });
            }
        }
    }

    /// Whose an instance is, is not known after its pool's provider was taken out of the configuration; it is asked of
    /// all, and whoever has it ends it.
    fn terminate(&mut self, instance: &InstanceId, grace: Duration) {
        let providers = &self.parts.providers;
        match self.routes.of_instance(instance).and_then(|name| providers.named(name)) {
            Some(provider) => provider.terminate(instance, grace),
            None => providers.iter().for_each(|provider| provider.terminate(instance, grace)),
        }
    }

    fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        let inputs = |job: &JobId| {
            let keys = self.parts.job_keys.get(job)?;
            let issued = keys.authority.issue(&worker.0).inspect_err(|error| tracing::error!(%worker, "{error}"));
            let Issued { certificate, key: certificate_key } = issued.ok()?;
            Some(JobInputs {
                spec_json: serde_json::to_string(self.parts.core.spec(job)?).ok()?,
                manifest_json: self.parts.core.manifest_json(job)?.to_owned(),
                secret: keys.secret,
                authority: keys.authority.certificate().to_vec(),
                certificate,
                certificate_key,
                heartbeat_ms: self.parts.core.settings().heartbeat_ms,
                orphan_s: self.parts.orphan_s,
            })
        };
        let Some(message) = convert::message(message, inputs) else {
            tracing::error!(%worker, "a worker of a job whose spec or keys are not in the store can't be welcomed");
            return;
        };
        if self.sessions.tell(&worker, message) == session::Told::CutOff {
            tracing::info!(%worker, "a worker does not read what it is told; its stream is closed, it attaches again");
            self.pending.push_back(Event::WorkerDetached { worker });
        }
    }
}
