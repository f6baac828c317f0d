//! What holds in any market: nobody beats the bound, on-demand is never late, and neither are the policies that keep a
//! reserve for it; no node holds two instances.

use coordinator_simulation::{
    Conditions, Format, Market, Outcome, Policy, Presence, Prices, Trace, Workload, Zone, bound, run_policy,
    run_scheduler,
};
use proptest::prelude::*;

const MIN: u64 = 60_000;
const LENGTH_MIN: u64 = 12 * 60;

/// A trace of up to two zones, nodes coming and going by the minute.
fn trace() -> impl Strategy<Value = Trace> {
    let node = (0..LENGTH_MIN, 1..LENGTH_MIN)
        .prop_map(|(from, length)| Presence { from_ms: from * MIN, until_ms: (from + length).min(LENGTH_MIN) * MIN });
    let zone = prop::collection::vec(node, 1..12);
    prop::collection::vec(zone, 1..3).prop_map(|zones| {
        let zone = |(at, mut nodes): (usize, Vec<Presence>)| {
            nodes.sort();
            Zone { name: format!("z{at}"), nodes }
        };
        let zones = zones.into_iter().enumerate().map(zone).collect();
        Trace { source: "t".into(), format: Format::Bamboo, zones, length_ms: LENGTH_MIN * MIN }
    })
}

#[derive(Clone, Debug)]
struct Case {
    trace: Trace,
    offset_ms: u64,
    workload: Workload,
    conditions: Conditions,
}

impl Case {
    fn deadline_ms(&self) -> u64 {
        self.workload.deadline_ms.expect("every case has a deadline")
    }

    fn horizon_ms(&self) -> u64 {
        2 * self.deadline_ms()
    }

    fn market(&self) -> Market {
        Market::window(&self.trace, self.offset_ms, self.horizon_ms())
    }

    fn outcome(&self, policy: Policy) -> Outcome {
        run_policy(policy, &self.market(), &self.workload, &self.conditions, self.horizon_ms())
    }

    fn bound(&self) -> Outcome {
        bound(&self.market(), &self.workload, &self.conditions, self.horizon_ms())
    }
}

/// A job of one to six hours on up to four workers, with one hundredth to twice its time to spare.
fn case() -> impl Strategy<Value = Case> {
    let job = (60..360_u64, 1..5_u32, 0..5_u32, 101..300_u64);
    (trace(), 0..LENGTH_MIN, job, 1..10_u64, 0..3_u64, 5..100_u32).prop_map(
        |(trace, offset_min, (minutes, workers, more_shards, slack), start_min, notice_min, spot_percent)| {
            let prices = Prices { spot_usd_per_hour: f64::from(spot_percent) / 100.0, on_demand_usd_per_hour: 1.0 };
            let conditions =
                Conditions { prices, start_ms: start_min * MIN, notice_ms: notice_min * MIN, ..Conditions::default() };
            let deadline_min = minutes * slack / 100 + start_min + 1;
            let spec = job_spec(minutes * 6, workers, workers + more_shards, deadline_min);
            let workload = Workload::new(&spec, 10.0, workers, &conditions).expect("its deadline can be met");
            Case { trace, offset_ms: offset_min * MIN, workload, conditions }
        },
    )
}

fn job_spec(steps: u64, workers: u32, shards: u32, deadline_min: u64) -> trainctl_jobs::JobSpec {
    let zeros = "0".repeat(64);
    let text = format!(
        "name = \"job\"\n[data]\nmanifest = \"m.json\"\ndigest = \"blake3:{zeros}\"\n[model]\nkind = \"mlp\"\n\
         hidden = [8]\n[train]\nsteps = {steps}\nglobal_batch = {}\nlogical_shards = {shards}\n[resources]\n\
         workers = {{ min = 1, max = {workers} }}\n[policy]\ndeadline = \"{deadline_min} min\"\n\
         on_demand = \"to-meet-deadline\"\n",
        shards * 8
    );
    trainctl_jobs::parse(&text, "job.toml").expect("a job that holds")
}

/// A thousandth of a cent: what rounding to milliseconds may come to.
const ROUNDING_USD: f64 = 1e-5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nobody_who_is_in_time_is_cheaper_than_the_bound(case in case()) {
        let least = case.bound();
        let scheduler = run_scheduler(&case.market(), &case.workload, &case.conditions, case.horizon_ms());
        let simple = [Policy::OnDemand, Policy::Greedy, Policy::Uniform].map(|policy| case.outcome(policy));
        for outcome in simple.iter().chain([&scheduler]).filter(|outcome| outcome.in_time) {
            prop_assert!(outcome.cost_usd >= least.cost_usd - ROUNDING_USD, "{outcome:?}\nbound: {least:?}");
            if least.on_demand_hours == 0.0 {
                continue;
            }
            prop_assert!(outcome.finish_seconds <= least.finish_seconds.map(|at| at + 0.001));
        }
    }

    #[test]
    fn the_same_case_comes_to_the_same(case in case()) {
        let run = || run_scheduler(&case.market(), &case.workload, &case.conditions, case.horizon_ms());
        prop_assert_eq!(run(), run());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn policies_with_a_reserve_are_never_late(case in case()) {
        for policy in [Policy::OnDemand, Policy::Greedy, Policy::Uniform] {
            let outcome = case.outcome(policy);
            prop_assert!(outcome.in_time, "{policy:?}: {outcome:?}, deadline {} s", case.deadline_ms() / 1_000);
        }
    }

    #[test]
    fn on_demand_costs_the_same_whatever_the_market(case in case()) {
        let outcome = case.outcome(Policy::OnDemand);
        let hours = (case.workload.full_ms() + case.conditions.start_ms as f64) / 3.6e6 * f64::from(case.workload.workers);
        prop_assert!((outcome.on_demand_hours - hours).abs() < 1e-9);
        prop_assert_eq!((outcome.spot_hours, outcome.evictions), (0.0, 0));
    }

    #[test]
    fn a_window_holds_what_the_trace_does(trace in trace(), offset_min in 0..LENGTH_MIN, minute in 0..2 * LENGTH_MIN) {
        let market = Market::window(&trace, offset_min * MIN, 2 * LENGTH_MIN * MIN);
        let at_ms = (offset_min + minute) * MIN % trace.length_ms;
        let nodes = trace.zones.iter().flat_map(|zone| &zone.nodes);
        let there = nodes.filter(|node| node.from_ms <= at_ms && at_ms < node.until_ms).count();
        prop_assert_eq!(market.present(minute * MIN), there);
        let next = market.next_change(minute * MIN);
        prop_assert!(next.is_none_or(|next| next > minute * MIN));
    }
}
