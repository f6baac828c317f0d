//! The worker's end of the stream to its coordinator: attaches, attaches again when the stream breaks, and moves
//! messages between it and [`Control`]. Runs on a thread of its own, so that it goes on while a step is computed.

use crate::control::Control;
use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};
use trainctl_jobs::{EncryptionSpec, JobSpec};
use trainctl_proto::dial::{Address, Certificate, DialError};
use trainctl_proto::v1::coordinator_message::Body as FromCoordinator;
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::workers_client::WorkersClient;
use trainctl_proto::v1::{self, CoordinatorMessage, Hello, Notice, RebalanceRecommended, Welcome, WorkerMessage};
use trainer_collective::{Credentials, Encryption, Identity, Inbox, Links, listen};
use trainer_core::{Assignment, Member};
use trainer_notices::{Source, Warning, watch};

/// A welcome carries the job's data manifest; a coordinator accepts one of this size.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a last word may take to be heard.
const FAREWELL: Duration = Duration::from_secs(3);
/// What SIGTERM is taken to leave; the pool or the cloud know better and say so themselves.
const ASSUMED_NOTICE: Duration = Duration::from_secs(5);
/// A cloud says one or two things, once.
const WARNINGS: usize = 8;

/// Who this worker is, and where its coordinator is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) worker: String,
    pub(crate) instance: String,
    pub(crate) token: String,
    pub(crate) coordinator: Coordinator,
    pub(crate) data_address: String,
    pub(crate) fingerprint: String,
    pub(crate) fingerprint_detail: String,
    /// Who says that the machine is taken, beside SIGTERM.
    pub(crate) notices: Option<Source>,
}

/// Where the coordinator is.
#[derive(Clone, Debug)]
pub(crate) enum Coordinator {
    /// There.
    At(Address),
    /// At the `address` in this JSON file, known by the `certificate` in it; a restarted coordinator writes it anew.
    File(PathBuf),
}

impl Coordinator {
    fn address(&self) -> anyhow::Result<Address> {
        match self {
            Self::At(address) => Ok(address.clone()),
            Self::File(path) => {
                let place = || path.display().to_string();
                let text = std::fs::read_to_string(path).with_context(|| format!("read {}", place()))?;
                let json: Value = serde_json::from_str(&text).with_context(|| format!("read {} as JSON", place()))?;
                let field = |name: &str| json.get(name).and_then(Value::as_str);
                let address = field("address").with_context(|| format!("{}: expected an \"address\"", place()))?;
                let certificate = field("certificate").map(Certificate::parse).transpose().with_context(place)?;
                Address::new(address, certificate).with_context(place)
            }
        }
    }
}

/// Ends the attachment after everything told so far was heard.
pub(crate) type Closing = oneshot::Sender<oneshot::Sender<()>>;

/// Attaches until told to close. Returns how to tell it.
pub(crate) fn start(
    place: Place,
    listener: TcpListener,
    control: Control,
    messages: Receiver<Body>,
) -> anyhow::Result<Closing> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let (closing, close) = oneshot::channel();
    let terminate = {
        let _guard = runtime.enter();
        signal(SignalKind::terminate()).context("watch for SIGTERM")?
    };
    let (warn, warnings) = channel(WARNINGS);
    if let Some(source) = place.notices.clone() {
        runtime.spawn(watch(source, warn));
    }
    let attachment = Attachment {
        place,
        listener: Some(listener),
        control,
        messages,
        terminate,
        warnings,
        taken_at: None,
        heartbeat: None,
        leaving: None,
    };
    std::thread::Builder::new()
        .name("attachment".to_owned())
        .spawn(move || runtime.block_on(attachment.run(close)))
        .context("start a thread")?;
    Ok(closing)
}

struct Attachment {
    place: Place,
    listener: Option<TcpListener>,
    control: Control,
    messages: Receiver<Body>,
    terminate: Signal,
    warnings: Receiver<Warning>,
    /// When the cloud takes the machine, once it has said so.
    taken_at: Option<SystemTime>,
    heartbeat: Option<Duration>,
    /// This worker is done; to be told when its last word was heard.
    leaving: Option<oneshot::Sender<()>>,
}

type Close = oneshot::Receiver<oneshot::Sender<()>>;

impl Attachment {
    async fn run(mut self, mut close: Close) {
        let mut wait = FIRST_WAIT;
        let mut told = false;
        loop {
            match self.attach().await {
                Ok((to, from)) => {
                    self.control.connected(true);
                    wait = FIRST_WAIT;
                    match self.converse(to, from, &mut close).await {
                        Ok(()) => return,
                        Err(error) => tracing::warn!("lost the coordinator, training goes on: {error:#}"),
                    }
                    self.control.connected(false);
                }
                // It answers, but not as it should: that does not pass by itself, as a restart does.
                Err(error) if answers(&error) && !std::mem::replace(&mut told, true) => {
                    tracing::error!("can't attach: {error:#}{}", hint(&error));
                }
                Err(error) => tracing::debug!("can't attach: {error:#}"),
            }
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.terminate.recv() => self.terminated(true),
                Some(warning) = self.warnings.recv() => self.warned(warning, true),
                closed = &mut close, if self.leaving.is_none() => {
                    // Its last word is told on attaching, if that works out before the process ends.
                    self.leaving = closed.ok();
                    continue;
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn terminated(&self, alone: bool) {
        // A machine that is taken shuts down, which sends this signal too; the cloud knows how long that takes.
        let deadline = self.taken_at.unwrap_or_else(|| SystemTime::now() + ASSUMED_NOTICE);
        self.noticed(deadline, "SIGTERM".to_owned(), alone);
    }

    fn warned(&mut self, warning: Warning, alone: bool) {
        match warning {
            Warning::Eviction { deadline, source } => {
                self.taken_at = Some(deadline);
                self.noticed(deadline, source, alone);
            }
            Warning::Rebalance { source } => {
                tracing::info!("this machine is likely to be taken ({source})");
                self.control.tell(Body::RebalanceRecommended(RebalanceRecommended { source }));
            }
        }
    }

    fn noticed(&self, deadline: SystemTime, source: String, alone: bool) {
        let left_s = deadline.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
        if alone {
            // Nobody can plan this worker's departure: at least save what it holds.
            tracing::info!(
                left_s,
                "got notice ({source}) while there is no coordinator: saves at the next step boundary"
            );
            self.control.ask_to_save("notice".to_owned());
        } else {
            tracing::info!(left_s, "got notice ({source})");
        }
        self.control.noticed(Notice { deadline_ms: unix_ms(deadline), source });
    }

    async fn attach(&self) -> anyhow::Result<(Sender<WorkerMessage>, Streaming<CoordinatorMessage>)> {
        let address = self.place.coordinator.address()?;
        let channel_ = address.connect(|endpoint| {
            endpoint
                .connect_timeout(CONNECT_PATIENCE)
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(10))
                .tcp_nodelay(true)
        });
        let channel_ = channel_.await?;
        let (to, outgoing) = channel(64);
        let (progress, newest, finished) = self.control.standing();
        let hello = Hello {
            worker: self.place.worker.clone(),
            instance: self.place.instance.clone(),
            pid: std::process::id(),
            data_address: self.place.data_address.clone(),
            fingerprint: self.place.fingerprint.clone(),
            fingerprint_detail: self.place.fingerprint_detail.clone(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            job: self.control.welcome().map(|(welcome, _)| welcome.job).unwrap_or_default(),
            generation: newest,
            has_state: progress.has_state,
            step: progress.step,
            finished,
        };
        say(&to, Body::Hello(hello)).await?;
        let mut request = Request::new(ReceiverStream::new(outgoing));
        let token = MetadataValue::try_from(format!("Bearer {}", self.place.token)).context("send the token")?;
        request.metadata_mut().insert("authorization", token);
        let answer = WorkersClient::new(channel_)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .attach(request)
            .await
            .context("attach")?;
        for body in self.control.retold() {
            say(&to, body).await?;
        }
        Ok((to, answer.into_inner()))
    }

    /// `Ok` when the worker is done.
    async fn converse(
        &mut self,
        to: Sender<WorkerMessage>,
        mut from: Streaming<CoordinatorMessage>,
        close: &mut Close,
    ) -> anyhow::Result<()> {
        if self.leaving.is_some() {
            return self.say_goodbye(to, from).await;
        }
        let mut heartbeat = interval(self.heartbeat.unwrap_or(Duration::from_millis(250)));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = from.message() => {
                    let message = message?.context("the coordinator closed the stream")?;
                    if let Some(FromCoordinator::Welcome(welcome)) = &message.body {
                        let every = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(10)));
                        if self.heartbeat.replace(every) != Some(every) {
                            heartbeat = interval(every);
                            heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                        }
                    }
                    self.heard(message)?;
                }
                Some(body) = self.messages.recv() => {
                    // So that what follows from it is decided, and recorded, at the step that it belongs to.
                    say(&to, Body::Heartbeat(self.control.standing().0)).await?;
                    say(&to, body).await?;
                }
                _ = heartbeat.tick() => say(&to, Body::Heartbeat(self.control.standing().0)).await?,
                _ = self.terminate.recv() => self.terminated(false),
                Some(warning) = self.warnings.recv() => self.warned(warning, false),
                closed = &mut *close => {
                    self.leaving = closed.ok();
                    return self.say_goodbye(to, from).await;
                }
            }
        }
    }

    /// Says what is left to say, and waits until it was heard.
    async fn say_goodbye(
        &mut self,
        to: Sender<WorkerMessage>,
        mut from: Streaming<CoordinatorMessage>,
    ) -> anyhow::Result<()> {
        while let Ok(body) = self.messages.try_recv() {
            say(&to, body).await?;
        }
        drop(to);
        let ended = async { while let Ok(Some(_)) = from.message().await {} };
        if timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("the coordinator did not confirm the last messages");
        }
        if let Some(done) = self.leaving.take() {
            let _ = done.send(());
        }
        Ok(())
    }

    fn heard(&mut self, message: CoordinatorMessage) -> anyhow::Result<()> {
        match message.body.context("the coordinator sent an empty message")? {
            FromCoordinator::Welcome(welcome) => self.welcomed(welcome)?,
            FromCoordinator::Assign(assign) => self.assigned(assign)?,
            FromCoordinator::Join(join) => {
                let donor = join.donor.context("Join without a donor")?;
                let donors = std::iter::once(donor).chain(join.others).map(member).collect();
                self.control.ask_to_join(donors, join.rollbacks);
            }
            FromCoordinator::Exit(exit) => self.control.ask_to_exit(exit.reason),
        }
        Ok(())
    }

    fn welcomed(&mut self, welcome: Welcome) -> anyhow::Result<()> {
        if self.control.welcome().is_some() {
            return Ok(());
        }
        let secret = welcome.secret.as_slice().try_into().map_err(|_| anyhow!("expected a secret of 32 bytes"))?;
        let identity = Identity { worker: self.place.worker.clone(), secret };
        let inbox = Inbox::new(identity, links(&welcome)?, self.control.bell()).context("set up connections")?;
        listen(self.listener.take().context("the listener is in use already")?, inbox.clone());
        self.control.welcomed(welcome, inbox);
        Ok(())
    }

    fn assigned(&self, assign: v1::Assign) -> anyhow::Result<()> {
        let Some((welcome, inbox)) = self.control.welcome() else { bail!("assigned before welcomed") };
        let spec: JobSpec = serde_json::from_str(&welcome.spec_json).context("read the job spec")?;
        let assignment = Assignment {
            generation: assign.generation,
            immediate: assign.immediate,
            members: assign.members.into_iter().map(member).collect(),
            reason: assign.reason,
        };
        let assignment = assignment.check(spec.train.logical_shards)?;
        tracing::info!(
            generation = assignment.generation,
            immediate = assignment.immediate,
            members = assignment.members.len(),
            "assigned: {}",
            assignment.reason
        );
        if let Some(rollback) = assign.rollback {
            self.control.rolled_back(assignment.generation, rollback);
        }
        if assignment.generation > self.control.newest_generation() {
            inbox.dial_mesh(assignment.generation, &assignment.members);
        }
        self.control.offer(assignment);
        Ok(())
    }
}

/// What the job wants of the connections to peers.
fn links(welcome: &Welcome) -> anyhow::Result<Links> {
    let spec: JobSpec = serde_json::from_str(&welcome.spec_json).context("read the job spec")?;
    let encryption = match spec.resources.encryption {
        EncryptionSpec::BetweenHosts => Encryption::BetweenHosts,
        EncryptionSpec::Always => Encryption::Always,
        EncryptionSpec::Never => Encryption::Never,
    };
    let Welcome { authority, certificate, certificate_key, .. } = welcome;
    let credentials = (!certificate.is_empty())
        .then(|| Credentials::new(authority, certificate, certificate_key))
        .transpose()
        .context("take this worker's certificate")?;
    Ok(Links { encryption, silence: spec.resources.peer_silence.duration(), credentials })
}

/// What can be done about it, on a line of its own.
pub(crate) fn hint(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<DialError>().and_then(DialError::hint);
    hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default()
}

/// Somebody is there.
pub(crate) fn answers(error: &anyhow::Error) -> bool {
    error.downcast_ref::<DialError>().is_some_and(|error| !matches!(error, DialError::Unreachable { .. }))
}

async fn say(to: &Sender<WorkerMessage>, body: Body) -> anyhow::Result<()> {
    to.send(WorkerMessage { body: Some(body) }).await.map_err(|_| anyhow!("the stream is closed"))
}

fn member(member: v1::Member) -> Member {
    Member { worker: member.worker, address: member.address, shards: member.first_shard..member.end_shard }
}

/// Unix milliseconds.
pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
