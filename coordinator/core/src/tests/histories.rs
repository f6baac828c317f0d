//! Any history at all, likely or not: the invariants hold after each event, planning again changes nothing, a
//! coordinator that starts again from its records agrees, and once the faults stop every job ends.

use super::{LAST_STEP, instance, launch_error, listed, spec, worker};
use crate::{
    Action, Core, Differing, DownCause, Event, Generation, Holding, JobId, LaunchError, LaunchErrorKind, Market,
    PoolSpec, Price, Progress, Scope, Settings, ShardTime, Subject, Timestamp, ToWorker,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use trainctl_jobs::OnDemandSpec;

/// An event, with workers by number; most numbers are in use.
fn event() -> impl Strategy<Value = Event> {
    let n = 1u32..14;
    let generation = (0u64..10).prop_map(Generation);
    let holding = prop::option::of((0u64..8, prop::option::of(0..LAST_STEP)));
    let cause = prop_oneof![
        Just(DownCause::Exited(0)),
        Just(DownCause::Exited(1)),
        Just(DownCause::Killed(9)),
        Just(DownCause::Evicted),
        Just(DownCause::Terminated),
        Just(DownCause::Vanished),
    ];
    let kind = prop_oneof![
        3 => Just(LaunchErrorKind::NoCapacity),
        1 => Just(LaunchErrorKind::Quota),
        1 => Just(LaunchErrorKind::Transient),
        1 => Just(LaunchErrorKind::Configuration),
    ];
    let scope = prop_oneof![2 => Just(Scope::Zone), 1 => Just(Scope::Region), 1 => Just(Scope::Pool), 1 => Just(Scope::Provider)];
    let error = (kind, scope).prop_map(|(kind, scope)| LaunchError { scope, ..launch_error(kind) });
    prop_oneof![
        8 => (n.clone(), prop_oneof![9 => Just("a"), 1 => Just("b")], holding, 0u32..20)
            .prop_map(|(n, fingerprint, holding, odd)| attached(n, fingerprint, holding, odd == 0)),
        2 => n.clone().prop_map(|n| Event::WorkerDetached { worker: worker(n) }),
        6 => (n.clone(), generation.clone(), prop::option::of(0..LAST_STEP), prop::option::of(0u32..9)).prop_map(heartbeat),
        3 => (n.clone(), generation.clone(), n.clone(), any::<bool>()).prop_map(|(n, generation, peer, unsure)| {
            Event::PeerLost { worker: worker(n), generation, peer: worker(peer), detail: String::new(), unsure }
        }),
        4 => n.clone().prop_map(|n| Event::JoinerReady { worker: worker(n), step: 5 }),
        6 => (n.clone(), generation.clone(), 0..LAST_STEP).prop_map(|(n, generation, step)| Event::Resumed {
            worker: worker(n),
            generation,
            step,
            pause_ms: 1.0,
            steps_repeated: 1,
        }),
        3 => (n.clone(), generation.clone()).prop_map(|(n, generation)| Event::WorkerAside {
            worker: worker(n),
            generation,
            step: 7,
        }),
        3 => (n.clone(), generation.clone()).prop_map(|(n, generation)| Event::WorkerLeft {
            worker: worker(n),
            generation,
            step: 7,
        }),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, equal)| Event::WorkerFinished {
            worker: worker(n),
            step: LAST_STEP,
            loss: None,
            evaluation: None,
            state_digest: if equal { "d" } else { "e" }.to_owned(),
        }),
        2 => (n.clone(), generation.clone(), n.clone(), 0u32..3).prop_map(|(n, generation, odd, votes)| {
            let digests = (0..votes + 1).map(|vote| (worker(n + vote), "a".to_owned()));
            let digests = digests.chain([(worker(odd), "b".to_owned())]).collect();
            let differing = Differing { step: 5, subject: Subject::Model, shard: None, digests, right: None };
            Event::StatesDiffer { worker: worker(n), generation, differing }
        }),
        2 => (n.clone(), generation.clone(), n.clone(), prop::option::of(0u32..9), prop::option::of(0u32..3))
            .prop_map(|(n, generation, auditor, shard, right)| {
                let digests = [(worker(auditor), "a".to_owned()), (worker(n), "b".to_owned())].into();
                let right = right.map(|digest| ["a", "b", "c"][digest as usize].to_owned());
                let differing = Differing { step: 5, subject: Subject::Gradient, shard, digests, right };
                Event::StatesDiffer { worker: worker(n), generation, differing }
            }),
        2 => (n.clone(), generation.clone(), any::<bool>()).prop_map(|(n, generation, first)| Event::StatesAgree {
            worker: worker(n),
            generation,
            step: 5,
            subject: Subject::Model,
            digest: if first { "a" } else { "b" }.to_owned(),
        }),
        1 => n.clone().prop_map(|n| Event::SaveFailed { worker: worker(n), step: 5, reason: "full".to_owned() }),
        1 => (n.clone(), generation.clone()).prop_map(|(n, generation)| Event::NcclFailed {
            worker: worker(n),
            generation,
            reason: "no device".to_owned(),
        }),
        1 => (n.clone(), 0u32..8).prop_map(|(n, odd)| Event::WorkerFailed {
            worker: worker(n),
            job_fails: odd == 0,
            reason: "broken".to_owned(),
        }),
        1 => (n.clone(), 0u32..90)
            .prop_map(|(n, usd)| Event::PriceMoved { instance: instance(n), price: price(f64::from(usd)) }),
        4 => n.clone().prop_map(|n| Event::InstanceUp { instance: instance(n), pid: Some(n), machine: None }),
        4 => (n.clone(), cause).prop_map(|(n, cause)| Event::InstanceDown { instance: instance(n), cause }),
        2 => (n.clone(), error).prop_map(|(n, error)| Event::LaunchFailed { instance: instance(n), error }),
        3 => (n.clone(), 0i64..9_000).prop_map(|(n, ms)| Event::EvictionNotice {
            instance: instance(n),
            deadline: Timestamp(1_000_000 + ms),
        }),
        2 => n.clone().prop_map(|n| Event::RebalanceRecommended { instance: instance(n) }),
        1 => (0u32..4).prop_map(on_demand),
        1 => n.clone().prop_map(|n| Event::DrainRequested { worker: worker(n) }),
        1 => n.prop_map(|n| Event::EvictRequested { worker: worker(n), notice_ms: 0 }),
        2 => (0u32..9, any::<bool>()).prop_map(|(capacity, first)| pool(if first { "first" } else { "second" }, capacity)),
        1 => prop::collection::vec(1u32..14, 0..6).prop_map(|these| listed(these.into_iter().map(|n| (instance(n), None)).collect())),
        1 => prop_oneof![Just("one"), Just("two")].prop_map(|job| Event::CancelRequested { job: job.into() }),
        4 => Just(Event::Tick),
    ]
}

fn pool(name: &str, capacity: u32) -> Event {
    let price = Some(price(if name == "first" { 36.0 } else { 9.0 }));
    Event::PoolChanged { pool: PoolSpec { price, ..PoolSpec::local(name, true, capacity, 5_000) } }
}

fn on_demand(capacity: u32) -> Event {
    let local = PoolSpec::local("safe", false, capacity, 5_000);
    Event::PoolChanged { pool: PoolSpec { price: Some(price(100.0)), market: Market::OnDemand, ..local } }
}

fn price(usd_per_hour: f64) -> Price {
    Price { usd_per_hour, on_demand_usd_per_hour: 100.0 }
}

fn attached(n: u32, fingerprint: &str, holding: Option<(u64, Option<u64>)>, odd: bool) -> Event {
    Event::WorkerAttached {
        worker: worker(n),
        instance: instance(n),
        pid: if odd { 999 } else { n },
        address: format!("host:{n}"),
        fingerprint: fingerprint.to_owned(),
        fingerprint_detail: fingerprint.to_owned(),
        holding: holding.map(|(generation, step)| Holding {
            job: if n.is_multiple_of(2) { "two" } else { "one" }.into(),
            generation: Generation(generation),
            step,
            finished: false,
        }),
    }
}

fn heartbeat((n, generation, step, slowness): (u32, Generation, Option<u64>, Option<u32>)) -> Event {
    let shard_time = slowness.map(|slowness| ShardTime {
        seconds: 0.01 * f64::from(slowness),
        timed: u64::from(slowness) + step.unwrap_or_default(),
    });
    let progress = Progress {
        generation,
        step,
        loss: Some(0.5),
        samples_per_s: 1.0,
        state_digest: None,
        shard_time,
        skipped_steps: 0,
        audits_passed: step.unwrap_or_default() / 3,
    };
    Event::Heartbeat { worker: worker(n), progress }
}

struct History {
    core: Core,
    now: Timestamp,
    store: BTreeMap<String, Vec<u8>>,
    /// The newest generation that each job handed out.
    newest: BTreeMap<JobId, Generation>,
    /// Audits of each job that have passed, as shown.
    audits: BTreeMap<JobId, u64>,
}

impl History {
    fn new() -> Self {
        let core = Core::new(Settings::default());
        let (store, newest, audits) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut history = Self { core, now: Timestamp(1_000_000), store, newest, audits };
        history.take(pool("first", 4));
        history.take(pool("second", 3));
        history.take(on_demand(2));
        let second = vec!["first", "second", "safe"];
        for (name, workers, pools) in [("one", (1, 4), second), ("two", (2, 3), vec!["first"])] {
            let mut spec = Box::new(spec(name, workers, &pools));
            spec.policy.budget_usd = (name == "two").then_some(6.0);
            spec.policy.priority = i32::from(name == "two");
            spec.policy.deadline = (name == "one").then(|| "3 min".to_owned());
            spec.policy.on_demand = OnDemandSpec::ToMeetDeadline;
            history.take(Event::JobSubmitted { job: name.into(), spec, manifest_json: String::new() });
        }
        history
    }

    fn take(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // A refusal is a legal outcome; that it changes nothing shows in the invariants.
        let _ = self.core.handle(self.now, event, &mut actions);
        self.core.check_invariants();
        let effects = actions.iter().skip_while(|action| matches!(action, Action::Persist(_)));
        let effects: Vec<Action> = effects.cloned().collect();
        for action in actions {
            let Action::Persist(record) = action else { continue };
            match record.value {
                Some(value) => self.store.insert(record.key, value),
                None => self.store.remove(&record.key),
            };
        }
        assert!(!effects.iter().any(|effect| matches!(effect, Action::Persist(_))), "a record after an effect");
        for job in self.core.jobs() {
            let audits = self.audits.entry(job.job.clone()).or_default();
            assert!(job.audits_passed >= *audits, "an audit that passed has passed");
            *audits = job.audits_passed;
            let newest = self.newest.entry(job.job).or_default();
            assert!(job.generation >= *newest, "generations never go back");
            *newest = job.generation;
        }
        let deadline = self.core.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "woken in the past");
        effects
    }

    /// Nothing follows from the same state at the same time twice.
    fn is_settled(&mut self) {
        assert_eq!(self.take(Event::Tick), [], "planning again changes something");
    }

    /// What the records say is what the scheduler knows.
    fn records_agree(&self) {
        let loaded = Core::load(Settings::default(), self.store.clone(), self.now).expect("records that load");
        loaded.check_invariants();
        let brief = |core: &Core| -> Vec<_> {
            let suspended = |state| matches!(state, "suspended");
            core.jobs()
                .into_iter()
                .filter(|job| !suspended(job.state))
                .map(|job| (job.job, job.generation, job.ended, job.audits_passed))
                .collect()
        };
        assert_eq!(brief(&loaded), brief(&self.core));
        assert_eq!(loaded.instances().len(), self.core.instances().len());
    }

    /// From here on everything works: instances start, workers do as they are told, pools have room.
    fn calm(&mut self) {
        let mut inbox: Vec<Action> = self.take(pool("first", 9));
        inbox.extend(self.take(pool("second", 9)));
        inbox.extend(self.take(on_demand(9)));
        // Whoever was at work is gone; the provider says so.
        for view in self.core.instances() {
            inbox.extend(self.take(Event::InstanceDown { instance: view.instance, cause: DownCause::Evicted }));
        }
        for _ in 0..400 {
            let unended = self.core.jobs().iter().any(|job| job.ended.is_none());
            if !unended && self.core.instances().is_empty() {
                return;
            }
            if inbox.is_empty() {
                self.now = self.core.next_deadline().unwrap_or(self.now).max(self.now);
                inbox = self.take(Event::Tick);
                continue;
            }
            let mut next = Vec::new();
            for action in inbox {
                for event in self.obey(action) {
                    next.extend(self.take(event));
                }
            }
            inbox = next;
        }
        panic!("a job does not end: {:#?}\n{:#?}", self.core.jobs(), self.core.workers());
    }

    fn obey(&self, action: Action) -> Vec<Event> {
        match action {
            Action::Launch { instance, worker, job, .. } => vec![Event::WorkerAttached {
                address: worker.0.clone(),
                worker,
                instance,
                pid: 1,
                fingerprint: self.core.job(&job).and_then(|job| job.fingerprint).map_or("a".to_owned(), |(f, _)| f),
                fingerprint_detail: String::new(),
                holding: None,
            }],
            Action::Terminate { instance, .. } => {
                vec![Event::InstanceDown { instance, cause: DownCause::Terminated }]
            }
            Action::Send { worker, message: ToWorker::Assign { generation, members, .. } } => {
                if !members.iter().any(|member| member.worker == worker) {
                    return vec![match members.is_empty() {
                        true => Event::WorkerLeft { worker, generation, step: 50 },
                        false => Event::WorkerAside { worker, generation, step: 50 },
                    }];
                }
                let resumed =
                    Event::Resumed { worker: worker.clone(), generation, step: 60, pause_ms: 1.0, steps_repeated: 0 };
                let end = Event::WorkerFinished {
                    worker,
                    step: LAST_STEP,
                    loss: None,
                    evaluation: None,
                    state_digest: "d".to_owned(),
                };
                vec![resumed, end]
            }
            Action::Send { worker, message: ToWorker::Join { .. } } => vec![Event::JoinerReady { worker, step: 60 }],
            Action::Send { .. } | Action::Evict { .. } | Action::Persist(_) => Vec::new(),
        }
    }
}

proptest! {
    #[test]
    fn any_history_leaves_a_sound_state_and_every_job_ends(
        events in prop::collection::vec((event(), 0u64..4_000), 1..120),
        restart_at in prop::option::of(0usize..120),
    ) {
        let mut history = History::new();
        for (n, (event, ms)) in events.into_iter().enumerate() {
            history.now = history.now.plus_ms(ms);
            history.take(event);
            history.is_settled();
            history.records_agree();
            if restart_at == Some(n) {
                history.core = Core::load(Settings::default(), history.store.clone(), history.now).unwrap();
                history.take(pool("first", 4));
                history.take(pool("second", 3));
                history.take(on_demand(2));
                history.take(listed(Vec::new()));
            }
        }
        history.calm();
    }
}
