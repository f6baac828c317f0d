//! What jobs pay, over prices that move, evictions and restarts; and that a budget is never passed.

use super::{Story, instance, listed, spec, worker};
use crate::{
    Checkpoint, Core, CostReport, DownCause, Event, JobId, Machine, PoolSpec, Price, Rejection, Settings, Timestamp,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use trainctl_jobs::{AuditSpec, JobSpec};

/// One cent a second.
const CENT_A_SECOND: f64 = 36.0;

fn price(usd_per_hour: f64) -> Price {
    Price { usd_per_hour, on_demand_usd_per_hour: 3.0 * usd_per_hour }
}

fn priced(usd_per_hour: f64) -> Event {
    Event::PoolChanged {
        pool: PoolSpec { price: Some(price(usd_per_hour)), ..PoolSpec::local("local", true, 8, 5_000) },
    }
}

fn up(n: u32) -> Event {
    Event::InstanceUp { instance: instance(n), pid: Some(100 + n), machine: None }
}

fn budgeted(workers: (u32, u32), budget_usd: f64) -> JobSpec {
    let mut spec = spec("job", workers, &["local"]);
    spec.policy.budget_usd = Some(budget_usd);
    spec
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "expected {expected}, found {found}");
}

impl Story {
    /// A pool with a price and a job of so many workers that train in generation 1.
    fn paying(spec: JobSpec) -> Self {
        let workers = spec.resources.workers.max;
        let mut story = Self::new();
        story.tell(priced(CENT_A_SECOND));
        story.submit_spec(spec);
        for n in 1..=workers {
            story.tell(up(n)).attach(n);
        }
        story.resumed(1, 1, 10);
        story.skip();
        story
    }

    fn cost(&self) -> CostReport {
        self.core.cost(&JobId::from("job")).expect("the job")
    }

    fn paid(&self) -> f64 {
        self.cost().total.paid_usd
    }

    /// The coordinator is killed and starts again; everything runs on.
    fn kill_and_start(&mut self, usd_per_hour: f64) -> &mut Self {
        let alive: Vec<_> = self.core.instances().into_iter().map(|view| (view.instance, view.pid)).collect();
        self.reload();
        self.tell(listed(alive)).tell(priced(usd_per_hour))
    }
}

#[test]
fn a_job_that_pays_nothing_has_no_cost() {
    let mut story = Story::running(2);
    story.down(1, DownCause::Evicted);
    assert_eq!(story.job("job").cost, None);
    assert!(story.cost().instances.is_empty());
    assert!(!story.store.keys().any(|key| key.starts_with("bill/") || key.starts_with("account/")));
}

#[test]
fn an_instance_is_paid_for_from_its_start_to_its_end_at_the_price_of_the_time() {
    let mut story = Story::paying(spec("job", (1, 1), &["local"]));
    story.wait(10_000, &[1]);
    story.tell(Event::PriceMoved { instance: instance(1), price: price(2.0 * CENT_A_SECOND) });
    story.wait(10_000, &[1]);
    story.down(1, DownCause::Evicted);
    story.after(60_000);
    let CostReport { total, instances, .. } = story.cost();
    near(instances[0].sum.paid_usd, 0.30);
    near(total.instances.on_demand_usd, 0.90);
    near(total.saved_usd(), 0.60);
    let ended = &instances[0];
    assert_eq!((ended.sum.ms, ended.end.map(|end| end.since_ms(ended.start))), (20_000, Some(20_000)));
    assert_eq!(ended.periods.len(), 2);
    assert_eq!(ended.periods[0].to, Some(ended.periods[1].from));
    let refused = story.refused(Event::PriceMoved { instance: instance(2), price: price(f64::NAN) });
    assert!(matches!(refused, Rejection::NoPrice { .. }), "{refused}");
}

#[test]
fn the_ledger_is_the_same_after_a_kill_and_counts_the_time_of_no_coordinator() {
    let mut story = Story::paying(spec("job", (1, 2), &["local"]));
    story.wait(10_000, &[1, 2]);
    let before = story.cost();
    story.reload();
    assert_eq!(story.cost(), before);
    story.after(5_000).kill_and_start(CENT_A_SECOND);
    near(story.paid(), 0.30);
}

#[test]
fn one_that_came_up_while_no_coordinator_ran_is_paid_for_since_it_was_asked_for() {
    let mut story = Story::new();
    story.tell(priced(CENT_A_SECOND)).submit("job", (1, 1), &["local"]);
    story.after(4_000);
    story.reload();
    story.tell(priced(CENT_A_SECOND)).tell(listed(vec![(instance(1), Some(101))]));
    story.after(1_000).tell(Event::Tick);
    near(story.paid(), 0.05);
    let since = Some(story.now.plus_ms(0)).map(|now| Timestamp(now.0 - 3_000));
    let machine = Machine { id: "m".into(), instance_type: "small".into(), price: price(2.0 * CENT_A_SECOND), since };
    story.tell(Event::InstanceUp { instance: instance(1), pid: None, machine: Some(machine) });
    near(story.paid(), 0.06);
}

#[test]
fn instances_of_a_pool_follow_its_price_unless_their_own_was_told() {
    let mut story = Story::new();
    story.tell(priced(CENT_A_SECOND)).submit("job", (2, 2), &["local"]);
    let machine = Machine { id: "m".into(), instance_type: "small".into(), price: price(CENT_A_SECOND), since: None };
    story.tell(up(1));
    story.tell(Event::InstanceUp { instance: instance(2), pid: None, machine: Some(machine) });
    story.after(1_000).tell(priced(3.0 * CENT_A_SECOND));
    story.after(1_000).tell(Event::Tick);
    let instances = story.cost().instances;
    near(instances[0].sum.paid_usd, 0.04);
    near(instances[1].sum.paid_usd, 0.02);
}

#[test]
fn an_eviction_costs_what_its_replacement_takes_to_join_and_what_the_others_lose() {
    let mut story = Story::paying(spec("job", (1, 2), &["local"]));
    story.wait(10_000, &[1, 2]);
    story.down(2, DownCause::Evicted);
    let generation = story.job("job").generation;
    // 100 samples a second and 64 a step: of 1.64 s that nothing was done, 1 s is lost.
    story.tell(Event::Resumed { worker: worker(1), generation, step: 11, pause_ms: 1_640.0, steps_repeated: 1 });
    near(story.cost().total.repeating_usd, 0.01);
    story.tell(up(3)).attach(3);
    story.wait(4_000, &[1, 3]);
    near(story.cost().total.joining_usd, 0.04);
    story.ready(3, 12).wait(500, &[1, 3]);
    let joined = story.cost();
    assert!(joined.instances[2].replaces && joined.instances[2].joined.is_some(), "{joined:#?}");
    let joining = joined.total.joining_usd;
    assert!((0.04..0.05).contains(&joining), "{joining}");
    story.wait(4_000, &[1, 3]);
    near(story.cost().total.joining_usd, joining);
    near(story.cost().total.usd_per_eviction().expect("one eviction"), joining + 0.01);
    assert!(!joined.instances[0].replaces, "it was there from the start");
}

#[test]
fn coordinator_and_storage_are_paid_for_until_the_end() {
    let mut story = Story::new();
    let settings =
        Settings { coordinator_usd_per_hour: 3.6, storage_usd_per_gb_month: 730.0 * 3.6, ..Settings::default() };
    story.core = Core::new(settings.clone());
    story.pool("local", 8).submit("job", (1, 1), &["local"]).submit("other", (1, 1), &["local"]);
    story.attach(1).resumed(1, 1, 10).wait(10_000, &[1]);
    near(story.cost().total.coordinator_usd, 0.005);
    let checkpoint = Checkpoint {
        step: 10,
        bytes: 1 << 30,
        seconds: 1.0,
        stall_ms: 1.0,
        why: "every 10 steps".to_owned(),
        state_digest: "d".to_owned(),
        committed: story.now,
    };
    story.tell(Event::CheckpointCommitted { worker: worker(1), checkpoint });
    story.tell(Event::CancelRequested { job: "other".into() }).wait(10_000, &[1]);
    near(story.cost().total.coordinator_usd, 0.015);
    near(story.cost().total.storage_usd, 0.01);
    let records = story.store.clone();
    story.core = Core::load(settings, records, story.now).expect("records that load");
    near(story.paid(), 0.025);
    story.tell(listed(vec![(instance(1), Some(101))]));
    story.pool("local", 8).attach_holding(1, Some((1, Some(20)))).finished(1, "d");
    let paid = story.paid();
    story.after(60_000).tell(Event::Tick);
    near(story.paid(), paid);
    assert_eq!(story.job("job").cost.expect("it paid").paid_usd, paid);
}

#[test]
fn a_job_stops_while_its_budget_still_covers_saving_and_leaving() {
    // Two workers pay 2 cents a second; stopping may take 130 s.
    let mut story = Story::paying(budgeted((1, 2), 3.0));
    story.wait(19_900, &[1, 2]);
    assert_eq!((story.state("job"), story.left.clone()), ("running", vec![]));
    story.wait(200, &[1, 2]);
    story.expect(["w1 <- assign 2 planned", "w2 <- assign 2 planned"]);
    let why = story.last_decision("job");
    assert_eq!(
        why,
        "let w1 and w2 save a checkpoint and leave, and fail: of its budget of $3.00 it has paid $0.40, it pays \
         $72.00 an hour, and saving and leaving can cost $2.60"
    );
    story.left(1, 2, 30).left(2, 2, 30).down(1, DownCause::Exited(0)).down(2, DownCause::Exited(0));
    assert_eq!(story.state("job"), "failed");
    let reason = story.job("job").reason;
    assert!(reason.starts_with("its budget of $3.00 covers no more: $0.40 are paid\nhint: raise"), "{reason}");
    assert!(story.paid() <= 3.0);
    assert!(!story.left.iter().any(|action| action.starts_with("launch")), "{:?}", story.left);
}

#[test]
fn workers_that_do_not_leave_do_not_pass_the_budget_either() {
    let mut story = Story::paying(budgeted((1, 2), 3.0));
    story.wait(300_000, &[1, 2]);
    let killed = |story: &Story| story.left.iter().filter(|action| action.starts_with("kill")).count();
    assert!(killed(&story) >= 2, "{:?}", story.left);
    let asked = story.core.decisions(&JobId::from("job")).last().map(|decision| decision.at).expect("a decision");
    let at_end = 2.0 * 0.01 * (asked.since_ms(Timestamp(1_000_000)) as f64 / 1e3);
    assert!(at_end <= 3.0, "{at_end}");
    assert_eq!(story.state("job"), "failed");
}

#[test]
fn a_price_that_rises_stops_the_job_sooner() {
    let mut story = Story::paying(budgeted((1, 1), 3.0));
    story.wait(10_000, &[1]);
    story.expect([]);
    story.tell(Event::PriceMoved { instance: instance(1), price: price(3.0 * CENT_A_SECOND) });
    story.expect(["w1 <- assign 2 planned"]);
}

#[test]
fn a_budget_that_covers_no_start_fails_before_anything_is_bought() {
    let mut story = Story::new();
    story.tell(priced(CENT_A_SECOND)).submit_spec(budgeted((2, 4), 2.5));
    assert_eq!((story.state("job"), story.left.len()), ("failed", 0));
    assert!(story.job("job").reason.contains("does not cover a start"), "{}", story.job("job").reason);
}

#[test]
fn no_more_is_bought_than_the_budget_covers() {
    // Each worker needs 1.30 for its stop.
    let mut story = Story::new();
    story.tell(priced(CENT_A_SECOND)).submit_spec(budgeted((1, 4), 3.0));
    story.expect(["launch w1 local", "launch w2 local"]);
    assert_eq!(story.state("job"), "provisioning");
}

#[test]
fn with_a_larger_budget_the_job_goes_on_and_what_it_paid_counts() {
    let mut story = Story::paying(budgeted((1, 1), 2.0));
    story.wait(80_000, &[1]);
    story.left(1, 2, 30).down(1, DownCause::Exited(0)).skip();
    assert_eq!(story.state("job"), "failed");
    let paid = story.paid();
    let submit =
        |spec: JobSpec| Event::JobSubmitted { job: "job".into(), spec: Box::new(spec), manifest_json: "{}".to_owned() };
    let mut other = budgeted((1, 1), 4.0);
    other.train.seed += 1;
    for refused in [other, budgeted((1, 1), 2.0)] {
        let refused = story.refused(submit(refused));
        assert!(matches!(refused, Rejection::JobExists(_)), "{refused}");
    }
    story.reload();
    story.tell(listed(Vec::new())).tell(priced(CENT_A_SECOND)).skip();
    let mut larger = budgeted((1, 1), 4.0);
    // How often shards are computed twice decides nothing of the bits.
    larger.train.audit = AuditSpec::Steps(50);
    story.tell(submit(larger));
    story.expect(["launch w2 local"]);
    assert_eq!(story.core.spec(&"job".into()).map(|spec| spec.train.audit), Some(AuditSpec::Steps(50)));
    assert_eq!(story.state("job"), "recovering");
    near(story.paid(), paid);
    story.tell(up(2)).attach(2);
    story.resumed(2, 3, 31).wait(10_000, &[2]);
    assert_eq!((story.state("job"), story.job("job").ended), ("running", None));
    near(story.paid(), paid + 0.10);
}

#[derive(Clone, Debug)]
enum Happening {
    Up(u32, Option<u32>),
    PriceMoved(u32, u32),
    PoolPrice(u32),
    Down(u32),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    let (n, tenths) = (1u32..9, 0u32..9);
    prop_oneof![
        4 => (n.clone(), prop::option::of(tenths.clone())).prop_map(|(n, price)| Happening::Up(n, price)),
        3 => (n.clone(), tenths.clone()).prop_map(|(n, price)| Happening::PriceMoved(n, price)),
        1 => tenths.prop_map(Happening::PoolPrice),
        2 => n.prop_map(Happening::Down),
        1 => Just(Happening::Restart),
    ]
}

/// Prices of one instance, told again by hand: from when on, and when it ended.
#[derive(Default)]
struct Recount {
    prices: Vec<(i64, f64)>,
    own: bool,
    end: Option<i64>,
}

impl Recount {
    fn runs(&self) -> bool {
        !self.prices.is_empty() && self.end.is_none()
    }

    fn moves(&mut self, now: i64, price: f64) {
        match self.prices.last() {
            Some((_, before)) if *before == price => return,
            Some((from, _)) if *from == now => drop(self.prices.pop()),
            _ => {}
        }
        self.prices.push((now, price));
    }

    fn paid(&self, now: i64) -> (i64, f64) {
        let ends = self.prices.iter().skip(1).map(|(from, _)| *from).chain([self.end.unwrap_or(now)]);
        let pieces = self.prices.iter().zip(ends).map(|((from, price), to)| (to - from, (to - from) as f64 * price));
        pieces.fold((0, 0.0), |(ms, usd), (more_ms, more)| (ms + more_ms, usd + more / 3.6e6))
    }
}

proptest! {
    #[test]
    fn any_history_adds_up(history in prop::collection::vec((happening(), 0u64..900), 1..80)) {
        let mut story = Story::new();
        let mut pool_price = 1.0;
        story.tell(priced(pool_price)).submit("job", (1, 4), &["local"]);
        let mut recount: BTreeMap<u32, Recount> = BTreeMap::new();
        for (happening, ms) in history {
            story.after(ms);
            let now = story.now.0;
            let there = |story: &Story, n: u32| story.core.instances().iter().any(|view| view.instance == instance(n));
            match happening {
                Happening::Up(n, own) if there(&story, n) => {
                    let own = own.map(|tenths| f64::from(tenths) / 10.0);
                    let machine = own.map(|usd_per_hour| Machine {
                        id: "m".into(),
                        instance_type: "small".into(),
                        price: price(usd_per_hour),
                        since: None,
                    });
                    story.tell(Event::InstanceUp { instance: instance(n), pid: None, machine });
                    let known = recount.entry(n).or_default();
                    match own {
                        // The first word of its own price replaces what its pool's was taken for.
                        Some(own) if !known.own && known.prices.len() <= 1 => {
                            let from = known.prices.first().map_or(now, |(from, _)| *from);
                            known.prices = vec![(from, own)];
                        }
                        Some(own) => known.moves(now, own),
                        None if known.prices.is_empty() => known.moves(now, pool_price),
                        None => {}
                    }
                    known.own |= own.is_some();
                }
                Happening::PriceMoved(n, tenths) if there(&story, n) => {
                    let usd_per_hour = f64::from(tenths) / 10.0;
                    story.tell(Event::PriceMoved { instance: instance(n), price: price(usd_per_hour) });
                    if let Some(known) = recount.get_mut(&n).filter(|known| known.runs()) {
                        known.moves(now, usd_per_hour);
                    }
                }
                Happening::PoolPrice(tenths) => {
                    let moved = f64::from(tenths) / 10.0;
                    story.tell(priced(moved));
                    if moved != pool_price {
                        for known in recount.values_mut().filter(|known| known.runs() && !known.own) {
                            known.moves(now, moved);
                        }
                    }
                    pool_price = moved;
                }
                Happening::Down(n) if there(&story, n) => {
                    story.down(n, DownCause::Evicted);
                    if let Some(known) = recount.get_mut(&n) {
                        known.end = Some(now);
                    }
                }
                Happening::Restart => {
                    story.tell(Event::Tick);
                    let before = story.cost();
                    story.reload();
                    prop_assert_eq!(story.cost(), before);
                    let up = |n: &u32| recount.get(n).is_some_and(Recount::runs) && there(&story, *n);
                    let listed_now: Vec<_> = (1..200).filter(up).map(|n| (instance(n), None)).collect();
                    story.tell(listed(listed_now)).tell(priced(pool_price));
                }
                Happening::Up(..) | Happening::PriceMoved(..) | Happening::Down(_) => {}
            }
            let gone: Vec<&u32> = recount.keys().filter(|n| recount[n].runs() && !there(&story, **n)).collect();
            prop_assert!(gone.is_empty(), "{gone:?} are gone and nobody said so");
            // Costs are told up to the newest event that was taken.
            story.tell(Event::Tick);
            let report = story.cost();
            let (mut ms, mut usd) = (0, 0.0);
            for known in recount.values().filter(|known| !known.prices.is_empty()) {
                let (more_ms, more) = known.paid(now);
                (ms, usd) = (ms + more_ms, usd + more);
            }
            prop_assert_eq!(i64::try_from(report.total.instances.ms).unwrap(), ms);
            prop_assert!((report.total.instances.paid_usd - usd).abs() < 1e-9, "{} {usd}", report.total.instances.paid_usd);
            prop_assert!((report.total.instances.on_demand_usd - 3.0 * usd).abs() < 1e-9);
        }
    }
}
