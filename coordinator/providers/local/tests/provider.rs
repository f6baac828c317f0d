//! The provider with real processes: small shell scripts stand for workers.

use coordinator_core::{
    DownCause, Event, Generation, InstanceId, JobId, LaunchError, LaunchErrorKind, Market, PoolName, WorkerId,
};
use coordinator_local::{LocalConfig, LocalProvider, PoolConfig, Trace, TraceConfig};
use coordinator_provider::{LaunchRequest, Provider};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);

/// A provider with one pool in a folder of its own. Processes that a failed test leaves are killed.
struct Bench {
    folder: tempfile::TempDir,
    cluster: String,
    provider: LocalProvider,
    events: UnboundedReceiver<Event>,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers").join(name)
}

fn pool(capacity: u32, notice: Duration) -> PoolConfig {
    PoolConfig {
        name: PoolName::from("spot"),
        market: Market::Spot,
        price: None,
        region: None,
        zone: None,
        capacity,
        notice,
        capacity_returns_after: Duration::from_millis(20),
        trace: None,
    }
}

fn config(
    folder: &Path,
    cluster: &str,
    program: &Path,
    pool: PoolConfig,
    events: UnboundedSender<Event>,
) -> LocalConfig {
    LocalConfig {
        cluster: cluster.to_owned(),
        program: program.to_owned(),
        coordinator_file: folder.join("coordinator.json"),
        logs: folder.join("logs"),
        token: Arc::new(|instance| format!("worker:{instance}:mac")),
        pools: vec![pool],
        running_for: BTreeMap::new(),
        events,
    }
}

impl Bench {
    fn new(program: &str, pool: PoolConfig) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let cluster = folder.path().file_name().expect("a name").to_string_lossy().into_owned();
        Self::over(folder, cluster, &script(program), pool)
    }

    fn over(folder: tempfile::TempDir, cluster: String, program: &Path, pool: PoolConfig) -> Self {
        let (sender, events) = unbounded_channel();
        let config = config(folder.path(), &cluster, program, pool, sender);
        let provider = LocalProvider::start(config).expect("start the provider");
        Self { folder, cluster, provider, events }
    }

    fn launch(&self, number: u32) -> InstanceId {
        let instance = InstanceId(format!("i{number}"));
        self.provider.launch(&LaunchRequest {
            instance: instance.clone(),
            worker: WorkerId(format!("w{number}")),
            pool: PoolName::from("spot"),
            job: JobId::from("job"),
            generation: Generation(0),
        });
        instance
    }

    /// The next event that is wanted; capacity is told of in between.
    async fn next<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let seek = async {
            loop {
                let event = self.events.recv().await.expect("the provider lives");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(SOON, seek).await.expect("the event in time")
    }

    async fn up(&mut self) -> u32 {
        self.next(|event| match event {
            Event::InstanceUp { pid, .. } => Some(pid.expect("a local process has a pid")),
            Event::LaunchFailed { error, .. } => panic!("launch failed: {error:?}"),
            _ => None,
        })
        .await
    }

    async fn down(&mut self) -> (InstanceId, DownCause) {
        self.next(|event| match event {
            Event::InstanceDown { instance, cause } => Some((instance.clone(), cause.clone())),
            _ => None,
        })
        .await
    }

    async fn capacity(&mut self, expected: u32) {
        self.next(|event| match event {
            Event::PoolChanged { pool } if pool.capacity == expected => Some(()),
            _ => None,
        })
        .await;
    }

    async fn launch_failure(&mut self) -> LaunchError {
        self.next(|event| match event {
            Event::LaunchFailed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until the worker's script says that it is ready, its trap set; gives what it said.
    async fn ready(&self, number: u32) -> String {
        let log = self.folder.path().join(format!("logs/job/w{number}.log"));
        let seek = async {
            loop {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                if let Some(line) = text.lines().find(|line| line.starts_with("ready")) {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, seek).await.expect("the worker is ready in time")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in workers(&self.cluster) {
            let group = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// All processes with the cluster's tag, whoever leads them.
fn processes(cluster: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let tagged = line.split(|byte| *byte == 0).any(|word| word == cluster.as_bytes());
            if tagged { entry.file_name().to_str()?.parse().ok() } else { None }
        })
        .collect()
}

/// Those that lead a process group: what a worker has just forked still bears its command line.
fn workers(cluster: &str) -> Vec<u32> {
    let group = |pid: &u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
    };
    processes(cluster).into_iter().filter(|pid| group(pid) == Some(*pid)).collect()
}

fn signal(pid: u32, name: &str) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
    let signal = match name {
        "KILL" => rustix::process::Signal::KILL,
        _ => rustix::process::Signal::TERM,
    };
    let _ = rustix::process::kill_process(pid, signal);
}

async fn gone(pid: u32) {
    let seek = async {
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, seek).await.expect("the process ends in time");
}

#[tokio::test]
async fn starts_a_worker_with_its_token_and_starts_it_once() {
    let mut bench = Bench::new("drains.sh", pool(4, LONG));
    bench.launch(1);
    let pid = bench.up().await;
    assert_eq!(bench.ready(1).await, "ready worker:i1:mac");
    bench.launch(1);
    assert_eq!(bench.up().await, pid);
    assert_eq!(bench.provider.running(), 1);
    assert_eq!(workers(&bench.cluster), [pid]);
}

#[tokio::test]
async fn an_exit_code_and_a_foreign_signal_are_told_apart() {
    let mut bench = Bench::new("exits.sh", pool(4, LONG));
    let first = bench.launch(1);
    assert_eq!(bench.down().await, (first, DownCause::Exited(7)));

    let mut bench = Bench::new("drains.sh", pool(1, LONG));
    let second = bench.launch(2);
    let pid = bench.up().await;
    signal(pid, "KILL");
    assert_eq!(bench.down().await, (second, DownCause::Killed(9)));
    bench.launch(3);
    bench.up().await;
    bench.ready(3).await;
}

/// Its peers see a worker die before the provider does, and the scheduler gives its instance back at once.
#[tokio::test]
async fn who_was_killed_before_it_is_terminated_counts_as_killed() {
    let mut bench = Bench::new("drains.sh", pool(1, LONG));
    let instance = bench.launch(1);
    let pid = bench.up().await;
    signal(pid, "KILL");
    // Nothing is awaited here, so the provider can't notice.
    let since = std::time::Instant::now();
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
        assert!(since.elapsed() < SOON, "the process did not end");
        std::thread::yield_now();
    }
    bench.provider.terminate(&instance, Duration::ZERO);
    assert_eq!(bench.down().await, (instance, DownCause::Killed(9)));
}

#[tokio::test]
async fn what_a_killed_worker_forked_goes_with_it() {
    let mut bench = Bench::new("stubborn.sh", pool(1, LONG));
    bench.launch(1);
    let pid = bench.up().await;
    let said = bench.ready(1).await;
    let child: u32 = said.trim_start_matches("ready ").parse().expect("the child's pid");
    signal(pid, "KILL");
    bench.down().await;
    gone(child).await;
}

#[tokio::test]
async fn a_drill_gives_notice_and_takes_room_for_a_while() {
    let mut bench = Bench::new("drains.sh", pool(2, LONG));
    let instance = bench.launch(1);
    bench.up().await;
    bench.ready(1).await;
    bench.provider.evict(&instance, LONG);
    let noticed = bench
        .next(|event| match event {
            Event::EvictionNotice { instance, .. } => Some(instance.clone()),
            _ => None,
        })
        .await;
    assert_eq!(noticed, instance);
    bench.capacity(1).await;
    assert_eq!(bench.down().await, (instance, DownCause::Evicted));
    bench.capacity(2).await;
    assert_eq!(bench.provider.pools()[0].evictions, 1);
}

#[tokio::test]
async fn who_ignores_the_notice_is_killed_at_its_end() {
    let mut bench = Bench::new("stubborn.sh", pool(2, LONG));
    let instance = bench.launch(1);
    let pid = bench.up().await;
    bench.ready(1).await;
    bench.provider.evict(&instance, Duration::from_millis(50));
    assert_eq!(bench.down().await, (instance, DownCause::Evicted));
    gone(pid).await;
}

#[tokio::test]
async fn without_notice_nothing_is_told_before_the_end() {
    let mut bench = Bench::new("stubborn.sh", pool(2, LONG));
    let instance = bench.launch(1);
    bench.up().await;
    bench.provider.evict(&instance, Duration::ZERO);
    let cause = bench
        .next(|event| match event {
            Event::EvictionNotice { .. } => panic!("a notice of nothing"),
            Event::InstanceDown { cause, .. } => Some(cause.clone()),
            _ => None,
        })
        .await;
    assert_eq!(cause, DownCause::Evicted);
}

#[tokio::test]
async fn terminating_waits_for_the_grace_and_no_longer() {
    let mut bench = Bench::new("stubborn.sh", pool(2, LONG));
    let instance = bench.launch(1);
    bench.up().await;
    bench.provider.terminate(&instance, LONG);
    bench.provider.terminate(&instance, Duration::from_millis(1));
    bench.provider.terminate(&instance, LONG);
    assert_eq!(bench.down().await, (instance, DownCause::Terminated));
    let unknown = InstanceId::from("i99");
    bench.provider.terminate(&unknown, LONG);
    assert_eq!(bench.down().await, (unknown, DownCause::Vanished));
}

#[tokio::test]
async fn shrinking_a_pool_evicts_the_youngest() {
    let mut bench = Bench::new("drains.sh", pool(3, LONG));
    for number in 1..=3 {
        bench.launch(number);
        bench.up().await;
        bench.ready(number).await;
    }
    bench.launch(4);
    assert_eq!(bench.launch_failure().await.kind, LaunchErrorKind::NoCapacity);
    let view = bench.provider.set_capacity(&PoolName::from("spot"), 1).expect("the pool is there");
    assert_eq!((view.spec.capacity, view.in_use, view.evictions), (1, 1, 2));
    let mut gone = [bench.down().await, bench.down().await];
    gone.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(gone, [2, 3].map(|n| (InstanceId(format!("i{n}")), DownCause::Evicted)));
    let error = bench.provider.set_capacity(&PoolName::from("sopt"), 1).expect_err("no such pool");
    assert_eq!(error.to_string(), "pool: expected one of spot, found \"sopt\"");
}

#[tokio::test]
async fn a_missing_program_is_rejected_with_a_hint_and_frees_its_room() {
    let folder = tempfile::tempdir().expect("temp folder");
    let mut bench = Bench::over(folder, "none".to_owned(), Path::new("/nowhere/worker"), pool(1, LONG));
    for number in 1..=2 {
        bench.launch(number);
        let LaunchError { kind: LaunchErrorKind::Configuration, message: reason, .. } = bench.launch_failure().await
        else {
            panic!("expected a rejection")
        };
        assert!(reason.starts_with("worker program /nowhere/worker: expected an executable file, found none"));
        assert!(reason.contains("hint: "), "{reason}");
    }
}

#[tokio::test]
async fn an_orphan_is_adopted_and_its_end_noticed() {
    let folder = tempfile::tempdir().expect("temp folder");
    let cluster = folder.path().file_name().expect("a name").to_string_lossy().into_owned();
    let pids: Vec<u32> = (1..=3).map(|number| orphan(&cluster, number)).collect();
    let mut bench = Bench::over(folder, cluster, &script("drains.sh"), pool(2, LONG));
    let mut listed = bench
        .next(|event| match event {
            Event::InstancesListed { instances, .. } => Some(instances.clone()),
            _ => None,
        })
        .await;
    listed.sort();
    let all: Vec<_> = (1..).zip(&pids).map(|(n, pid)| (InstanceId(format!("i{n}")), Some(*pid))).collect();
    assert_eq!(listed, all);

    bench.launch(1);
    assert_eq!(bench.up().await, pids[0], "a launch of it finds it");
    let (taken, cause) = bench.down().await;
    assert_eq!(cause, DownCause::Evicted, "the pool has room for two");
    let left: Vec<_> = all.iter().filter(|(instance, _)| *instance != taken).collect();
    signal(left[0].1.expect("a pid"), "KILL");
    assert_eq!(bench.down().await, (left[0].0.clone(), DownCause::Vanished));
    bench.provider.terminate(&left[1].0, Duration::ZERO);
    assert_eq!(bench.down().await, (left[1].0.clone(), DownCause::Terminated));
}

/// Starts a worker that is nobody's child, in its own process group, as an earlier coordinator would have left it.
fn orphan(cluster: &str, number: u32) -> u32 {
    let program = script("drains.sh");
    let line = format!(
        "TRAINCTL_POOL=spot setsid {} run --cluster {cluster} --instance i{number} --worker w{number} \
         </dev/null >/dev/null 2>&1 & echo $!",
        program.display()
    );
    let output = std::process::Command::new("sh").args(["-c", &line]).output().expect("run sh");
    let pid = String::from_utf8_lossy(&output.stdout).trim().parse().expect("the orphan's pid");
    // The shell tells the pid before the orphan leads a group and has become the script.
    let started = std::time::Instant::now();
    while !workers(cluster).contains(&pid) {
        assert!(started.elapsed() < SOON, "the orphan did not start");
        std::thread::yield_now();
    }
    pid
}

#[tokio::test]
async fn a_process_found_under_the_tag_is_not_started_again() {
    let mut bench = Bench::new("drains.sh", pool(2, LONG));
    let pid = orphan(&bench.cluster, 1);
    bench.launch(1);
    assert_eq!(bench.up().await, pid);
    assert_eq!(workers(&bench.cluster), [pid]);
}

#[tokio::test]
async fn stopping_leaves_no_process_behind() {
    let mut bench = Bench::new("stubborn.sh", pool(3, LONG));
    let mut pids = Vec::new();
    for number in 1..=3 {
        bench.launch(number);
        pids.push(bench.up().await);
        let said = bench.ready(number).await;
        pids.push(said.trim_start_matches("ready ").parse().expect("the child's pid"));
    }
    bench.provider.stop(Duration::from_millis(20)).await;
    assert_eq!(bench.provider.running(), 0);
    assert_eq!(processes(&bench.cluster), [] as [u32; 0]);
    for pid in pids {
        gone(pid).await;
    }
    bench.launch(4);
    assert_eq!(bench.launch_failure().await.kind, LaunchErrorKind::NoCapacity);
}

#[tokio::test]
async fn a_trace_moves_the_capacity_and_takes_the_instance_of_its_node() {
    let rows = "0,add,node1\n0,add,node2\n60000,add,node3\n120000,remove,node1\n";
    let trace = Trace::parse(rows, Path::new("t.csv")).expect("a good trace");
    // The rows after the first ones are due in the second half of a second.
    let mut bench =
        Bench::new("drains.sh", PoolConfig { trace: Some(TraceConfig { trace, speed: 120.0 }), ..pool(8, LONG) });
    bench.capacity(2).await;
    let first = bench.launch(1);
    bench.up().await;
    bench.capacity(3).await;
    assert_eq!(bench.down().await, (first, DownCause::Evicted));
    assert_eq!(bench.provider.pools()[0].spec.capacity, 2);
}
