//! Coordinators that stop, crash and start again in one home: no job, no instance and no process may be lost or doubled.

mod bench;

use bench::robot::{Robots, address, died};
use bench::{Bench, Jobs, SOON, jobs_with, kill, within};
use coordinator_core::Settings;
use coordinator_server::{FAIL_AT_VARIABLE, Options, serve};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tonic::Code;
use trainctl_proto::v1::{self, JobRef};

const HOME: &str = "RESTART_TEST_HOME";

/// A coordinator as a process of its own, to be killed.
#[tokio::test]
#[ignore = "run by the tests below, as a process"]
async fn child() {
    let home = std::env::var(HOME).expect("a home");
    // A worker that died with nobody there to see it is given up 4 s after the start.
    let settings = Settings { heartbeat_ms: 100, missed_heartbeats: 39, unlisted_extra_ms: 100, ..Settings::default() };
    let settings = Settings { exit_grace_ms: 50, ..settings };
    let options = Options { worker_program: bench::script("stands.sh"), settings, ..Options::new(home) };
    serve(options).await.expect("serve").wait().await.expect("a clean end");
}

struct Process(Child);

impl Process {
    fn start(home: &Path, fail_at: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "child", "--ignored"]).env(HOME, home).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(at) = fail_at {
            command.env(FAIL_AT_VARIABLE, at.to_string());
        }
        Self(command.spawn().expect("start a coordinator"))
    }

    /// The child's own calls, once it answers.
    async fn jobs(&mut self, home: &Path) -> Jobs {
        let pid = self.0.id();
        let file = within("the coordinator", async || address(home).filter(|file| file.pid == pid)).await;
        let token = std::fs::read_to_string(home.join("token")).expect("read the token");
        jobs_with(&file.address, Some(&token)).await
    }

    async fn ended(&mut self) {
        within("the end of the coordinator", async || self.0.try_wait().expect("wait")).await;
    }

    fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn named(job: &str) -> JobRef {
    JobRef { job: job.to_owned() }
}

async fn state(jobs: &mut Jobs, job: &str) -> String {
    jobs.show(named(job)).await.expect("show").into_inner().state
}

async fn until(jobs: &mut Jobs, job: &str, expected: &str) {
    within(expected, async || (state(jobs, job).await == expected).then_some(())).await;
}

async fn alive(jobs: &mut Jobs) -> Vec<v1::WorkerStatus> {
    let reply = jobs.list_workers(v1::ListWorkersRequest::default()).await.expect("workers").into_inner();
    reply.workers.into_iter().filter(|worker| worker.state != "gone").collect()
}

#[tokio::test]
async fn a_killed_coordinator_comes_back_and_keeps_its_workers() {
    let bench = Bench::new("stands.sh");
    let _robots = Robots::start(&bench, "digits", false);
    let mut first = Process::start(bench.home(), None);
    let mut jobs = first.jobs(bench.home()).await;
    let cluster = bench.note_cluster(&mut jobs).await;
    jobs.submit(bench.submission("digits", 3)).await.expect("submit");
    until(&mut jobs, "digits", "running").await;
    let before = within("three workers", async || {
        let pids: BTreeSet<u32> = bench.processes(&cluster).into_iter().collect();
        (pids.len() == 3).then_some(pids)
    })
    .await;
    first.kill();
    let victim = *before.first().expect("a worker");
    kill(victim);

    let mut second = Process::start(bench.home(), None);
    let mut jobs = second.jobs(bench.home()).await;
    assert_eq!(jobs.info(v1::InfoRequest {}).await.expect("info").into_inner().cluster, cluster);
    let after = within("the lost worker's replacement", async || {
        let pids: BTreeSet<u32> = bench.processes(&cluster).into_iter().collect();
        let all = alive(&mut jobs).await.iter().all(|worker| worker.state == "training");
        (pids.len() == 3 && all).then_some(pids)
    })
    .await;
    assert_eq!(before.intersection(&after).count(), 2, "{before:?} {after:?}");
    assert!(!after.contains(&victim));
    let status = jobs.show(named("digits")).await.expect("show").into_inner();
    assert_eq!((status.state.as_str(), status.world_size), ("running", 3));

    jobs.stop(v1::StopRequest { suspend_jobs: true }).await.expect("stop");
    second.ended().await;
    assert!(bench.processes(&cluster).is_empty());
}

/// Aborts the coordinator before or after each of its commits in turn; it starts again, and the job ends well.
#[tokio::test]
async fn a_coordinator_that_dies_at_any_write_loses_and_doubles_nothing() {
    for at in 1.. {
        let bench = Bench::new("stands.sh");
        let _robots = Robots::start(&bench, "digits", true);
        let mut faulty = Process::start(bench.home(), Some(at));
        let pid = faulty.0.id();
        let died = tokio::select! {
            () = drive(&bench, &mut faulty) => false,
            () = died(pid) => true,
        };
        if !died {
            assert!(at > 12, "the whole path takes {at} commits only");
            return;
        }
        faulty.ended().await;
        let mut sound = Process::start(bench.home(), None);
        tokio::time::timeout(SOON, drive(&bench, &mut sound)).await.unwrap_or_else(|_| panic!("after write {at}"));
    }
}

/// A job of two workers from its submission to its end, whatever is there of it already.
async fn drive(bench: &Bench, process: &mut Process) {
    let Some(mut jobs) = connect(bench, process).await else { return std::future::pending().await };
    if let Err(status) = step(bench, &mut jobs).await {
        // It died: the other side of the race says so.
        assert!(
            matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal),
            "{status}"
        );
        std::future::pending::<()>().await;
    }
}

async fn connect(bench: &Bench, process: &mut Process) -> Option<Jobs> {
    let pid = process.0.id();
    let file = within("the coordinator", async || {
        let gone = process.0.try_wait().expect("wait").is_some();
        address(bench.home()).filter(|file| file.pid == pid).map(Some).or(gone.then_some(None))
    })
    .await?;
    let token = std::fs::read_to_string(bench.home().join("token")).expect("read the token");
    bench::try_jobs_with(&file.address, Some(&token)).await
}

async fn step(bench: &Bench, jobs: &mut Jobs) -> Result<(), tonic::Status> {
    let cluster = jobs.info(v1::InfoRequest {}).await?.into_inner().cluster;
    std::fs::write(bench.home().join("cluster-for-cleanup"), &cluster).expect("write");
    match jobs.submit(bench.submission("digits", 2)).await {
        Err(status) if status.code() != Code::AlreadyExists => return Err(status),
        _ => {}
    }
    loop {
        let processes = bench.processes(&cluster);
        assert!(processes.len() <= 2, "{processes:?} run for two workers");
        let status = jobs.show(named("digits")).await?.into_inner();
        if status.state == "succeeded" && processes.is_empty() {
            return Ok(());
        }
        assert!(status.state != "failed", "{}", status.reason);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn suspended_jobs_go_on_at_the_next_start_and_nothing_is_left_behind() {
    let bench = Bench::new("stands.sh");
    let _robots = Robots::start(&bench, "digits", false);
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 2)).await.expect("submit");
    until(&mut jobs, "digits", "running").await;
    running.suspend().await;
    assert!(bench.processes(running.cluster()).is_empty());
    assert!(address(bench.home()).is_none());
    running.wait().await.expect("a clean end");

    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    until(&mut jobs, "digits", "running").await;
    assert!(alive(&mut jobs).await.iter().all(|worker| worker.worker != "w1"));
    running.kill().await;
    assert!(bench.processes(running.cluster()).is_empty());

    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    until(&mut jobs, "digits", "running").await;
    let kinds: Vec<String> = explain(&mut jobs).await;
    assert!(!kinds.contains(&"back_off".to_owned()), "something was started while all was killed: {kinds:?}");
    running.kill().await;
}

async fn explain(jobs: &mut Jobs) -> Vec<String> {
    let reply = jobs.explain(named("digits")).await.expect("explain").into_inner();
    reply.decisions.into_iter().map(|decision| decision.kind).collect()
}

#[tokio::test]
async fn killing_cuts_a_suspension_short() {
    let bench = Bench::new("stands.sh");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 1)).await.expect("submit");
    // It is assigned and then says nothing more, so it never saves.
    let mut hand = bench.attach(&running, "digits", 1).await;
    hand.assign().await;
    let suspension = running.suspend();
    tokio::pin!(suspension);
    tokio::select! {
        () = &mut suspension => panic!("nobody saved"),
        told = hand.assign() => assert!(told.members.is_empty()),
    }
    tokio::time::timeout(SOON, async { tokio::join!(running.kill(), suspension) }).await.expect("an end in time");
    assert!(bench.processes(running.cluster()).is_empty());
}

#[tokio::test]
async fn workers_that_were_left_are_adopted() {
    let bench = Bench::new("stands.sh");
    let _robots = Robots::start(&bench, "digits", false);
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    jobs.submit(bench.submission("digits", 2)).await.expect("submit");
    until(&mut jobs, "digits", "running").await;
    let cluster = running.cluster().to_owned();
    let before = bench.processes(&cluster);
    jobs.stop(v1::StopRequest { suspend_jobs: false }).await.expect("stop");
    running.wait().await.expect("a clean end");
    assert_eq!(bench.processes(&cluster), before);

    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    within("both workers", async || {
        let workers = alive(&mut jobs).await;
        (workers.len() == 2 && workers.iter().all(|worker| worker.state == "training")).then_some(())
    })
    .await;
    assert_eq!(bench.processes(running.cluster()), before);
    running.kill().await;
}

#[tokio::test]
async fn a_job_whose_pool_is_configured_no_more_says_so() {
    let mut bench = Bench::new("stands.sh");
    let file = bench.folder.path().join("pools.toml");
    bench.options.pools_file = Some(file.clone());
    std::fs::write(&file, "[pools.old]\nkind = 'local'\ncapacity = 1\n").expect("write");
    let running = bench.serve().await;
    let text = bench.job_text("digits", 2).replace("min = 1", "min = 2") + "pools = ['old']\n";
    bench.jobs(&running).await.submit(bench.submission_from(&text)).await.expect("submit");
    running.leave().await;
    running.wait().await.expect("a clean end");

    std::fs::write(&file, "[pools.new]\nkind = 'local'\ncapacity = 8\n").expect("write");
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    within("the reason", async || {
        let reply = jobs.explain(named("digits")).await.expect("explain").into_inner();
        reply.decisions.last()?.why.contains("hold 0").then_some(())
    })
    .await;
    running.kill().await;
}

#[tokio::test]
async fn a_damaged_store_is_told_and_not_written_over() {
    let bench = Bench::new("stands.sh");
    bench.serve().await.kill().await;
    let store = coordinator_server::SledStore::open(&bench.home().join("db")).expect("open");
    let bad = coordinator_core::Record { key: "job/x".to_owned(), value: Some(b"{".to_vec()) };
    coordinator_server::Store::commit(&store, &[bad]).expect("commit");
    coordinator_server::Store::close(&store).expect("close");
    let error = serve(bench.options.clone()).await.expect_err("a damaged store");
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert_eq!(
        (error.to_string().as_str(), source.as_str()),
        ("load the coordinator's state", "record job/x: expected a job")
    );
}
