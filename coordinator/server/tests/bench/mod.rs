//! A coordinator in a folder of its own, with real processes and real gRPC. Scripts stand for workers, and the test
//! speaks for them with the tokens that they were given.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod robot;

use coordinator_core::Settings;
use coordinator_server::{CoordinatorFile, Options, Running, serve};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use trainctl_data::{Manifest, PinOptions, manifest_digest, pin};
use trainctl_proto::dial::{Address, Certificate};
use trainctl_proto::v1::coordinator_message::Body as ToBody;
use trainctl_proto::v1::jobs_client::JobsClient;
use trainctl_proto::v1::machines_client::MachinesClient;
use trainctl_proto::v1::worker_message::Body as FromBody;
use trainctl_proto::v1::workers_client::WorkersClient;
use trainctl_proto::v1::{self, CoordinatorMessage, WorkerMessage};

pub(crate) const SOON: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

pub(crate) type Jobs = JobsClient<InterceptedService<Channel, Bearer>>;
pub(crate) type Workers = WorkersClient<InterceptedService<Channel, Bearer>>;

/// A home with a data set, and the options of its coordinator.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: Options,
    manifest_json: String,
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers").join(name)
}

/// For workers that the test speaks for by hand: it says no heartbeats.
fn by_hand() -> Settings {
    Settings { missed_heartbeats: 1_000, exit_grace_ms: 50, ..Settings::default() }
}

impl Bench {
    pub(crate) fn new(worker: &str) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        std::fs::write(folder.path().join("d.csv"), "a,b,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n").expect("write");
        let uri = folder.path().join("d.csv").display().to_string();
        let manifest: Manifest = pin(&uri, &PinOptions::default()).expect("pin the data");
        let manifest_json = String::from_utf8(manifest.to_bytes()).expect("text");
        let mut options = Options::new(folder.path().join("home"));
        options.worker_program = script(worker);
        options.settings = by_hand();
        Self { folder, options, manifest_json }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.options.home
    }

    pub(crate) async fn serve(&self) -> Running {
        let running = serve(self.options.clone()).await.expect("serve");
        std::fs::write(self.home().join("cluster-for-cleanup"), running.cluster()).expect("write");
        running
    }

    /// So that processes that a failed test leaves are found.
    pub(crate) async fn note_cluster(&self, jobs: &mut Jobs) -> String {
        let cluster = jobs.info(v1::InfoRequest {}).await.expect("info").into_inner().cluster;
        std::fs::write(self.home().join("cluster-for-cleanup"), &cluster).expect("write");
        cluster
    }

    /// A job of up to so many workers.
    pub(crate) fn submission(&self, name: &str, workers: u32) -> v1::SubmitRequest {
        self.submission_from(&self.job_text(name, workers))
    }

    pub(crate) fn job_text(&self, name: &str, workers: u32) -> String {
        format!(
            "name = '{name}'\n[data]\nmanifest = '/data/d.manifest.json'\ndigest = '{}'\n\
             [model]\nkind = 'mlp'\nhidden = [4]\n\
             [train]\nsteps = 100\nglobal_batch = 8\nlogical_shards = 8\n\
             [resources]\nworkers = {{ min = 1, max = {workers} }}\n",
            manifest_digest(self.manifest_json.as_bytes())
        )
    }

    pub(crate) fn submission_from(&self, text: &str) -> v1::SubmitRequest {
        let spec = trainctl_jobs::parse(text, "job.toml").unwrap_or_else(|errors| panic!("{errors}"));
        let spec_json = serde_json::to_string(&spec).expect("JSON");
        v1::SubmitRequest { spec_json, manifest_json: self.manifest_json.clone() }
    }

    pub(crate) async fn jobs(&self, running: &Running) -> Jobs {
        let token = std::fs::read_to_string(running.token_file()).expect("read the token");
        let token = token.lines().next();
        JobsClient::with_interceptor(self.channel(running).await, bearer(token))
    }

    /// To a coordinator of this home, over TLS if it says so.
    async fn channel(&self, running: &Running) -> Channel {
        let file = std::fs::read(self.home().join("coordinator.json")).expect("coordinator.json");
        let file: CoordinatorFile = serde_json::from_slice(&file).expect("JSON");
        let certificate = file.certificate.map(|line| Certificate::parse(&line).expect("a certificate"));
        let address = Address::new(running.address(), certificate).expect("an address");
        address.connect(|endpoint| endpoint).await.expect("connect")
    }

    /// The token that the worker's process was given, once it has started.
    pub(crate) async fn worker_token(&self, job: &str, worker: &str) -> String {
        let log = self.home().join(format!("logs/{job}/{worker}.log"));
        within("the worker's token", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix("token ").map(str::to_owned))
        })
        .await
    }

    /// Speaks for a worker from its first message on.
    pub(crate) async fn attach(&self, running: &Running, job: &str, number: u32) -> Hand {
        let token = self.worker_token(job, &format!("w{number}")).await;
        let mut hand = Hand::over(self.channel(running).await, &token).await.expect("open the stream");
        hand.say(FromBody::Hello(hello(number))).await;
        hand
    }

    /// All live processes of the cluster's workers: the leaders of their groups.
    pub(crate) fn processes(&self, cluster: &str) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let mut pids: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| leads(*pid)).collect();
        pids.retain(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == cluster.as_bytes())
        });
        pids
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What a failed test leaves.
        let Ok(text) = std::fs::read_to_string(self.home().join("cluster-for-cleanup")) else { return };
        for pid in self.processes(text.trim()) {
            let _ = rustix::process::kill_process_group(pid_of(pid), rustix::process::Signal::KILL);
        }
    }
}

fn leads(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let group = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(2)?.parse().ok());
    group == Some(pid)
}

pub(crate) fn kill(pid: u32) {
    let _ = rustix::process::kill_process(pid_of(pid), rustix::process::Signal::KILL);
}

fn pid_of(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid as i32).expect("a pid")
}

async fn channel(address: &str) -> Option<Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned()).expect("an address");
    endpoint.connect().await.ok()
}

fn bearer(token: Option<&str>) -> Bearer {
    Bearer(token.map(|token| format!("Bearer {token}").parse().expect("a token")))
}

pub(crate) async fn jobs_with(address: &str, token: Option<&str>) -> Jobs {
    try_jobs_with(address, token).await.expect("connect")
}

/// `None`: the coordinator is gone.
pub(crate) async fn try_jobs_with(address: &str, token: Option<&str>) -> Option<Jobs> {
    Some(JobsClient::with_interceptor(channel(address).await?, bearer(token)))
}

pub(crate) async fn workers_with(address: &str, token: Option<&str>) -> Workers {
    WorkersClient::with_interceptor(channel(address).await.expect("connect"), bearer(token))
}

pub(crate) async fn machines_with(address: &str, token: &str) -> MachinesClient<InterceptedService<Channel, Bearer>> {
    MachinesClient::with_interceptor(channel(address).await.expect("connect"), bearer(Some(token)))
}

/// Asks until there is an answer.
pub(crate) async fn within<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, asking).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

pub(crate) fn hello(number: u32) -> v1::Hello {
    v1::Hello {
        worker: format!("w{number}"),
        instance: format!("i{number}"),
        pid: std::process::id(),
        data_address: format!("127.0.0.1:{}", 40_000 + number),
        fingerprint: "f".to_owned(),
        fingerprint_detail: "by hand".to_owned(),
        ..v1::Hello::default()
    }
}

/// A worker's side of its stream.
pub(crate) struct Hand {
    say: mpsc::Sender<WorkerMessage>,
    pub(crate) hear: Streaming<CoordinatorMessage>,
}

impl Hand {
    pub(crate) async fn open(address: &str, token: &str) -> Result<Self, Status> {
        Self::over(channel(address).await.expect("connect"), token).await
    }

    pub(crate) async fn over(channel: Channel, token: &str) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(64);
        let mut workers = WorkersClient::with_interceptor(channel, bearer(Some(token)));
        let hear = workers.attach(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, hear })
    }

    pub(crate) async fn say(&mut self, body: FromBody) {
        // A stream that broke is told by what is heard of it.
        let _ = self.say.send(WorkerMessage { body: Some(body) }).await;
    }

    pub(crate) async fn next(&mut self) -> Result<Option<ToBody>, Status> {
        let next = tokio::time::timeout(SOON, self.hear.message()).await.expect("a message in time")?;
        Ok(next.and_then(|message| message.body))
    }

    pub(crate) async fn welcome(&mut self) -> v1::Welcome {
        match self.next().await.expect("no error").expect("a message") {
            ToBody::Welcome(welcome) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    /// The next assignment; what comes before it is passed over.
    pub(crate) async fn assign(&mut self) -> v1::Assign {
        loop {
            if let ToBody::Assign(assign) = self.next().await.expect("no error").expect("a message") {
                return assign;
            }
        }
    }
}
