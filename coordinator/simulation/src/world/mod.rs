//! The real scheduler in virtual time. It buys in a [`Market`] as it would in a cloud: it is not told what the market
//! has, a request for which there is nothing fails, and an instance that is to be taken hears of it before. Workers
//! follow the protocol coarsely: progress is a rate, and only what the scheduler learns of or decides is an event.

mod cloud;
mod group;
mod worker;

use crate::market::{Fleet, Market};
use crate::outcome::{Bill, Outcome};
use crate::setup::Conditions;
use crate::workload::Workload;
use cloud::{Instance, Offer};
use coordinator_core::{Action, Core, Event, InstanceId, JobId, JobView, ProviderName, Settings, Timestamp, WorkerId};
use group::Group;
use std::collections::BTreeMap;
use worker::VirtualWorker;

/// Any time after the epoch.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// From saying something to its being heard.
const MESSAGE_MS: u64 = 1;
/// From being told to end to the end.
const EXIT_MS: u64 = 1_000;
/// The pool that jobs name; its offers are the market's zones.
const POOL: &str = "trace";
const PROVIDER: &str = "virtual";

/// Something that happens at its time.
#[derive(Debug)]
enum Happening {
    /// The scheduler hears of it.
    Heard(Event),
    /// The provider has started the instance.
    Up(InstanceId),
    /// Its worker opens its stream.
    Attach(InstanceId),
    Heartbeat(WorkerId),
    /// A joiner has the state.
    Fetched {
        worker: WorkerId,
        turn: u64,
    },
    /// The group has met, or is at a step at which it does something; overtaken when its turn is another one.
    Group {
        turn: u64,
    },
    /// An instance is to be taken.
    Notice(InstanceId),
    /// Its node is gone.
    Taken(InstanceId),
    /// It ended by itself, or was ended.
    Ended {
        instance: InstanceId,
        status: Option<i32>,
    },
}

struct World<'a> {
    core: Core,
    job: JobId,
    now_ms: u64,
    workload: &'a Workload,
    conditions: &'a Conditions,
    market: &'a Market,
    fleet: Fleet<'a>,
    offers: Vec<Offer>,
    instances: BTreeMap<InstanceId, Instance>,
    workers: BTreeMap<WorkerId, VirtualWorker>,
    group: Group,
    bill: Bill,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    /// The job's record was written again since it was looked at.
    changed: bool,
}

/// Runs the job under the real scheduler until it ends, or to `horizon_ms`.
#[must_use]
pub fn run_scheduler(market: &Market, workload: &Workload, conditions: &Conditions, horizon_ms: u64) -> Outcome {
    run(market, workload, conditions, horizon_ms).0
}

/// The same, and what was decided: when, what and why.
#[must_use]
pub fn explain_scheduler(
    market: &Market,
    workload: &Workload,
    conditions: &Conditions,
    horizon_ms: u64,
) -> (Outcome, Vec<(u64, String, String)>) {
    let (outcome, core, job) = run(market, workload, conditions, horizon_ms);
    let told = core.decisions(&job).map(|decision| {
        let at_ms = u64::try_from(decision.at.0 - BEGIN_MS).unwrap_or(0);
        (at_ms, decision.what(), decision.why())
    });
    (outcome, told.collect())
}

fn run(market: &Market, workload: &Workload, conditions: &Conditions, horizon_ms: u64) -> (Outcome, Core, JobId) {
    let mut world = World::new(market, workload, conditions);
    world.submit();
    let ended = world.run(horizon_ms);
    let deadline_ms = workload.deadline_ms;
    let (finish_ms, failure) = match ended {
        Some((at_ms, job)) if job.state == "succeeded" => (Some(at_ms as f64), None),
        Some((_, job)) => (None, Some(job.reason)),
        None => (None, Some("it was not done by the end of what was simulated".to_owned())),
    };
    world.bill_the_rest();
    (world.bill.outcome(&conditions.prices, finish_ms, deadline_ms, failure), world.core, world.job)
}

/// The scheduler's own waiting times, with what virtual workers need: heartbeats as rare as the simulation is coarse,
/// time to start, and short lists, since they are records that are written again at each change.
fn settings(conditions: &Conditions) -> Settings {
    let usual = Settings::default();
    Settings {
        heartbeat_ms: conditions.heartbeat_ms,
        attach_ms: usual.attach_ms.max(2 * conditions.start_ms),
        start_ms: conditions.start_ms,
        pace_window_ms: usual.pace_window_ms.max(5 * conditions.heartbeat_ms),
        checkpoints_max: 2,
        gone_max: 2,
        ..usual
    }
}

impl<'a> World<'a> {
    fn new(market: &'a Market, workload: &'a Workload, conditions: &'a Conditions) -> Self {
        Self {
            core: Core::new(settings(conditions)),
            job: JobId(workload.spec.name.clone()),
            now_ms: 0,
            workload,
            conditions,
            market,
            fleet: Fleet::new(market),
            offers: cloud::offers(market, workload, conditions),
            instances: BTreeMap::new(),
            workers: BTreeMap::new(),
            group: Group::default(),
            bill: Bill::default(),
            queue: BTreeMap::new(),
            queued: 0,
            changed: true,
        }
    }

    fn submit(&mut self) {
        self.tell(Event::InstancesListed { provider: ProviderName::from(PROVIDER), instances: Vec::new() });
        for pool in self.offers.iter().map(|offer| offer.spec.clone()).collect::<Vec<_>>() {
            self.tell(Event::PoolChanged { pool });
        }
        let mut spec = self.workload.spec.clone();
        spec.resources.pools = vec![POOL.to_owned()];
        spec.resources.regions = Vec::new();
        let job = self.job.clone();
        self.tell(Event::JobSubmitted { job, spec: Box::new(spec), manifest_json: "{}".to_owned() });
    }

    /// Until the job has ended, when that was, and what it was like then.
    fn run(&mut self, horizon_ms: u64) -> Option<(u64, JobView)> {
        loop {
            if std::mem::take(&mut self.changed)
                && let Some(job) = self.core.job(&self.job).filter(|job| job.ended.is_some())
            {
                return Some((self.now_ms, job));
            }
            let happens_ms = self.queue.first_key_value().map(|((at_ms, _), _)| *at_ms);
            let deadline = self.core.next_deadline();
            let tick_ms = deadline.map(|at| u64::try_from(at.0 - BEGIN_MS).unwrap_or(0).max(self.now_ms));
            let next_ms = [happens_ms, tick_ms].into_iter().flatten().min().filter(|at_ms| *at_ms <= horizon_ms)?;
            self.now_ms = next_ms;
            if happens_ms == Some(next_ms) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else {
                self.tell(Event::Tick);
            }
        }
    }

    fn after(&mut self, ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now_ms.saturating_add(ms), self.queued), happening);
    }

    /// The scheduler hears of it in a moment.
    fn say(&mut self, event: Event) {
        self.after(MESSAGE_MS, Happening::Heard(event));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Heard(event) => self.tell(event),
            Happening::Up(instance) => self.up(&instance),
            Happening::Attach(instance) => self.attach(&instance),
            Happening::Heartbeat(worker) => self.heartbeat(&worker),
            Happening::Fetched { worker, turn } => self.fetched(&worker, turn),
            Happening::Group { turn } => self.group_turn(turn),
            Happening::Notice(instance) => self.notice(&instance),
            Happening::Taken(instance) => self.taken(&instance),
            Happening::Ended { instance, status } => self.ended(&instance, status),
        }
    }

    /// An event that the scheduler refuses is one that a race made late; it refuses those of real workers likewise.
    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        let now = Timestamp(BEGIN_MS + i64::try_from(self.now_ms).unwrap_or(i64::MAX - BEGIN_MS));
        let _refused = self.core.handle(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Persist(record) => self.changed |= record.key.starts_with("job/"),
                Action::Launch { instance, worker, pool, .. } => self.launch(instance, worker, &pool),
                Action::Terminate { instance, .. } => self.terminate(&instance),
                Action::Evict { .. } => {}
                Action::Send { worker, message } => self.hear(&worker, message),
            }
        }
    }
}
