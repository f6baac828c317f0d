//! Stories told to the scheduler event by event. Each takes every action that it expects and nothing may be left;
//! the invariants are checked after each event.

mod audits;
mod balance;
mod buying;
mod capacity;
mod changes;
mod corruption;
mod costs;
mod deadlines;
mod deaths;
mod ends;
mod histories;
mod numerics;
mod queues;
mod restarts;
mod starts;

use crate::{
    Action, Core, DownCause, Event, Generation, Holding, InstanceId, JobId, JobView, LaunchError, LaunchErrorKind,
    PoolSpec, Progress, ProviderName, Rejection, Scope, Settings, Timestamp, ToWorker, WorkerId,
};
use serde_json::json;
use std::collections::BTreeMap;
use trainctl_jobs::JobSpec;

const SHARDS: u32 = 8;
const LAST_STEP: u64 = 100;

/// A spec with these bounds on workers and these pools.
fn spec(name: &str, (min, max): (u32, u32), pools: &[&str]) -> JobSpec {
    let spec = json!({
        "name": name,
        "data": { "manifest": "digits.manifest.json", "digest": "blake3:00" },
        "model": { "kind": "mlp", "hidden": [8] },
        "train": { "steps": LAST_STEP, "global_batch": 64, "logical_shards": SHARDS },
        "resources": { "workers": { "min": min, "max": max }, "pools": pools },
    });
    serde_json::from_value(spec).expect("a job spec")
}

/// A scheduler, its store, and the actions that no expectation has taken yet.
struct Story {
    core: Core,
    now: Timestamp,
    left: Vec<String>,
    store: BTreeMap<String, Vec<u8>>,
    fingerprint: &'static str,
}

impl Story {
    fn new() -> Self {
        let core = Core::new(Settings::default());
        Self { core, now: Timestamp(1_000_000), left: Vec::new(), store: BTreeMap::new(), fingerprint: "a" }
    }

    /// One pool, one job, all workers attached and training in generation 1 at step 10.
    fn running(workers: u32) -> Self {
        let mut story = Self::new();
        story.pool("local", 8);
        story.submit("job", (1, workers), &["local"]);
        for n in 1..=workers {
            story.attach(n);
        }
        story.resumed(1, 1, 10);
        story.left.clear();
        story
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        let described = format!("{event:?}");
        if let Err(rejection) = self.try_tell(event) {
            panic!("{described} was refused: {rejection}");
        }
        self
    }

    fn refused(&mut self, event: Event) -> Rejection {
        self.try_tell(event).expect_err("a refusal")
    }

    fn try_tell(&mut self, event: Event) -> Result<(), Rejection> {
        let mut actions = Vec::new();
        let outcome = self.core.handle(self.now, event, &mut actions);
        self.core.check_invariants();
        for action in actions {
            match action {
                Action::Persist(record) => {
                    match record.value {
                        Some(value) => self.store.insert(record.key, value),
                        None => self.store.remove(&record.key),
                    };
                }
                effect => self.left.push(brief(&effect)),
            }
        }
        outcome
    }

    /// Exactly these actions, in this order, since the last expectation.
    fn expect<const N: usize>(&mut self, expected: [&str; N]) -> &mut Self {
        let left = std::mem::take(&mut self.left);
        assert_eq!(left, expected, "decisions: {:#?}", self.decisions("job"));
        self
    }

    /// Drops what the story is not about.
    fn skip(&mut self) -> &mut Self {
        self.left.clear();
        self
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.plus_ms(ms);
        self
    }

    /// Every deadline up to `ms` from now; attached workers send heartbeats meanwhile.
    fn wait(&mut self, ms: u64, alive: &[u32]) -> &mut Self {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            let beat = self.now.plus_ms(500);
            let next = self.core.next_deadline().unwrap_or(end).min(end).min(beat);
            self.now = next;
            self.tell(Event::Tick);
            for n in alive {
                let generation = self.job("job").generation;
                self.heartbeat(*n, generation.0, None);
            }
        }
        self
    }

    fn pool(&mut self, name: &str, capacity: u32) -> &mut Self {
        let pool = PoolSpec::local(name, true, capacity, 5_000);
        self.tell(Event::PoolChanged { pool })
    }

    fn submit(&mut self, name: &str, workers: (u32, u32), pools: &[&str]) -> &mut Self {
        self.submit_spec(spec(name, workers, pools))
    }

    fn submit_spec(&mut self, spec: JobSpec) -> &mut Self {
        let job = JobId(spec.name.clone());
        self.tell(Event::JobSubmitted { job, spec: Box::new(spec), manifest_json: "{}".to_owned() })
    }

    fn attach(&mut self, n: u32) -> &mut Self {
        self.attach_holding(n, None)
    }

    fn attach_holding(&mut self, n: u32, holding: Option<(u64, Option<u64>)>) -> &mut Self {
        let event = self.attached(n, holding);
        self.tell(event)
    }

    fn attached(&self, n: u32, holding: Option<(u64, Option<u64>)>) -> Event {
        let fingerprint = self.fingerprint.to_owned();
        let job = self.core.worker(&worker(n)).map_or_else(|| JobId::from("job"), |view| view.job);
        Event::WorkerAttached {
            worker: worker(n),
            instance: instance(n),
            pid: 100 + n,
            address: format!("host:{n}"),
            fingerprint_detail: format!("kernels {fingerprint}"),
            fingerprint,
            holding: holding.map(|(generation, step)| Holding {
                job,
                generation: Generation(generation),
                step,
                finished: false,
            }),
        }
    }

    fn heartbeat(&mut self, n: u32, generation: u64, step: Option<u64>) -> &mut Self {
        let progress = Progress {
            generation: Generation(generation),
            step,
            loss: step.map(|_| 0.5),
            samples_per_s: 100.0,
            skipped_steps: 0,
            audits_passed: 0,
            state_digest: None,
            shard_time: None,
        };
        let _ = self.try_tell(Event::Heartbeat { worker: worker(n), progress });
        self
    }

    fn resumed(&mut self, n: u32, generation: u64, step: u64) -> &mut Self {
        let generation = Generation(generation);
        self.tell(Event::Resumed { worker: worker(n), generation, step, pause_ms: 20.0, steps_repeated: 0 })
    }

    fn ready(&mut self, n: u32, step: u64) -> &mut Self {
        self.tell(Event::JoinerReady { worker: worker(n), step })
    }

    fn left(&mut self, n: u32, generation: u64, step: u64) -> &mut Self {
        self.tell(Event::WorkerLeft { worker: worker(n), generation: Generation(generation), step })
    }

    fn aside(&mut self, n: u32, generation: u64, step: u64) -> &mut Self {
        self.tell(Event::WorkerAside { worker: worker(n), generation: Generation(generation), step })
    }

    fn notice(&mut self, n: u32, ms: u64) -> &mut Self {
        let deadline = self.now.plus_ms(ms);
        self.tell(Event::EvictionNotice { instance: instance(n), deadline })
    }

    fn down(&mut self, n: u32, cause: DownCause) -> &mut Self {
        self.tell(Event::InstanceDown { instance: instance(n), cause })
    }

    fn peer_lost(&mut self, n: u32, generation: u64, peer: u32) -> Result<(), Rejection> {
        self.peer_gone(n, generation, peer, false)
    }

    fn peer_gone(&mut self, n: u32, generation: u64, peer: u32, unsure: bool) -> Result<(), Rejection> {
        let detail = "reset".to_owned();
        let (generation, peer) = (Generation(generation), worker(peer));
        self.try_tell(Event::PeerLost { worker: worker(n), generation, peer, detail, unsure })
    }

    fn finished(&mut self, n: u32, digest: &str) -> &mut Self {
        self.tell(Event::WorkerFinished {
            worker: worker(n),
            step: LAST_STEP,
            loss: Some(0.1),
            evaluation: None,
            state_digest: digest.to_owned(),
        })
    }

    /// The coordinator dies and starts again from its store; `alive` is what the provider lists.
    fn restart(&mut self, alive: &[u32]) -> &mut Self {
        self.reload();
        self.pool("local", 8);
        let instances = alive.iter().map(|n| (instance(*n), Some(100 + n))).collect();
        self.tell(listed(instances))
    }

    fn reload(&mut self) {
        let records = self.store.clone();
        self.core = Core::load(Settings::default(), records, self.now).expect("records that load");
        self.core.check_invariants();
        self.left.clear();
    }

    fn job(&self, name: &str) -> JobView {
        self.core.job(&JobId::from(name)).expect("the job")
    }

    fn state(&self, name: &str) -> &'static str {
        self.job(name).state
    }

    fn worker_state(&self, n: u32) -> &'static str {
        self.core.worker(&worker(n)).expect("the worker").state
    }

    fn decisions(&self, name: &str) -> Vec<String> {
        let words = |decision: &crate::Decision| format!("{}: {}", decision.what(), decision.why());
        self.core.decisions(&JobId::from(name)).map(words).collect()
    }

    fn last_decision(&self, name: &str) -> String {
        self.decisions(name).pop().unwrap_or_default()
    }
}

fn worker(n: u32) -> WorkerId {
    WorkerId(format!("w{n}"))
}

fn listed(instances: Vec<(InstanceId, Option<u32>)>) -> Event {
    Event::InstancesListed { provider: ProviderName::from("local"), instances }
}

fn launch_error(kind: LaunchErrorKind) -> LaunchError {
    LaunchError { kind, scope: Scope::Zone, message: "no".to_owned() }
}

fn instance(n: u32) -> InstanceId {
    InstanceId(format!("i{n}"))
}

/// `launch w1 local`, `kill i1`, `end i1 5000`, `evict i1 0`, `w1 <- assign 2 now w1:0-4 w2:4-8`, `w1 <- join w2 w3`
/// (the donor, then who else has the state).
fn brief(action: &Action) -> String {
    match action {
        Action::Persist(record) => format!("persist {}", record.key),
        Action::Launch { worker, pool, .. } => format!("launch {worker} {pool}"),
        Action::Terminate { instance, grace_ms: 0 } => format!("kill {instance}"),
        Action::Terminate { instance, grace_ms } => format!("end {instance} {grace_ms}"),
        Action::Evict { instance, notice_ms } => format!("evict {instance} {notice_ms}"),
        Action::Send { worker, message } => format!("{worker} <- {}", brief_message(message)),
    }
}

fn brief_message(message: &ToWorker) -> String {
    match message {
        ToWorker::Welcome { expect_fingerprint: None, .. } => "welcome".to_owned(),
        ToWorker::Welcome { expect_fingerprint: Some(expected), .. } => format!("welcome {expected}"),
        ToWorker::Assign { generation, immediate, members, rollback, .. } => {
            let when = if *immediate { "now" } else { "planned" };
            let when = match rollback {
                Some(corruption) => format!("{when} after rollback {}", corruption.number),
                None => when.to_owned(),
            };
            let member = |m: &crate::Member| format!(" {}:{}-{}", m.worker, m.first_shard, m.end_shard);
            format!("assign {generation} {when}{}", members.iter().map(member).collect::<String>())
        }
        ToWorker::Join { donor, others, .. } => {
            let others = others.iter().map(|member| member.worker.0.as_str());
            let donors: Vec<&str> = std::iter::once(donor.worker.0.as_str()).chain(others).collect();
            format!("join {}", donors.join(" "))
        }
        ToWorker::Exit { .. } => "exit".to_owned(),
    }
}
