//! Real worker processes under a scripted coordinator: every order of assignments that a real one could give, each
//! on purpose. What the workers do among themselves is all real.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use trainctl_proto::v1::coordinator_message::Body as ToWorker;
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::workers_server::{Workers, WorkersServer};
use trainctl_proto::v1::{Assign, CoordinatorMessage, Exit, Hello, Join, Member, Welcome, WorkerMessage};
use trainctl_test_servers::{Ec2Metadata, GceMetadata};

const PATIENCE: Duration = Duration::from_secs(30);
const SHARDS: u32 = 8;

type Outgoing = Sender<Result<CoordinatorMessage, Status>>;

struct Service {
    attached: UnboundedSender<(Hello, Outgoing)>,
    heard: UnboundedSender<(String, Body)>,
    welcome: Welcome,
}

#[tonic::async_trait]
impl Workers for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<WorkerMessage>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(Body::Hello(hello)) = incoming.message().await?.and_then(|m| m.body) else {
            return Err(Status::invalid_argument("expected Hello"));
        };
        let (out, outgoing): (Outgoing, Receiver<_>) = channel(64);
        let welcome = CoordinatorMessage { body: Some(ToWorker::Welcome(self.welcome.clone())) };
        let _ = out.send(Ok(welcome)).await;
        let (worker, heard) = (hello.worker.clone(), self.heard.clone());
        let _ = self.attached.send((hello, out.clone()));
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(body) = message.body {
                    let _ = heard.send((worker.clone(), body));
                }
            }
            let _ = out.send(Err(Status::cancelled("the worker said its last word"))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

struct Script {
    folder: TempDir,
    url: String,
    attached: UnboundedReceiver<(Hello, Outgoing)>,
    heard: UnboundedReceiver<(String, Body)>,
    workers: BTreeMap<String, (Hello, Outgoing)>,
    children: Arc<Mutex<BTreeMap<String, Child>>>,
    seen: Vec<(String, Body)>,
}

impl Drop for Script {
    fn drop(&mut self) {
        for child in self.children.lock().unwrap().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Script {
    async fn new(steps: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/data/digits.manifest.json");
        let manifest_json = std::fs::read_to_string(&data).unwrap();
        let spec_json = serde_json::json!({
            "name": "scripted",
            "data": {
                "manifest": data.canonicalize().unwrap(),
                "digest": trainctl_data::manifest_digest(manifest_json.as_bytes()),
            },
            "model": { "kind": "convnet", "channels": [8], "dropout": 0.2 },
            "train": { "seed": 7, "steps": steps, "global_batch": 64, "logical_shards": SHARDS, "eval_every": 9 },
            "checkpoint": { "root": format!("file://{}", folder.path().display()), "every": "1000 steps" },
        })
        .to_string();
        let welcome = Welcome {
            job: "scripted".to_owned(),
            spec_json,
            manifest_json,
            secret: vec![3; 32],
            heartbeat_ms: 50,
            orphan_s: 60,
            expect_fingerprint: String::new(),
            ..Welcome::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (attach, attached) = unbounded_channel();
        let (hear, heard) = unbounded_channel();
        let service = WorkersServer::new(Service { attached: attach, heard: hear, welcome });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { folder, url, attached, heard, workers: BTreeMap::new(), children: Arc::default(), seen: Vec::new() }
    }

    async fn start(&mut self, names: &[&str], fail_at: &str) {
        self.start_on(names, "none", &[("TRAINCTL_FAIL_AT", fail_at.to_owned())]).await;
    }

    /// On machines of this cloud.
    async fn start_on(&mut self, names: &[&str], notices: &str, environment: &[(&str, String)]) {
        for name in names {
            let log = std::fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
            let child = Command::new(env!("CARGO_BIN_EXE_trainctl-worker"))
                .args(["run", "--cluster", "c", "--instance", name, "--worker", name, "--coordinator", &self.url])
                .args(["--notices", notices])
                .env("TRAINCTL_WORKER_TOKEN", "token")
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            self.children.lock().unwrap().insert((*name).to_owned(), child);
        }
        for _ in names {
            let (hello, out) = timeout(PATIENCE, self.attached.recv()).await.expect("a worker attaches").unwrap();
            self.workers.insert(hello.worker.clone(), (hello, out));
        }
    }

    async fn send(&self, to: &str, body: ToWorker) {
        let _ = self.workers[to].1.send(Ok(CoordinatorMessage { body: Some(body) })).await;
    }

    fn members(&self, names: &[&str]) -> Vec<Member> {
        let count = u32::try_from(names.len()).unwrap();
        let member = |(rank, name): (u32, &&str)| Member {
            worker: (*name).to_owned(),
            address: self.workers[*name].0.data_address.clone(),
            first_shard: rank * SHARDS / count,
            end_shard: (rank + 1) * SHARDS / count,
        };
        (0..).zip(names).map(member).collect()
    }

    async fn assign(&self, generation: u64, immediate: bool, names: &[&str], tell: &[&str]) {
        let members = self.members(names);
        for name in tell {
            let assign = Assign {
                generation,
                immediate,
                members: members.clone(),
                reason: "scripted".to_owned(),
                ..Assign::default()
            };
            self.send(name, ToWorker::Assign(assign)).await;
        }
    }

    /// The first message, from now or before, that fits; each is found once.
    async fn hear<T>(&mut self, what: &str, fits: impl Fn(&str, &Body) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|(w, b)| fits(w, b).is_some()) {
            let (worker, body) = self.seen.remove(at);
            return fits(&worker, &body).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Ok(Some((worker, body))) = timeout_at(deadline, self.heard.recv()).await else {
                panic!("never heard {what}\n{}", self.logs())
            };
            if let Some(found) = fits(&worker, &body) {
                return found;
            }
            if !matches!(body, Body::Heartbeat(_)) {
                self.seen.push((worker, body));
            }
        }
    }

    async fn hear_step(&mut self, at_least: u64) {
        self.hear(&format!("step {at_least}"), |_, body| match body {
            Body::Heartbeat(h) if h.step >= at_least && h.has_state => Some(()),
            _ => None,
        })
        .await;
    }

    async fn finished(&mut self, names: &[&str]) -> String {
        let mut digests = Vec::new();
        for name in names {
            let end = |worker: &str, body: &Body| match body {
                Body::Finished(f) if worker == *name => Some(f.state_digest.clone()),
                _ => None,
            };
            digests.push(self.hear(&format!("{name} finished"), end).await);
        }
        assert!(digests.iter().all(|d| *d == digests[0]), "{digests:?}");
        for name in names {
            self.send(name, ToWorker::Exit(Exit { reason: "done".to_owned() })).await;
        }
        for name in names {
            let child = self.children.lock().unwrap().remove(*name).unwrap();
            assert!(self.exit(child).await.success(), "{}", self.logs());
        }
        digests.remove(0)
    }

    async fn exit(&self, mut child: Child) -> std::process::ExitStatus {
        let waited = tokio::task::spawn_blocking(move || child.wait());
        timeout(PATIENCE, waited).await.expect("the worker ends").unwrap().unwrap()
    }

    async fn aside(&mut self, name: &str) {
        let aside = |worker: &str, body: &Body| (worker == name && matches!(body, Body::Aside(_))).then_some(());
        self.hear(&format!("{name} stands aside"), aside).await;
    }

    /// As planned, and is sent home.
    async fn handed_over(&mut self, name: &str) {
        self.aside(name).await;
        self.send(name, ToWorker::Exit(Exit { reason: "the others train".to_owned() })).await;
        self.ended(name).await;
    }

    async fn left(&mut self, name: &str) {
        let gone = |worker: &str, body: &Body| (worker == name && matches!(body, Body::Left(_))).then_some(());
        self.hear(&format!("{name} left"), gone).await;
        self.ended(name).await;
    }

    async fn ended(&mut self, name: &str) {
        let child = self.children.lock().unwrap().remove(name).unwrap();
        assert!(self.exit(child).await.success(), "{}", self.logs());
    }

    /// Waits until this worker has asked a donor that is dead again, a second time.
    async fn lost_its_donor(&self, name: &str) {
        let log = self.folder.path().join(format!("{name}.log"));
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_to_string(&log).unwrap().matches("follow w1:").count() < 2 {
            assert!(Instant::now() < deadline, "never asked again\n{}", self.logs());
            tokio::task::yield_now().await;
        }
    }

    /// The only one that is left, and called back.
    async fn goes_on_without_a_checkpoint(mut self, name: &str) {
        self.assign(3, true, &[name], &[name]).await;
        let digest = self.finished(&[name]).await;
        assert_eq!(digest, alone(200).await, "{}", self.logs());
        assert!(!self.logs().contains("goes on from a checkpoint"), "{}", self.logs());
        assert!(self.repeated().iter().all(|(_, _, n)| *n <= 1), "{:?}", self.repeated());
    }

    fn repeated(&self) -> Vec<(String, u64, u64)> {
        let report = |(worker, body): &(String, Body)| match body {
            Body::Resumed(r) => Some((worker.clone(), r.generation, r.steps_repeated)),
            _ => None,
        };
        self.seen.iter().filter_map(report).collect()
    }

    fn logs(&self) -> String {
        let mut text = format!("{:#?}\n", self.seen);
        for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                text += &format!("--- {}\n", entry.path().display());
                text += &std::fs::read_to_string(entry.path()).unwrap();
            }
        }
        text
    }
}

async fn alone(steps: u64) -> String {
    let mut script = Script::new(steps).await;
    script.start(&["w1"], "").await;
    script.assign(1, true, &["w1"], &["w1"]).await;
    script.finished(&["w1"]).await
}

#[tokio::test]
async fn a_planned_departure_and_a_join_repeat_nothing() {
    let mut script = Script::new(600).await;
    script.start(&["w1", "w2", "w3", "w4"], "").await;
    script.assign(1, true, &["w1", "w2", "w3"], &["w1", "w2", "w3"]).await;
    script.hear_step(20).await;
    script.assign(2, false, &["w1", "w3"], &["w1", "w2", "w3"]).await;
    script.handed_over("w2").await;
    let donor = script.members(&["w1", "w3"]).remove(0);
    script.send("w4", ToWorker::Join(Join { donor: Some(donor), ..Join::default() })).await;
    let ready = |worker: &str, body: &Body| match body {
        Body::Ready(r) if worker == "w4" => Some(r.step),
        _ => None,
    };
    let step = script.hear("w4 keeps up", ready).await;
    assert!(step >= 20);
    script.assign(3, false, &["w1", "w3", "w4"], &["w1", "w3", "w4"]).await;
    let digest = script.finished(&["w1", "w3", "w4"]).await;
    assert_eq!(digest, alone(600).await, "{}", script.logs());
    assert!(script.repeated().iter().all(|(_, _, n)| *n == 0), "{:?}", script.repeated());
}

#[tokio::test]
async fn an_assignment_that_is_replaced_before_it_takes_effect() {
    let mut script = Script::new(200).await;
    script.start(&["w1", "w2", "w3"], "").await;
    script.assign(1, true, &["w1", "w2", "w3"], &["w1", "w2", "w3"]).await;
    script.hear_step(10).await;
    // w1 alone hears of generation 2; all hear of 3.
    script.assign(2, false, &["w1", "w2"], &["w1"]).await;
    script.hear_step(30).await;
    script.assign(3, false, &["w2", "w1"], &["w1", "w2", "w3"]).await;
    script.handed_over("w3").await;
    let digest = script.finished(&["w1", "w2"]).await;
    assert_eq!(digest, alone(200).await, "{}", script.logs());
}

#[tokio::test]
async fn a_death_in_every_hop_and_the_survivors_go_on() {
    for phase in ["reduce", "gather", "apply"] {
        let mut script = Script::new(60).await;
        script.start(&["w1", "w2", "w3"], &format!("w2@20:{phase}")).await;
        script.assign(1, true, &["w1", "w2", "w3"], &["w1", "w2", "w3"]).await;
        let lost = |_: &str, body: &Body| match body {
            Body::PeerLost(p) => Some((p.generation, p.worker.clone())),
            _ => None,
        };
        assert_eq!(script.hear("a peer is lost", lost).await, (1, "w2".to_owned()));
        script.assign(2, true, &["w1", "w3"], &["w1", "w3"]).await;
        let digest = script.finished(&["w1", "w3"]).await;
        assert_eq!(digest, alone(60).await, "{phase}\n{}", script.logs());
        assert!(script.repeated().iter().all(|(_, _, n)| *n <= 1), "{:?}", script.repeated());
    }
}

#[tokio::test]
async fn all_save_and_leave_and_others_go_on() {
    let mut script = Script::new(120).await;
    script.start(&["w1", "w2"], "").await;
    script.assign(1, true, &["w1", "w2"], &["w1", "w2"]).await;
    script.hear_step(10).await;
    script.assign(2, false, &[], &["w1", "w2"]).await;
    script.left("w1").await;
    script.left("w2").await;
    let saved = |_: &str, body: &Body| match body {
        Body::Saved(s) => Some(s.step),
        _ => None,
    };
    let step = script.hear("a checkpoint", saved).await;
    script.start(&["w3", "w4", "w5"], "").await;
    script.assign(3, true, &["w3", "w4", "w5"], &["w3", "w4", "w5"]).await;
    let digest = script.finished(&["w3", "w4", "w5"]).await;
    assert!(script.logs().contains(&format!("goes on from a checkpoint step={step}")), "{}", script.logs());
    assert_eq!(digest, alone(120).await, "{}", script.logs());
}

#[tokio::test]
async fn a_joiner_whose_donor_dies_goes_on_with_what_it_has() {
    let mut script = Script::new(200).await;
    script.start(&["w1", "w2"], "w1@40:apply").await;
    script.assign(1, true, &["w1"], &["w1"]).await;
    script.hear_step(5).await;
    let donor = script.members(&["w1"]).remove(0);
    script.send("w2", ToWorker::Join(Join { donor: Some(donor), ..Join::default() })).await;
    let ready = |worker: &str, body: &Body| (worker == "w2" && matches!(body, Body::Ready(_))).then_some(());
    script.hear("w2 keeps up", ready).await;
    let dead = script.children.lock().unwrap().remove("w1").unwrap();
    script.exit(dead).await;
    script.lost_its_donor("w2").await;
    script.assign(2, true, &["w2"], &["w2"]).await;
    let first = |worker: &str, body: &Body| match body {
        Body::Resumed(r) if worker == "w2" => Some(r.step),
        _ => None,
    };
    let step = script.hear("w2 trains", first).await;
    assert!(step > 5, "{step}: it threw away what it had\n{}", script.logs());
    let digest = script.finished(&["w2"]).await;
    assert_eq!(digest, alone(200).await, "{}", script.logs());
}

#[tokio::test]
async fn a_member_that_is_told_to_join_keeps_its_state() {
    let mut script = Script::new(120).await;
    script.start(&["w1", "w2"], "w1@40:reduce").await;
    script.assign(1, true, &["w1", "w2"], &["w1", "w2"]).await;
    script.hear_step(5).await;
    let donor = script.members(&["w1"]).remove(0);
    script.send("w2", ToWorker::Join(Join { donor: Some(donor), ..Join::default() })).await;
    let dead = script.children.lock().unwrap().remove("w1").unwrap();
    script.exit(dead).await;
    script.lost_its_donor("w2").await;
    script.assign(2, true, &["w2"], &["w2"]).await;
    let digest = script.finished(&["w2"]).await;
    assert_eq!(digest, alone(120).await, "{}", script.logs());
    assert!(script.repeated().iter().all(|(_, _, n)| *n <= 1), "{:?}", script.repeated());
}

#[tokio::test]
async fn all_streams_break_and_everyone_comes_back() {
    let mut script = Script::new(600).await;
    script.start(&["w1", "w2", "w3"], "").await;
    script.assign(1, true, &["w1", "w2", "w3"], &["w1", "w2", "w3"]).await;
    script.hear_step(20).await;
    for (_, out) in std::mem::take(&mut script.workers).into_values() {
        let _ = out.send(Err(Status::unavailable("the coordinator restarts"))).await;
    }
    for _ in 0..3 {
        let (hello, out) = timeout(PATIENCE, script.attached.recv()).await.expect("a worker comes back").unwrap();
        assert!(hello.has_state && hello.generation == 1 && hello.job == "scripted", "{hello:?}");
        script.workers.insert(hello.worker.clone(), (hello, out));
    }
    script.assign(2, false, &["w1", "w2"], &["w1", "w2", "w3"]).await;
    script.handed_over("w3").await;
    let digest = script.finished(&["w1", "w2"]).await;
    assert_eq!(digest, alone(600).await, "{}", script.logs());
    assert!(script.repeated().iter().all(|(_, _, n)| *n == 0), "{:?}", script.repeated());
}

#[tokio::test]
async fn a_leaver_whose_stream_breaks_is_heard_all_the_same() {
    let mut script = Script::new(300).await;
    script.start(&["w1", "w2"], "").await;
    script.assign(1, true, &["w1", "w2"], &["w1", "w2"]).await;
    script.hear_step(10).await;
    script.assign(2, false, &["w1"], &["w1", "w2"]).await;
    let _ = script.workers["w2"].1.send(Err(Status::unavailable("the coordinator restarts"))).await;
    let (hello, out) = timeout(PATIENCE, script.attached.recv()).await.expect("it comes back").unwrap();
    assert!(hello.worker == "w2" && hello.has_state, "{hello:?}");
    script.workers.insert(hello.worker.clone(), (hello, out));
    script.handed_over("w2").await;
    let digest = script.finished(&["w1"]).await;
    assert_eq!(digest, alone(300).await, "{}", script.logs());
}

#[tokio::test]
async fn one_that_stood_aside_goes_on_when_the_other_is_gone() {
    let mut script = Script::new(200).await;
    script.start(&["w1", "w2"], "w1@0:rendezvous").await;
    script.assign(1, true, &["w1", "w2"], &["w1", "w2"]).await;
    script.hear_step(10).await;
    script.assign(2, false, &["w1"], &["w1", "w2"]).await;
    script.aside("w2").await;
    let dead = script.children.lock().unwrap().remove("w1").unwrap();
    script.exit(dead).await;
    script.goes_on_without_a_checkpoint("w2").await;
}

#[tokio::test]
async fn one_that_never_came_does_not_hold_up_the_others() {
    let mut script = Script::new(100).await;
    script.start(&["w1", "w2"], "").await;
    script.assign(1, true, &["w1", "w2"], &["w1", "w2"]).await;
    // Mostly before w2 has got as far as to enter the first; w1 waits for it there.
    script.assign(2, false, &["w1"], &["w2", "w1"]).await;
    script.aside("w2").await;
    let digest = script.finished(&["w1"]).await;
    assert_eq!(digest, alone(100).await, "{}", script.logs());
}

#[tokio::test]
async fn one_that_was_to_leave_keeps_the_state_when_the_other_dies_before_the_boundary() {
    let mut script = Script::new(200).await;
    script.start(&["w1", "w2"], "w1@40:reduce").await;
    script.assign(1, true, &["w1", "w2"], &["w1", "w2"]).await;
    script.hear_step(5).await;
    // w1 never hears of it.
    script.assign(2, false, &["w1"], &["w2"]).await;
    let lost = |worker: &str, body: &Body| match body {
        Body::PeerLost(p) if worker == "w2" => Some((p.worker.clone(), p.unsure)),
        _ => None,
    };
    assert_eq!(script.hear("w2 lost w1", lost).await, ("w1".to_owned(), true));
    script.aside("w2").await;
    script.goes_on_without_a_checkpoint("w2").await;
}

#[tokio::test]
async fn notices_before_there_is_any_work() {
    let mut script = Script::new(10).await;
    script.start(&["w1"], "").await;
    let noticed = |_: &str, body: &Body| matches!(body, Body::Notice(_)).then_some(());
    let child = script.children.lock().unwrap().remove("w1").unwrap();
    for _ in 0..2 {
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        script.hear("a notice", noticed).await;
    }
    script.send("w1", ToWorker::Exit(Exit { reason: "drained".to_owned() })).await;
    assert!(script.exit(child).await.success(), "{}", script.logs());
}

/// What is left until the deadline of the next notice, and who gave it.
async fn next_notice(script: &mut Script) -> (Duration, String) {
    let noticed = |_: &str, body: &Body| match body {
        Body::Notice(notice) => Some((notice.deadline_ms, notice.source.clone())),
        _ => None,
    };
    let (deadline_ms, source) = script.hear("a notice", noticed).await;
    let deadline = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(deadline_ms).unwrap());
    (deadline.duration_since(std::time::SystemTime::now()).unwrap_or_default(), source)
}

#[tokio::test]
async fn a_clouds_notice_is_told_with_its_time_which_a_shutdown_does_not_shorten() {
    let server = GceMetadata::start();
    let mut script = Script::new(10).await;
    script.start_on(&["w1"], "gce", &server.environment()).await;
    server.preempt();
    let (left, source) = next_notice(&mut script).await;
    assert!(left > Duration::from_secs(20) && source == "GCE preemption", "{left:?} {source}");
    let child = script.children.lock().unwrap().remove("w1").unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    let (left, source) = next_notice(&mut script).await;
    assert!(left > Duration::from_secs(10) && source == "SIGTERM", "{left:?} {source}");
    script.send("w1", ToWorker::Exit(Exit { reason: "drained".to_owned() })).await;
    assert!(script.exit(child).await.success(), "{}", script.logs());
}

#[tokio::test]
async fn a_recommendation_is_told_and_nothing_follows_from_it_here() {
    let server = Ec2Metadata::start();
    let mut script = Script::new(40).await;
    script.start_on(&["w1"], "ec2", &server.environment()).await;
    server.recommend(r#"{"noticeTime":"2026-11-24T08:22:00Z"}"#);
    let recommended = |_: &str, body: &Body| matches!(body, Body::RebalanceRecommended(_)).then_some(());
    script.hear("a recommendation", recommended).await;
    script.assign(1, true, &["w1"], &["w1"]).await;
    let digest = script.finished(&["w1"]).await;
    assert_eq!(digest, alone(40).await, "{}", script.logs());
}
