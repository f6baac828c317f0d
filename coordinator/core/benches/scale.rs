//! What the scheduler costs at scale: `cargo bench -p coordinator-core --bench scale`.
//!
//! 1,000 jobs of 10 workers each, all training and heart-beating, on priced places of two clouds. Printed: microseconds
//! for a heartbeat with the time that is asked for after it, for an eviction alone and with all that follows from it;
//! milliseconds for a planning pass that looks at every job; bytes for each worker.

// It measures, and says what: what the scheduler itself must not do.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use coordinator_core::{
    Action, Core, DownCause, Event, Generation, InstanceId, JobId, Market, Place, PoolName, PoolSpec, Price, Progress,
    ProviderName, Settings, ShardTime, Timestamp, ToWorker, WorkerId,
};
use serde_json::json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const JOBS: u64 = 1_000;
const WORKERS: u64 = 10;

/// Counts what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only sizes are counted beside it.
#[allow(unsafe_code, reason = "an allocator can't be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Fleet {
    core: Core,
    now: i64,
    out: Vec<Action>,
    /// In the scheduler, so far.
    spent: Duration,
    /// Workers that are up, with the newest generation that each was given.
    workers: BTreeMap<WorkerId, (InstanceId, Generation)>,
}

/// What the scheduler took for one.
struct Eviction {
    alone: Duration,
    /// With what the others report as they go on, and what comes in the place of the one that went.
    until_all_train: Duration,
}

fn offer(of: &str, zone: usize, market: Market) -> PoolSpec {
    let (suffix, usd) = if market == Market::Spot { ("", 0.3 + 0.001 * zone as f64) } else { ("/on-demand", 1.0) };
    PoolSpec {
        name: PoolName(format!("{of}/z{zone}{suffix}")),
        of: PoolName(of.to_owned()),
        place: Place {
            provider: ProviderName(of.to_owned()),
            region: Some("r".to_owned()),
            zone: Some(format!("z{zone}")),
        },
        market,
        price: Some(Price { usd_per_hour: usd, on_demand_usd_per_hour: 1.0 }),
        capacity: 2_000,
        capacity_told: false,
        notice_ms: 120_000,
    }
}

impl Fleet {
    fn new() -> Self {
        let core = Core::new(Settings::default());
        let (out, spent, workers) = (Vec::new(), Duration::ZERO, BTreeMap::new());
        let mut fleet = Self { core, now: 1_700_000_000_000, out, spent, workers };
        for zone in 0..12 {
            for of in ["aws", "gcp"] {
                fleet.tell(Event::PoolChanged { pool: offer(of, zone, Market::Spot) });
                fleet.tell(Event::PoolChanged { pool: offer(of, zone, Market::OnDemand) });
            }
        }
        fleet
    }

    /// The event alone; what comes out is kept for [`Fleet::obey`].
    fn tell(&mut self, event: Event) {
        let began = Instant::now();
        let _ = self.core.handle(Timestamp(self.now), event, &mut self.out);
        self.spent += began.elapsed();
    }

    /// The event alone, in milliseconds.
    fn pass_ms(&mut self, event: Event) -> f64 {
        let before = self.spent;
        self.tell(event);
        (self.spent - before).as_secs_f64() * 1e3
    }

    /// Instances start at once and workers do as they are told.
    fn obey(&mut self) {
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                match action {
                    Action::Launch { instance, worker, .. } => {
                        self.workers.insert(worker.clone(), (instance.clone(), Generation::default()));
                        let attached = Event::WorkerAttached {
                            address: format!("10.0.0.1:{worker}"),
                            worker,
                            instance,
                            pid: 1,
                            fingerprint: "a".to_owned(),
                            fingerprint_detail: "a".to_owned(),
                            holding: None,
                        };
                        self.tell(attached);
                    }
                    Action::Terminate { instance, .. } => {
                        self.workers.retain(|_, (known, _)| *known != instance);
                        self.tell(Event::InstanceDown { instance, cause: DownCause::Terminated });
                    }
                    Action::Send { worker, message: ToWorker::Assign { generation, members, .. } } => {
                        let member = members.iter().any(|member| member.worker == worker);
                        if let Some(known) = self.workers.get_mut(&worker).filter(|_| member) {
                            known.1 = generation;
                            let step = 5;
                            self.tell(Event::Resumed { worker, generation, step, pause_ms: 1.0, steps_repeated: 0 });
                        }
                    }
                    Action::Send { worker, message: ToWorker::Join { .. } } => {
                        self.tell(Event::JoinerReady { worker, step: 5 });
                    }
                    Action::Send { .. } | Action::Evict { .. } | Action::Persist(_) => {}
                }
            }
        }
    }

    fn submit(&mut self, n: u64) {
        let deadline = n.is_multiple_of(4).then_some("1000 h");
        let spec = json!({
            "name": format!("job-{n}"),
            "data": { "manifest": "digits.manifest.json", "digest": "blake3:00" },
            "model": { "kind": "mlp", "hidden": [8] },
            "train": { "steps": 1_000_000, "global_batch": 64, "logical_shards": 16 },
            "resources": { "workers": { "min": 1, "max": WORKERS }, "pools": ["aws", "gcp"] },
            "policy": {
                "deadline": deadline,
                "on_demand": if deadline.is_some() { "to-meet-deadline" } else { "never" },
                "queue": format!("queue-{}", n % 4),
            },
        });
        let spec = serde_json::from_value(spec).expect("a job spec");
        let job = JobId(format!("job-{n}"));
        self.tell(Event::JobSubmitted { job, spec: Box::new(spec), manifest_json: "{}".to_owned() });
        self.obey();
    }

    /// A heartbeat of each worker; the time that the scheduler took.
    fn heartbeats(&mut self, step: u64) -> Duration {
        let workers: Vec<(WorkerId, Generation)> =
            self.workers.iter().map(|(worker, (_, generation))| (worker.clone(), *generation)).collect();
        let mut spent = Duration::ZERO;
        for (n, (worker, generation)) in workers.into_iter().enumerate() {
            // Half a second from one worker's to its next.
            self.now += i64::from(n.is_multiple_of((JOBS * WORKERS) as usize / 500));
            let progress = Progress {
                generation,
                step: Some(step),
                loss: Some(0.5),
                samples_per_s: 640.0,
                state_digest: None,
                shard_time: Some(ShardTime { seconds: 0.01, timed: step }),
                skipped_steps: 0,
                audits_passed: 0,
            };
            let began = Instant::now();
            self.tell(Event::Heartbeat { worker, progress });
            std::hint::black_box(self.core.next_deadline());
            spent += began.elapsed();
            self.obey();
        }
        spent
    }

    /// Takes these away, one after the other.
    fn evictions(&mut self, taken: Vec<InstanceId>) -> Vec<Eviction> {
        let mut evictions = Vec::new();
        for instance in taken {
            self.workers.retain(|_, (known, _)| *known != instance);
            let before = self.spent;
            self.tell(Event::InstanceDown { instance, cause: DownCause::Evicted });
            let alone = self.spent - before;
            self.obey();
            evictions.push(Eviction { alone, until_all_train: self.spent - before });
        }
        evictions
    }
}

fn micros(spent: Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Of times of single events: the median, which other load on the machine hardly moves, and the mean.
fn told(evictions: &[Eviction]) -> String {
    let figures = |part: fn(&Eviction) -> Duration| {
        let mut spent: Vec<Duration> = evictions.iter().map(part).collect();
        spent.sort();
        let median = spent.get(spent.len() / 2).copied().unwrap_or_default();
        format!("{:.1} us, {:.1} us in the mean", micros(median, 1), micros(spent.iter().sum(), spent.len()))
    };
    format!("{}; until all train again: {}", figures(|one| one.alone), figures(|one| one.until_all_train))
}

fn main() {
    let empty = IN_USE.load(Ordering::Relaxed);
    let mut fleet = Fleet::new();
    let began = Instant::now();
    (0..JOBS).for_each(|n| fleet.submit(n));
    let attached = fleet.workers.len();
    println!("{JOBS} jobs, {attached} workers up after {:.1} s", began.elapsed().as_secs_f64());

    for step in 6..9 {
        let spent = fleet.heartbeats(step);
        println!("a heartbeat, with the time asked for after it: {:.1} us", micros(spent, attached));
    }

    let taken: Vec<InstanceId> = fleet.workers.values().map(|(instance, _)| instance.clone()).step_by(5).collect();
    let spent = fleet.evictions(taken);
    println!("an eviction, with the new group and its replacement: {}", told(&spent));

    println!("a planning pass over every job: {:.1} ms", fleet.pass_ms(Event::Awoke));
    fleet.obey();

    // The same when capacity is short and every job waits for some.
    for zone in 0..12 {
        for of in ["aws", "gcp"] {
            let none = PoolSpec { capacity: 0, ..offer(of, zone, Market::Spot) };
            fleet.tell(Event::PoolChanged { pool: none });
        }
    }
    fleet.obey();
    let taken: Vec<InstanceId> = fleet.workers.values().map(|(instance, _)| instance.clone()).step_by(10).collect();
    let spent = fleet.evictions(taken);
    let last = &spent[spent.len() * 9 / 10..];
    println!("an eviction when nearly every job is short of workers: {}", told(last));
    fleet.now += 1_000;
    println!(
        "the look at all of them a second later, which moves what some can spare: {:.1} ms",
        fleet.pass_ms(Event::Tick)
    );
    fleet.obey();
    println!("a planning pass with every job short of workers: {:.1} ms", fleet.pass_ms(Event::Awoke));
    fleet.out.clear();

    let used = IN_USE.load(Ordering::Relaxed).saturating_sub(empty);
    println!(
        "memory: {} bytes a worker, its part of the jobs and their decisions included",
        used / fleet.workers.len()
    );
}
