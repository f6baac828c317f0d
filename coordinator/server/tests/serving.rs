//! The path of a job through a real coordinator: submitted, launched, attached, assigned, watched, drilled, ended.

mod bench;

use bench::{Bench, Hand, SOON, hello, jobs_with, kill, within, workers_with};
use coordinator_server::{CoordinatorFile, ServeError, serve};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use trainctl_proto::v1::coordinator_message::Body as ToBody;
use trainctl_proto::v1::machine_message::Body as FromMachine;
use trainctl_proto::v1::machine_order::Body as ToMachine;
use trainctl_proto::v1::worker_message::Body as FromBody;
use trainctl_proto::v1::{self, JobRef};

fn named(job: &str) -> JobRef {
    JobRef { job: job.to_owned() }
}

fn beat(generation: u64, step: u64) -> FromBody {
    FromBody::Heartbeat(v1::Heartbeat { generation, has_state: true, step, loss: Some(0.5), ..Default::default() })
}

#[tokio::test]
async fn a_job_is_submitted_launched_attached_assigned_and_finished() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    let info = jobs.info(v1::InfoRequest {}).await.expect("info").into_inner();
    assert_eq!((info.cluster.as_str(), info.pid), (running.cluster(), std::process::id()));
    let file = std::fs::read(bench.home().join("coordinator.json")).expect("coordinator.json");
    let file: CoordinatorFile = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(file.address, running.address());

    let submission = bench.submission("digits", 2);
    let status = jobs.submit(submission.clone()).await.expect("submit").into_inner();
    assert_eq!((status.job.as_str(), status.steps, status.workers_max), ("digits", 100, 2));
    assert_eq!(status.checkpoint_root, format!("file://{}", bench.home().join("runs").display()));

    let mut first = bench.attach(&running, "digits", 1).await;
    let welcome = first.welcome().await;
    assert_eq!((welcome.job.as_str(), welcome.secret.len()), ("digits", 32));
    assert_eq!(welcome.manifest_json, submission.manifest_json);
    assert_eq!(serde_json::from_str::<trainctl_jobs::JobSpec>(&welcome.spec_json).expect("a spec").name, "digits");
    let mut second = bench.attach(&running, "digits", 2).await;
    assert_eq!(second.welcome().await.secret, welcome.secret);

    let assign = first.assign().await;
    assert_eq!(assign, second.assign().await);
    assert_eq!((assign.generation, assign.members.len()), (1, 2));
    for hand in [&mut first, &mut second] {
        let resumed = v1::Resumed { generation: 1, step: 1, ..Default::default() };
        hand.say(FromBody::Resumed(resumed)).await;
        hand.say(beat(1, 7)).await;
    }
    within("the step", async || {
        let status = jobs.show(named("digits")).await.expect("show").into_inner();
        (status.step == 7 && status.state == "running").then_some(())
    })
    .await;

    let workers = jobs.list_workers(v1::ListWorkersRequest { job: "digits".to_owned() }).await.expect("workers");
    let workers = workers.into_inner().workers;
    assert_eq!(workers.iter().map(|worker| worker.state.as_str()).collect::<Vec<_>>(), ["training", "training"]);
    assert_eq!(workers.iter().map(|worker| worker.end_shard - worker.first_shard).sum::<u32>(), 8);

    let mut watch = jobs.watch(named("digits")).await.expect("watch").into_inner();
    for hand in [&mut first, &mut second] {
        hand.say(beat(1, 100)).await;
        let finished = v1::Finished {
            step: 100,
            loss: Some(0.1),
            eval: Some(v1::Evaluated { step: 100, loss: 0.2, accuracy: Some(0.97) }),
            state_digest: "blake3:00".to_owned(),
        };
        hand.say(FromBody::Finished(finished)).await;
    }
    let mut last = None;
    while let Some(status) = tokio::time::timeout(SOON, watch.next()).await.expect("in time") {
        last = Some(status.expect("a status"));
    }
    let last = last.expect("at least one status");
    assert_eq!((last.state.as_str(), last.state_digest.as_str()), ("succeeded", "blake3:00"));
    assert_eq!(last.eval.expect("an evaluation").accuracy, Some(0.97));
    for hand in [&mut first, &mut second] {
        assert!(matches!(hand.next().await, Ok(Some(ToBody::Exit(_)))));
    }
    within("the end of the processes", async || bench.processes(running.cluster()).is_empty().then_some(())).await;
    let explained = jobs.explain(named("digits")).await.expect("explain").into_inner();
    let kinds: Vec<&str> = explained.decisions.iter().map(|decision| decision.kind.as_str()).collect();
    assert_eq!((kinds.first(), kinds.last().is_some()), (Some(&"queue"), true));
    assert!(kinds.contains(&"form_group") && kinds.contains(&"succeed"), "{kinds:?}");
    running.kill().await;
    assert!(!bench.home().join("coordinator.json").exists());
}

#[tokio::test]
async fn what_an_audit_found_is_told_and_the_worker_is_ended() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 2)).await.expect("submit");
    let mut hands = [bench.attach(&running, "digits", 1).await, bench.attach(&running, "digits", 2).await];
    for hand in &mut hands {
        hand.welcome().await;
        hand.assign().await;
        let resumed = v1::Resumed { generation: 1, step: 1, ..Default::default() };
        hand.say(FromBody::Resumed(resumed)).await;
        let FromBody::Heartbeat(beat) = beat(1, 12) else { unreachable!() };
        hand.say(FromBody::Heartbeat(v1::Heartbeat { audits_passed: 5, ..beat })).await;
    }
    let [mut first, _second] = hands;
    let digests = [("w1", "00aa"), ("w2", "00ab")].map(|(worker, digest)| (worker.to_owned(), digest.to_owned()));
    let (subject, right) = ("gradient".to_owned(), "00aa".to_owned());
    let differing = v1::Differing { step: 12, subject, digests: digests.into(), shard: Some(3), right };
    first.say(FromBody::Corrupt(v1::Corrupt { generation: 1, differing: Some(differing.clone()) })).await;

    let assign = first.assign().await;
    let alone: Vec<&str> = assign.members.iter().map(|member| member.worker.as_str()).collect();
    assert_eq!((assign.immediate, alone), (true, vec!["w1"]));
    let rollback = assign.rollback.expect("a roll-back");
    assert_eq!((rollback.differing, rollback.quarantined), (Some(differing), vec!["w2".to_owned()]));
    let w2 = v1::ListWorkersRequest { job: "digits".to_owned() };
    within("the end of w2", async || {
        let workers = jobs.list_workers(w2.clone()).await.expect("workers").into_inner().workers;
        workers.iter().any(|worker| (worker.worker.as_str(), worker.state.as_str()) == ("w2", "gone")).then_some(())
    })
    .await;
    let status = jobs.show(named("digits")).await.expect("show").into_inner();
    let found = &status.corruptions[0];
    assert_eq!((found.step, found.subject.as_str(), found.shard), (12, "gradient", Some(3)));
    assert_eq!((found.right.as_str(), found.quarantined.as_slice()), ("00aa", ["w2".to_owned()].as_slice()));
    assert_eq!(status.audits_passed, 5);
    let explained = jobs.explain(named("digits")).await.expect("explain").into_inner();
    let why = explained.decisions.iter().find(|decision| decision.kind == "roll_back").map(|decision| &decision.why);
    let expected = "w2 gave 00ab as the gradient of shard 3 at step 12, and computing it again gives 00aa; w2 is not used \
                    any more";
    assert_eq!(why.map(String::as_str), Some(expected));
    running.kill().await;
}

#[tokio::test]
async fn every_call_needs_the_right_token() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let user = std::fs::read_to_string(running.token_file()).expect("read");
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    let worker = bench.worker_token("digits", "w1").await;

    for wrong in [None, Some("x"), Some(worker.as_str()), Some(&user[1..]), Some("")] {
        let mut jobs = jobs_with(running.address(), wrong).await;
        let refused = jobs.list(v1::ListRequest {}).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::Unauthenticated, "{wrong:?}");
        assert!(refused.message().contains("\nhint: "), "{}", refused.message());
        let stopped = jobs.stop(v1::StopRequest { suspend_jobs: false }).await.expect_err("a refusal");
        assert_eq!(stopped.code(), Code::Unauthenticated);
    }
    let forged = worker.replace("worker:i1:", "worker:i2:");
    for wrong in [None, Some("x"), Some(user.as_str()), Some(forged.as_str())] {
        let mut workers = workers_with(running.address(), wrong).await;
        let refused = workers.attach(tokio_stream::empty()).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::Unauthenticated, "{wrong:?}");
    }
    running.kill().await;
}

#[tokio::test]
async fn a_worker_is_who_its_token_says() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 2)).await.expect("submit");
    let token = bench.worker_token("digits", "w1").await;

    let mut other_instance = Hand::open(running.address(), &token).await.expect("open");
    other_instance.say(FromBody::Hello(hello(2))).await;
    let refused = other_instance.next().await.expect_err("a refusal");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "attach: expected a worker on instance i1, as its token says, found one on \"i2\"");

    let mut other_worker = Hand::open(running.address(), &token).await.expect("open");
    other_worker.say(FromBody::Hello(v1::Hello { worker: "w2".to_owned(), ..hello(1) })).await;
    assert_eq!(other_worker.next().await.expect_err("a refusal").code(), Code::PermissionDenied);

    let mut silent = Hand::open(running.address(), &token).await.expect("open");
    silent.say(beat(1, 1)).await;
    let refused = silent.next().await.expect_err("a refusal");
    assert_eq!(refused.message(), "attach: expected a hello as the first message, found another one");

    let mut twice = Hand::open(running.address(), &token).await.expect("open");
    twice.say(FromBody::Hello(hello(1))).await;
    twice.welcome().await;
    twice.say(FromBody::Hello(hello(1))).await;
    let refused = loop {
        match twice.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("expected a refusal"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.message(), "attach: expected no second hello in one stream, found one of w1");
    running.kill().await;
}

#[tokio::test]
async fn a_later_stream_of_a_worker_replaces_the_earlier() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    let mut first = bench.attach(&running, "digits", 1).await;
    first.welcome().await;
    let mut second = bench.attach(&running, "digits", 1).await;
    second.welcome().await;
    while first.next().await.expect("no error").is_some() {}
    assert_eq!(second.assign().await.members[0].worker, "w1");
    running.kill().await;
}

#[tokio::test]
async fn a_submission_is_checked_again() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    let good = bench.submission("digits", 1);
    let mut refused = async |request: v1::SubmitRequest| jobs.submit(request).await.expect_err("a refusal");

    let status = refused(v1::SubmitRequest { spec_json: "{".to_owned(), ..good.clone() }).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let spec_json = good.spec_json.replace("\"global_batch\":8", "\"global_batch\":9");
    let status = refused(v1::SubmitRequest { spec_json, ..good.clone() }).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("global_batch"), "{}", status.message());
    let manifest_json = good.manifest_json.clone() + " ";
    let status = refused(v1::SubmitRequest { manifest_json, ..good.clone() }).await;
    assert!(status.message().starts_with("job digits: data.digest: expected blake3:"), "{}", status.message());
    assert!(status.message().contains("\nhint: "), "{}", status.message());
    let spec_json = good.spec_json.replace("local-spot", "local-sopt");
    let status = refused(v1::SubmitRequest { spec_json, ..good.clone() }).await;
    let expected = "job digits: resources.pools: pool: expected one of local, local-spot, found \"local-sopt\"\nhint: ";
    assert!(status.message().starts_with(expected), "{}", status.message());

    let mut jobs = bench.jobs(&running).await;
    jobs.submit(good.clone()).await.expect("submit");
    let taken = jobs.submit(good).await.expect_err("a refusal");
    assert_eq!(taken.code(), Code::AlreadyExists);
    for call in [jobs.show(named("digit")).await, jobs.cancel(named("digit")).await] {
        assert_eq!(call.expect_err("a refusal").code(), Code::NotFound);
    }
    assert_eq!(jobs.show(named("")).await.expect_err("a refusal").code(), Code::InvalidArgument);
    let nobody = v1::WorkerRef { worker: "w9".to_owned() };
    assert_eq!(jobs.drain(nobody).await.expect_err("a refusal").code(), Code::NotFound);
    running.kill().await;
}

#[tokio::test]
async fn a_killed_worker_is_noticed_and_replaced() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    bench.worker_token("digits", "w1").await;
    let [pid] = bench.processes(running.cluster())[..] else { panic!("expected one process") };
    kill(pid);
    bench.worker_token("digits", "w2").await;
    let workers = jobs.list_workers(v1::ListWorkersRequest::default()).await.expect("workers").into_inner().workers;
    let states: Vec<(&str, &str)> = workers.iter().map(|w| (w.worker.as_str(), w.state.as_str())).collect();
    assert_eq!(states, [("w1", "gone"), ("w2", "launching")]);
    running.kill().await;
    assert!(bench.processes(running.cluster()).is_empty());
}

#[tokio::test]
async fn a_crash_loop_ends_the_job_with_the_last_words_of_its_workers() {
    let bench = Bench::new("crashes.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    let mut watch = jobs.watch(named("digits")).await.expect("watch").into_inner();
    let mut last = v1::JobStatus::default();
    while let Some(status) = tokio::time::timeout(SOON, watch.next()).await.expect("in time") {
        last = status.expect("a status");
    }
    assert_eq!(last.state, "failed");
    assert!(last.reason.contains("the disk is on fire"), "{}", last.reason);
    running.kill().await;
}

#[tokio::test]
async fn a_missing_worker_program_fails_the_job_with_a_hint() {
    let mut bench = Bench::new("stands.sh");
    bench.options.worker_program = "/nowhere/trainctl-worker".into();
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    let reason = within("the failure", async || {
        let status = jobs.show(named("digits")).await.expect("show").into_inner();
        (status.state == "failed").then_some(status.reason)
    })
    .await;
    assert!(reason.contains("worker program /nowhere/trainctl-worker: expected an executable file"), "{reason}");
    running.kill().await;
}

#[tokio::test]
async fn a_drill_reaches_the_pool_and_the_worker() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    bench.worker_token("digits", "w1").await;
    let drill = v1::EvictRequest { worker: "w1".to_owned(), notice_ms: 60_000 };
    jobs.evict(drill).await.expect("evict");
    bench.worker_token("digits", "w2").await;
    let pools = jobs.list_pools(v1::ListPoolsRequest {}).await.expect("pools").into_inner().pools;
    let spot = pools.iter().find(|pool| pool.pool == "local-spot").expect("the spot pool");
    assert_eq!((spot.evictions, spot.in_use, spot.spot), (1, 1, true));
    let set = v1::SetPoolRequest { pool: "local-spot".to_owned(), capacity: 0 };
    assert_eq!(jobs.set_pool(set).await.expect("set").into_inner().in_use, 0);
    within("the eviction", async || bench.processes(running.cluster()).is_empty().then_some(())).await;
    let unknown = v1::SetPoolRequest { pool: "spot".to_owned(), capacity: 0 };
    assert_eq!(jobs.set_pool(unknown).await.expect_err("a refusal").code(), Code::NotFound);
    running.kill().await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_ended_after_a_while_and_told() {
    let mut bench = Bench::new("stands.sh");
    bench.options.unowned_grace = Duration::from_millis(300);
    let running = bench.serve().await;
    let cluster = running.cluster().to_owned();
    running.leave().await;
    running.wait().await.expect("a clean end");
    // As a coordinator would have left it whose records are of an earlier day.
    let mut stray = Command::new(bench::script("stands.sh"))
        .args(["run", "--cluster", &cluster, "--instance", "i99", "--worker", "w99", "--coordinator-file"])
        .arg(bench.home().join("coordinator.json"))
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start a stray");
    let began = Instant::now();
    let running = bench.serve().await;
    within("its end", async || bench.processes(&cluster).is_empty().then_some(())).await;
    assert!(began.elapsed() >= bench.options.unowned_grace);
    // Both are its parents, and either may have heard of its end first.
    let _ = stray.wait();
    let mut jobs = bench.jobs(&running).await;
    let pools = jobs.list_pools(v1::ListPoolsRequest {}).await.expect("pools").into_inner().pools;
    let told: Vec<_> = pools.into_iter().flat_map(|pool| pool.unowned).collect();
    assert_eq!(told, ["i99"]);
    running.kill().await;
}

/// A machine's side of its stream.
struct Joined {
    say: mpsc::Sender<v1::MachineMessage>,
    hear: tonic::Streaming<v1::MachineOrder>,
}

impl Joined {
    async fn open(address: &str, token: &str) -> Result<Self, tonic::Status> {
        let (say, said) = mpsc::channel(8);
        let hello = v1::MachineHello { machine: "m".to_owned(), pid: 7, ..Default::default() };
        say.send(v1::MachineMessage { body: Some(FromMachine::Hello(hello)) }).await.expect("room");
        let hear = bench::machines_with(address, token).await.join(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, hear })
    }

    async fn next(&mut self, what: &str) -> ToMachine {
        let next = tokio::time::timeout(SOON, self.hear.message()).await;
        let next = next.unwrap_or_else(|_| panic!("{what} did not come in time")).expect("no error");
        next.and_then(|order| order.body).expect("an order")
    }
}

#[tokio::test]
async fn a_machine_joins_is_given_a_worker_and_is_told_to_end() {
    let mut bench = Bench::new("stands.sh");
    let pools = bench.folder.path().join("pools.toml");
    std::fs::write(&pools, "[pools.lab]\nkind='static'\nzone='rack 7'\n[pools.local]\nkind='local'\ncapacity=1\n")
        .expect("write");
    bench.options.pools_file = Some(pools);
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    let ask = |pool: &str| v1::PoolTokenRequest { pool: pool.to_owned(), valid_s: 60 };
    let reply = jobs.pool_token(ask("lab")).await.expect("a token").into_inner();
    assert_eq!(reply.coordinator, running.address());
    let refused = jobs.pool_token(ask("local")).await.expect_err("a refusal");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let user = std::fs::read_to_string(running.token_file()).expect("the token");
    for wrong in [user.as_str(), "join:lab:0:00"] {
        let refused = Joined::open(running.address(), wrong).await.err().expect("a refusal");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    let mut machine = Joined::open(running.address(), &reply.token).await.expect("join");
    within("the machine's room", async || {
        let pools = jobs.list_pools(v1::ListPoolsRequest {}).await.expect("pools").into_inner().pools;
        pools.iter().any(|pool| (pool.kind.as_str(), pool.capacity) == ("static", 1)).then_some(())
    })
    .await;
    let text = bench.job_text("digits", 1) + "pools = ['lab']\n";
    jobs.submit(bench.submission_from(&text)).await.expect("submit");
    let ToMachine::Start(start) = machine.next("a worker to be").await else { panic!("expected a start") };
    assert_eq!(
        (start.instance.as_str(), start.worker.as_str(), start.cluster.as_str()),
        ("i1", "w1", running.cluster())
    );
    let started = v1::MachineStarted { instance: start.instance.clone() };
    machine.say.send(v1::MachineMessage { body: Some(FromMachine::Started(started)) }).await.expect("room");
    let mut hand = Hand::open(running.address(), &start.token).await.expect("its token is a worker's");
    hand.say(FromBody::Hello(hello(1))).await;
    assert_eq!(hand.welcome().await.job, "digits");
    let drill = v1::EvictRequest { worker: "w1".to_owned(), notice_ms: 0 };
    jobs.evict(drill).await.expect("evict");
    let ToMachine::End(end) = machine.next("the end").await else { panic!("expected an end") };
    assert_eq!(end.instance, "i1");
    drop(machine);
    running.kill().await;
}

#[tokio::test]
async fn a_watcher_gets_the_newest_status_and_not_each_one() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    let mut hand = bench.attach(&running, "digits", 1).await;
    hand.welcome().await;
    hand.assign().await;
    let mut watch = jobs.watch(named("digits")).await.expect("watch").into_inner();
    let began = Instant::now();
    for step in 1..=90 {
        hand.say(beat(1, step)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut statuses = 0;
    while tokio::time::timeout(SOON, watch.next()).await.expect("in time").expect("more").expect("a status").step < 90 {
        statuses += 1;
    }
    let bound = 2 + began.elapsed().as_millis() / 100;
    assert!(statuses <= bound, "{statuses} statuses in {:?}", began.elapsed());
    running.kill().await;
    let end = loop {
        match tokio::time::timeout(SOON, watch.next()).await.expect("in time") {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.expect("a last word").expect_err("an error").code(), Code::Unavailable);
}

#[tokio::test]
async fn logs_are_followed_to_the_end_of_the_job() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    bench.worker_token("digits", "w1").await;
    let all = v1::LogsRequest { job: "digits".to_owned(), ..Default::default() };
    let mut now = jobs.logs(all.clone()).await.expect("logs").into_inner();
    let chunk = now.next().await.expect("a chunk").expect("no error");
    assert!(chunk.worker == "w1" && chunk.text.starts_with(b"pid "));
    assert!(now.next().await.is_none());

    let mut follow =
        jobs.logs(v1::LogsRequest { follow: true, tail: 1, ..all.clone() }).await.expect("logs").into_inner();
    follow.next().await.expect("a chunk").expect("no error");
    jobs.cancel(named("digits")).await.expect("cancel");
    while let Some(chunk) = tokio::time::timeout(SOON, follow.next()).await.expect("in time") {
        chunk.expect("no error");
    }
    let unknown = v1::LogsRequest { job: "other".to_owned(), ..Default::default() };
    assert_eq!(jobs.logs(unknown).await.expect_err("a refusal").code(), Code::NotFound);
    running.kill().await;
}

#[tokio::test]
async fn a_taken_port_and_an_occupied_home_are_told() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let error = serve(bench.options.clone()).await.expect_err("an occupied home").to_string();
    assert!(error.contains(&format!("found the one with pid {}\nhint: ", std::process::id())), "{error}");

    let mut other = Bench::new("stands.sh");
    other.options.listen = running.address().trim_start_matches("http://").parse().expect("an address");
    let error = serve(other.options.clone()).await.expect_err("a taken port");
    assert!(matches!(error, ServeError::PortTaken { .. }));
    assert!(error.to_string().contains("\nhint: "), "{error}");

    other.options.listen.set_port(0);
    let pools = other.folder.path().join("pools.toml");
    std::fs::write(&pools, "[pools.a]\nkind='local'\ncapcity=1\n").expect("write");
    other.options.pools_file = Some(pools);
    let error = serve(other.options.clone()).await.expect_err("bad pools").to_string();
    assert!(error.contains("did you mean capacity?"), "{error}");
    running.kill().await;
    assert!(running.wait().await.is_ok());
}
