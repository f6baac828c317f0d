//! Virtual time, the coordinator with its store, and everything that goes between it, the cloud and the workers.

use crate::cloud::{Cloud, Outage};
use crate::faults::{Fault, Faults};
use crate::mesh::Meshes;
use crate::random::Random;
use crate::setup::Ended;
use crate::trace::Row;
use crate::worker::SimWorker;
use coordinator_core::{
    Action, Core, Event, Generation, InstanceId, JobId, JobView, LaunchErrorKind, Member, PoolSpec, Scope, Settings,
    Timestamp, ToWorker, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use trainctl_jobs::JobSpec;

/// Something that happens at its time.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// The provider tells the coordinator; lost while that is down.
    FromCloud(Event),
    /// A worker tells the coordinator on its stream of this number; lost when the stream broke meanwhile.
    FromWorker {
        worker: WorkerId,
        stream: u64,
        event: Event,
    },
    /// The coordinator tells a worker, likewise.
    ToWorker {
        worker: WorkerId,
        stream: u64,
        message: ToWorker,
    },
    /// A worker opens a stream.
    Attach {
        worker: WorkerId,
    },
    Heartbeat {
        worker: WorkerId,
    },
    /// All members of a generation have met, or have trained a step, or have saved.
    Mesh {
        job: JobId,
        generation: Generation,
        turn: u64,
    },
    /// A joiner has the state of its donor.
    Fetched {
        worker: WorkerId,
        donor: WorkerId,
    },
    /// A member sees the broken connection to a peer.
    Reset {
        worker: WorkerId,
        peer: WorkerId,
        generation: Generation,
    },
    /// A process ends by itself.
    Exit {
        worker: WorkerId,
        status: i32,
    },
    /// The provider has started a process.
    Started {
        instance: InstanceId,
    },
    /// The provider kills what it gave notice of, or was asked to end.
    Deadline {
        instance: InstanceId,
        evicted: bool,
    },
    /// A pool has so many more.
    Capacity {
        pool: String,
        more: i64,
    },
    /// A row of a real fleet's history.
    Node {
        row: Row,
        pool: String,
        max: u32,
    },
    /// A zone takes all that it gave and has nothing for so long.
    Reclaim {
        pool: &'static str,
        back_ms: u64,
    },
    /// From these pools nothing can be had: their providers do not answer.
    Outage {
        pools: &'static str,
        minutes: u64,
    },
    Tick,
    Fault(Fault),
    /// The coordinator starts again.
    Restart,
}

/// The coordinator is up, or between a crash and its next start.
pub(crate) struct World {
    seed: u64,
    pub(crate) now: i64,
    pub(crate) random: Random,
    pub(crate) cloud: Cloud,
    pub(crate) workers: BTreeMap<WorkerId, SimWorker>,
    pub(crate) meshes: Meshes,
    /// Of workers that are born slow.
    pub(crate) slowness: BTreeMap<WorkerId, f64>,
    /// Newest committed checkpoint of each job.
    pub(crate) checkpoints: BTreeMap<JobId, u64>,
    pub(crate) core: Option<Core>,
    pub(crate) faults: Faults,
    pub(crate) jobs: Vec<(JobId, JobSpec)>,
    store: BTreeMap<String, Vec<u8>>,
    settings: Settings,
    queue: BTreeMap<(i64, u64), Happening>,
    queued: u64,
    history: Vec<String>,
    /// Audits of each job that have passed, as shown.
    audits: BTreeMap<JobId, u64>,
    /// Every generation that was ever handed out: it must mean the same to all, for ever.
    handed_out: BTreeMap<(JobId, Generation), Vec<Member>>,
    /// Crash at this action from now on, counted over all of them.
    crash_after: Option<u64>,
    /// The coordinator goes when every job is suspended or has ended.
    suspending: bool,
}

/// A failed assertion inside the scheduler must tell how it came to it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let newest = self.history.len().saturating_sub(40);
            eprintln!("seed {}, the last of its history:\n{}", self.seed, self.history[newest..].join("\n"));
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        Self {
            seed,
            now: 1_700_000_000_000,
            random: Random::new(seed),
            cloud: Cloud::default(),
            workers: BTreeMap::new(),
            meshes: Meshes::default(),
            slowness: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            core: Some(Core::new(settings.clone())),
            faults: Faults::none(),
            jobs: Vec::new(),
            store: BTreeMap::new(),
            settings,
            queue: BTreeMap::new(),
            queued: 0,
            history: Vec::new(),
            audits: BTreeMap::new(),
            handed_out: BTreeMap::new(),
            crash_after: None,
            suspending: false,
        }
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub(crate) fn heartbeat_ms(&self) -> u64 {
        self.settings.heartbeat_ms
    }

    pub(crate) fn after(&mut self, ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + ms as i64, self.queued), happening);
    }

    pub(crate) fn announce(&mut self, pool: PoolSpec) {
        self.cloud.pools.insert(pool.name.clone(), pool.clone());
        self.tell(Event::PoolChanged { pool });
    }

    pub(crate) fn submit(&mut self, spec: JobSpec) {
        let job = JobId(spec.name.clone());
        self.jobs.push((job.clone(), spec.clone()));
        self.tell(Event::JobSubmitted { job, spec: Box::new(spec), manifest_json: "{}".to_owned() });
    }

    pub(crate) fn unleash(&mut self, faults: Faults) {
        for (at_ms, fault) in faults.schedule(&mut self.random) {
            self.after(at_ms, Happening::Fault(fault));
        }
        self.faults = faults;
    }

    pub(crate) fn replay(&mut self, rows: Vec<Row>, pool: &str, max: u32) {
        for row in rows {
            let at_ms = row.at_ms;
            self.after(at_ms, Happening::Node { row, pool: pool.to_owned(), max });
        }
    }

    /// Until every job has ended and every process with it.
    pub(crate) fn run_to_the_end(mut self, limit_ms: i64) -> Ended {
        let limit = self.now + limit_ms;
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            if at > limit || self.is_over() {
                break;
            }
            self.happen(happening);
        }
        self.finish()
    }

    fn is_over(&self) -> bool {
        let Some(core) = &self.core else { return false };
        let jobs = core.jobs();
        self.faults.over(self.now) && jobs.iter().all(|job| job.ended.is_some()) && core.instances().is_empty()
    }

    fn finish(mut self) -> Ended {
        let core = self.core.as_ref().unwrap_or_else(|| panic!("the coordinator never came back"));
        let mut decisions = String::new();
        let mut kinds = BTreeSet::new();
        let mut moves = Vec::new();
        for job in core.jobs() {
            decisions += &format!("{}: {} {}\n", job.job, job.state, job.reason);
            for decision in core.decisions(&job.job) {
                kinds.insert(decision.kind());
                moves.extend((decision.kind() == "move_shards").then_some(decision.step));
                let (at, generation, step) = (decision.at.0 - 1_700_000_000_000, decision.generation, decision.step);
                decisions += &format!("{at:>9} g{generation} s{step} {}: {}\n", decision.what(), decision.why());
            }
        }
        let listed = core.instances().into_iter().map(|instance| format!("{instance:?}"));
        let running = self.cloud.running.keys().map(|instance| format!("{instance} runs"));
        let left_behind = listed.chain(running).collect();
        let jobs = core.jobs();
        Ended { jobs, history: std::mem::take(&mut self.history), left_behind, kinds, moves, decisions }
    }

    /// The coordinator takes in one event, commits, and acts; it may crash before the commit or after any action.
    pub(crate) fn tell(&mut self, event: Event) {
        let Some(core) = self.core.as_mut() else { return };
        let mut actions = Vec::new();
        self.history.push(format!("{} {event:?}", self.now));
        let refused = core.handle(Timestamp(self.now), event, &mut actions);
        core.check_invariants();
        if let Err(refused) = refused {
            self.history.push(format!("refused: {refused}"));
        }
        if let Some(deadline) = core.next_deadline() {
            assert!(deadline.0 > self.now, "the scheduler asks to be woken in the past");
            self.after((deadline.0 - self.now) as u64, Happening::Tick);
        }
        self.carry_out(actions);
        self.check_audits();
        self.go_when_suspended();
    }

    /// What is committed is what is shown, and an audit that passed has passed, after any restart. Looked
    /// at now and then: views are copies.
    fn check_audits(&mut self) {
        let Some(core) = self.core.as_ref().filter(|_| self.queued.is_multiple_of(256)) else { return };
        for job in core.jobs() {
            let before = self.audits.entry(job.job).or_default();
            assert!(job.audits_passed >= *before, "{} audits have passed, {before} before", job.audits_passed);
            *before = job.audits_passed;
        }
    }

    pub(crate) fn suspend(&mut self) {
        self.suspending = true;
        self.tell(Event::SuspendRequested);
    }

    fn go_when_suspended(&mut self) {
        let Some(core) = self.core.as_ref().filter(|_| self.suspending) else { return };
        let kept = |job: &JobView| job.ended.is_some() || job.state == "suspended";
        if core.jobs().iter().all(kept) && core.instances().is_empty() {
            self.crash();
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let first_effect = actions.iter().position(|action| !matches!(action, Action::Persist(_)));
        let (records, effects) = actions.split_at(first_effect.unwrap_or(actions.len()));
        if !records.is_empty() && self.crashes() {
            return self.crash();
        }
        for record in records {
            let Action::Persist(record) = record else { continue };
            match record.value.clone() {
                Some(value) => self.store.insert(record.key.clone(), value),
                None => self.store.remove(&record.key),
            };
        }
        for effect in effects {
            self.history.push(format!("{} {effect:?}", self.now));
            if self.crashes() {
                return self.crash();
            }
            match effect.clone() {
                Action::Persist(record) => panic!("{} comes after an effect", record.key),
                Action::Launch { instance, worker, pool, job, generation: _ } => {
                    self.launch(instance, worker, pool, job)
                }
                Action::Terminate { instance, grace_ms } => self.terminate(&instance, grace_ms),
                Action::Evict { instance, notice_ms } => self.evict(&instance, notice_ms),
                Action::Send { worker, message } => self.send(worker, message),
            }
        }
    }

    fn crashes(&mut self) -> bool {
        match &mut self.crash_after {
            Some(0) => {
                self.crash_after = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    pub(crate) fn crash_after(&mut self, actions: u64) {
        self.crash_after = Some(actions);
    }

    fn crash(&mut self) {
        self.history.push(format!("{} the coordinator dies", self.now));
        self.core = None;
        self.suspending = false;
        for worker in self.workers.values_mut() {
            worker.break_stream();
        }
        let downtime_ms = self.random.range(50, 12_000);
        self.after(downtime_ms, Happening::Restart);
    }

    fn restart(&mut self) {
        self.history.push(format!("{} the coordinator starts again", self.now));
        let records = self.store.clone();
        let core = Core::load(self.settings.clone(), records, self.time());
        let core = core.unwrap_or_else(|error| panic!("load: {error}"));
        core.check_invariants();
        self.core = Some(core);
        let pools: Vec<PoolSpec> = self.cloud.pools.values().cloned().collect();
        for pool in pools {
            self.tell(Event::PoolChanged { pool });
        }
        for (provider, instances) in self.cloud.listed() {
            self.tell(Event::InstancesListed { provider, instances });
        }
        // A submission that was lost with the coordinator is made again by its user.
        for (job, spec) in self.jobs.clone() {
            if self.core.as_ref().is_some_and(|core| core.job(&job).is_none()) {
                self.tell(Event::JobSubmitted { job, spec: Box::new(spec), manifest_json: "{}".to_owned() });
            }
        }
        let alive: Vec<WorkerId> = self.workers.keys().cloned().collect();
        for worker in alive {
            let ms = self.random.range(10, 3_000);
            self.after(ms, Happening::Attach { worker });
        }
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        if let ToWorker::Assign { generation, members, .. } = &message {
            let job = self.workers.get(&worker).map(|worker| worker.job.clone());
            if let Some(job) = job {
                let before = self.handed_out.entry((job.clone(), *generation)).or_insert_with(|| members.clone());
                assert_eq!(before, members, "{job}: generation {generation} means two things");
            }
        }
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        let Some(stream) = entry.stream else { return };
        let at = entry.inbound_at(self.now, self.random.range(1, 20));
        self.after(at, Happening::ToWorker { worker, stream, message });
    }

    /// In order on the worker's stream, if it has one.
    pub(crate) fn say(&mut self, worker: &WorkerId, event: Event) {
        let Some(entry) = self.workers.get_mut(worker) else { return };
        let Some(stream) = entry.stream else { return };
        let at = entry.outbound_at(self.now, self.random.range(1, 20));
        self.after(at, Happening::FromWorker { worker: worker.clone(), stream, event });
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::FromCloud(event) => {
                if let Event::InstanceDown { instance, .. } = &event {
                    self.cloud.told_down(instance);
                }
                self.tell(event);
            }
            Happening::FromWorker { worker, stream, event } => {
                let open = self.workers.get(&worker).is_none_or(|worker| worker.stream == Some(stream));
                if open {
                    self.tell(event);
                }
            }
            Happening::ToWorker { worker, stream, message } => {
                let open = self.workers.get(&worker).is_some_and(|worker| worker.stream == Some(stream));
                if open {
                    self.hear(&worker, message);
                }
            }
            Happening::Attach { worker } => self.attach(&worker),
            Happening::Heartbeat { worker } => self.heartbeat(&worker),
            Happening::Mesh { job, generation, turn } => self.turn(&job, generation, turn),
            Happening::Fetched { worker, donor } => self.fetched(&worker, &donor),
            Happening::Reset { worker, peer, generation } => self.reset(&worker, &peer, generation),
            Happening::Exit { worker, status } => self.exit(&worker, status),
            Happening::Started { instance } => self.started(&instance),
            Happening::Deadline { instance, evicted } => self.deadline(&instance, evicted),
            Happening::Capacity { pool, more } => self.capacity(&pool, more),
            Happening::Outage { pools, minutes } => self.cloud.outages.push(Outage {
                pools,
                until: self.now + (minutes * 60_000) as i64,
                kind: LaunchErrorKind::Transient,
                scope: Scope::Provider,
            }),
            Happening::Reclaim { pool, back_ms } => self.reclaim(pool, back_ms),
            Happening::Node { row, pool, max } => self.node(&row, &pool, max),
            Happening::Tick => {
                let due = self.core.as_ref().is_some_and(|core| self.wants_tick(core));
                if due {
                    self.tell(Event::Tick);
                }
            }
            Happening::Fault(fault) => self.inflict(fault),
            Happening::Restart => self.restart(),
        }
    }

    /// Ticks are asked for after every event and most are overtaken by the next; a tick that plans nothing new is
    /// still legal, so some are delivered all the same.
    fn wants_tick(&self, core: &Core) -> bool {
        core.next_deadline().is_none_or(|deadline| deadline.0 <= self.now) || self.queued.is_multiple_of(7)
    }
}
