//! A machine of one's own: it joins a pool of its coordinator, waits until it is told which worker to be, and when that has
//! ended it starts this program over, in the same process, and joins again. So each worker begins with a clean memory.
//!
//! The connection lives on a thread of its own while the worker trains: it tells the coordinator that the machine is
//! there, and hears when the worker is to end.

use crate::attachment::{answers, hint};
use anyhow::{Context, anyhow, bail};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use trainctl_proto::dial::Address;
use trainctl_proto::v1::machine_message::Body;
use trainctl_proto::v1::machine_order::Body as Order;
use trainctl_proto::v1::machines_client::MachinesClient;
use trainctl_proto::v1::{
    EndWorker, MachineHello, MachineLeaving, MachineMessage, MachineOrder, MachineStarted, StartWorker,
};

/// Holds the pool's join token; not an argument, which every process of the machine could read.
pub(crate) const TOKEN_VARIABLE: &str = "TRAINCTL_JOIN_TOKEN";
/// The machine's name, handed on from start to start.
const MACHINE_VARIABLE: &str = "TRAINCTL_MACHINE";
/// What it was before this start, `i7:0`.
const ENDED_VARIABLE: &str = "TRAINCTL_ENDED";

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// This machine as a member of its pool.
pub(crate) struct Machine {
    name: String,
    leaving: Arc<AtomicBool>,
}

impl Machine {
    /// Joins, and waits for the worker to be. `None`: the machine is taken away before there was one.
    pub(crate) fn join(address: &Address) -> anyhow::Result<Option<(Self, StartWorker)>> {
        let token = std::env::var(TOKEN_VARIABLE)
            .with_context(|| format!("read {TOKEN_VARIABLE}; `trainctl pool token POOL` prints one"))?;
        let name = match std::env::var(MACHINE_VARIABLE) {
            Ok(name) => name,
            Err(_) => std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("name this machine")?,
        };
        let name = name.trim().to_owned();
        let leaving = Arc::new(AtomicBool::new(false));
        let machine = Self { name: name.clone(), leaving: Arc::clone(&leaving) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let terminate = {
            let _guard = runtime.enter();
            signal(SignalKind::terminate()).context("watch for SIGTERM")?
        };
        let (start, started) = oneshot::channel();
        let ended = std::env::var(ENDED_VARIABLE).ok().and_then(|text| {
            let (instance, code) = text.rsplit_once(':')?;
            Some((instance.to_owned(), code.parse().ok()?))
        });
        let connection = Connection {
            address: address.clone(),
            token,
            machine: name,
            ended,
            instance: None,
            end_at: None,
            start: Some(start),
            terminate,
            leaving,
        };
        std::thread::Builder::new()
            .name("machine".to_owned())
            .spawn(move || runtime.block_on(connection.run()))
            .context("start a thread")?;
        match started.blocking_recv() {
            Ok(Ok(start)) => Ok(Some((machine, start))),
            Ok(Err(error)) => Err(error),
            Err(_gone) => Ok(None),
        }
    }

    /// The worker has ended: starts over, unless the machine is taken away.
    pub(crate) fn again(&self, instance: &str, code: ExitCode, number: u8) -> anyhow::Result<ExitCode> {
        if self.leaving.load(Ordering::Acquire) {
            return Ok(code);
        }
        Err(start_over(&self.name, instance, i32::from(number)))
    }
}

/// Replaces this process by a fresh one; returns only if that is not possible.
fn start_over(machine: &str, instance: &str, code: i32) -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return anyhow::Error::new(error).context("find this program"),
    };
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(MACHINE_VARIABLE, machine)
        .env(ENDED_VARIABLE, format!("{instance}:{code}"))
        .exec();
    anyhow::Error::new(error).context("start over")
}

struct Connection {
    address: Address,
    token: String,
    machine: String,
    /// Told once.
    ended: Option<(String, i32)>,
    instance: Option<String>,
    /// When the worker is to be over.
    end_at: Option<Instant>,
    /// Where the worker to be is told.
    start: Option<oneshot::Sender<anyhow::Result<StartWorker>>>,
    terminate: Signal,
    leaving: Arc<AtomicBool>,
}

impl Connection {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.connect().await {
                Ok((to, from)) => {
                    wait = FIRST_WAIT;
                    self.ended = None;
                    if let Err(error) = self.converse(&to, from).await {
                        tracing::debug!("lost the coordinator: {error:#}");
                    }
                }
                Err(error) => {
                    tracing::debug!("can't join: {error:#}");
                    let refused = error.downcast_ref::<Status>().map(Status::code);
                    let refused =
                        matches!(refused, Some(Code::Unauthenticated | Code::NotFound | Code::InvalidArgument));
                    if (refused || answers(&error))
                        && let Some(start) = self.start.take()
                    {
                        let told = anyhow!("join the pool: {error:#}{}", hint(&error));
                        let _ = start.send(Err(told));
                        return;
                    }
                }
            }
            if self.leaving.load(Ordering::Acquire) && self.instance.is_none() {
                return;
            }
            let deadline = at(self.end_at);
            tokio::select! {
                () = sleep(wait) => {}
                () = deadline => self.end(),
                _ = self.terminate.recv() => self.leave(),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn connect(&self) -> anyhow::Result<(Sender<MachineMessage>, Streaming<MachineOrder>)> {
        let channel_ = self.address.connect(|endpoint| {
            endpoint
                .connect_timeout(CONNECT_PATIENCE)
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(10))
                .keep_alive_while_idle(true)
                .tcp_nodelay(true)
        });
        let channel_ = channel_.await?;
        let (ended_instance, exit_code) = self.ended.clone().unwrap_or_default();
        let hello = MachineHello {
            machine: self.machine.clone(),
            host: host(),
            pid: std::process::id(),
            instance: self.instance.clone().unwrap_or_default(),
            ended_instance,
            exit_code,
        };
        let (to, outgoing) = channel(8);
        say(&to, Body::Hello(hello)).await?;
        if self.leaving.load(Ordering::Acquire) {
            say(&to, Body::Leaving(MachineLeaving {})).await?;
        }
        let mut request = Request::new(ReceiverStream::new(outgoing));
        let token = MetadataValue::try_from(format!("Bearer {}", self.token)).context("send the token")?;
        request.metadata_mut().insert("authorization", token);
        let answer = MachinesClient::new(channel_).join(request).await?;
        Ok((to, answer.into_inner()))
    }

    async fn converse(&mut self, to: &Sender<MachineMessage>, mut from: Streaming<MachineOrder>) -> anyhow::Result<()> {
        if self.instance.is_none() {
            tracing::info!("joined the pool as {} of {}; waits for work", self.machine, host());
        }
        loop {
            let deadline = at(self.end_at);
            tokio::select! {
                order = from.message() => match order.context("hear an order")?.and_then(|order| order.body) {
                    Some(Order::Start(start)) => self.begin(to, start).await?,
                    Some(Order::End(end)) => self.end_later(&end),
                    None => bail!("the coordinator closed the stream"),
                },
                () = deadline => self.end(),
                _ = self.terminate.recv() => {
                    self.leave();
                    say(to, Body::Leaving(MachineLeaving {})).await?;
                    if self.instance.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn begin(&mut self, to: &Sender<MachineMessage>, start: StartWorker) -> anyhow::Result<()> {
        let instance = start.instance.clone();
        let Some(sender) = self.start.take() else {
            bail!("told to be {instance}, is {} already", self.instance.as_deref().unwrap_or("nothing"));
        };
        self.instance = Some(instance.clone());
        let _ = sender.send(Ok(start));
        say(to, Body::Started(MachineStarted { instance })).await
    }

    fn end_later(&mut self, end: &EndWorker) {
        if self.instance.as_deref() == Some(end.instance.as_str()) {
            let at = Instant::now() + Duration::from_millis(end.grace_ms);
            self.end_at = Some(self.end_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// The worker's time is over, whatever it does.
    fn end(&mut self) {
        self.end_at = None;
        let Some(instance) = &self.instance else { return };
        tracing::info!("{instance} is to end now");
        if self.leaving.load(Ordering::Acquire) {
            std::process::exit(0);
        }
        let error = start_over(&self.machine, instance, 0);
        tracing::error!("{error:#}");
        std::process::exit(1);
    }

    fn leave(&mut self) {
        self.leaving.store(true, Ordering::Release);
        if self.instance.is_none() {
            tracing::info!("leaves the pool: SIGTERM");
            // Who waits for a worker to be finds that there is none.
            self.start = None;
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn say(to: &Sender<MachineMessage>, body: Body) -> anyhow::Result<()> {
    to.send(MachineMessage { body: Some(body) }).await.context("the stream is closed")
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
