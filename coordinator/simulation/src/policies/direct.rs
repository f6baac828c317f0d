//! Runs a simpler policy: from one moment at which something can change to the next.

use super::{Place, View, Wish};
use crate::market::{Fleet, Market, NodeId};
use crate::outcome::{Bill, Outcome};
use crate::setup::Conditions;
use crate::workload::Workload;

struct Run<'m> {
    market: &'m Market,
    fleet: Fleet<'m>,
    workers: usize,
    work_ms: f64,
    delay_ms: u64,
    deadline_ms: Option<u64>,
    now_ms: u64,
    place: Place,
    settled: bool,
    /// Held spot nodes.
    nodes: Vec<NodeId>,
    ready_ms: u64,
    done_ms: f64,
    bill: Bill,
}

pub(super) fn run(
    rule: impl Fn(&View) -> Wish,
    market: &Market,
    workload: &Workload,
    conditions: &Conditions,
    horizon_ms: u64,
) -> Outcome {
    let mut run = Run {
        market,
        fleet: Fleet::new(market),
        workers: workload.workers as usize,
        work_ms: workload.full_ms(),
        delay_ms: conditions.start_ms,
        deadline_ms: workload.deadline_ms,
        now_ms: 0,
        place: Place::Idle,
        settled: false,
        nodes: Vec::new(),
        ready_ms: 0,
        done_ms: 0.0,
        bill: Bill::default(),
    };
    while run.now_ms < horizon_ms {
        run.lose_taken();
        let wish = rule(&run.view());
        run.go(wish);
        if let Some(finish_ms) = run.advance(wish.again_ms, horizon_ms) {
            return run.bill.outcome(&conditions.prices, Some(finish_ms), run.deadline_ms, None);
        }
    }
    let failure = Some("it was not done by the end of what was simulated".to_owned());
    run.bill.outcome(&conditions.prices, None, run.deadline_ms, failure)
}

impl Run<'_> {
    /// One taken node stops all: nothing trains before the group is whole again.
    fn lose_taken(&mut self) {
        let before = self.nodes.len();
        self.nodes.retain(|node| self.market.until_ms(*node) > self.now_ms);
        let lost = before - self.nodes.len();
        self.bill.evictions += lost as u64;
        if lost > 0 {
            self.place = Place::Idle;
        }
    }

    fn view(&self) -> View {
        View {
            now_ms: self.now_ms,
            place: self.place,
            spot: self.nodes.len() + self.fleet.free(self.now_ms) >= self.workers,
            done_ms: self.done_ms,
            work_ms: self.work_ms,
            delay_ms: self.delay_ms,
            deadline_ms: self.deadline_ms,
            settled: self.settled,
            ready_ms: self.ready_ms,
        }
    }

    fn go(&mut self, wish: Wish) {
        self.settled |= wish.settle;
        if wish.place != Place::Spot {
            for node in self.nodes.drain(..) {
                self.fleet.release(node);
            }
        }
        if wish.place == self.place {
            return;
        }
        if wish.place == Place::Spot {
            while self.nodes.len() < self.workers {
                match self.fleet.take(None, self.now_ms, 0) {
                    Some(node) => self.nodes.push(node),
                    None => panic!("a policy went to spot where it is not"),
                }
            }
        }
        self.place = wish.place;
        self.ready_ms = self.now_ms + self.delay_ms;
    }

    /// To the next moment; gives the time of the last step if that comes before.
    fn advance(&mut self, again_ms: f64, horizon_ms: u64) -> Option<f64> {
        let works = self.place != Place::Idle;
        let begins_ms = self.ready_ms.max(self.now_ms) as f64;
        let finish_ms = if works { begins_ms + (self.work_ms - self.done_ms) } else { f64::INFINITY };
        let change = self.market.next_change(self.now_ms).filter(|_| self.place != Place::OnDemand || !self.settled);
        let again = if again_ms.is_finite() { (again_ms.ceil() as u64).max(self.now_ms + 1) } else { u64::MAX };
        let next = change.unwrap_or(u64::MAX).min(again).min(horizon_ms);
        if finish_ms <= next as f64 {
            self.pay(finish_ms - self.now_ms as f64);
            return Some(finish_ms);
        }
        self.pay((next - self.now_ms) as f64);
        if works {
            self.done_ms += (next as f64 - begins_ms).max(0.0);
        }
        self.now_ms = next;
        None
    }

    fn pay(&mut self, ms: f64) {
        match self.place {
            Place::Idle => {}
            Place::Spot => self.bill.spot_ms += ms * self.workers as f64,
            Place::OnDemand => self.bill.on_demand_ms += ms * self.workers as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, run_policy};
    use super::*;
    use crate::setup::Prices;
    use crate::workload::tests::workload;

    const MIN: u64 = 60_000;

    fn run(policy: Policy, presences: &[(u64, u64)], deadline_min: u64) -> Outcome {
        let presences: Vec<(u64, u64)> = presences.iter().map(|(from, until)| (from * MIN, until * MIN)).collect();
        let market = crate::market::tests::market(&presences, 1_000 * MIN);
        let prices = Prices { spot_usd_per_hour: 0.3, on_demand_usd_per_hour: 1.0 };
        let conditions = Conditions { prices, start_ms: 5 * MIN, ..Conditions::default() };
        run_policy(policy, &market, &workload(60, 2, deadline_min), &conditions, 1_000 * MIN)
    }

    /// An hour's work for two workers.
    fn expect(found: &Outcome, spot_min: f64, on_demand_min: f64, finish_min: f64, evictions: u64) {
        let minutes = |hours: f64| (hours * 60.0 * 1e6).round() / 1e6;
        let found = (
            minutes(found.spot_hours),
            minutes(found.on_demand_hours),
            found.finish_seconds.map(|at| (at * 1e3).round() / 6e4),
            found.evictions,
        );
        assert_eq!(found, (spot_min, on_demand_min, Some(finish_min), evictions));
    }

    #[test]
    fn on_demand_takes_the_work_and_one_start() {
        expect(&run(Policy::OnDemand, &[], 65), 0.0, 130.0, 65.0, 0);
    }

    #[test]
    fn greedy_waits_for_spot_and_leaves_it_at_the_last_safe_moment_only() {
        // Safe until 120 - 60 - 10 = 50.
        expect(&run(Policy::Greedy, &[], 120), 0.0, 130.0, 115.0, 0);
        expect(&run(Policy::Greedy, &[(40, 200), (40, 200)], 120), 130.0, 0.0, 105.0, 0);
        // 25 minutes of spot, 20 of them of use: with 40 left it is safe until 70, and spot does not come back before.
        expect(&run(Policy::Greedy, &[(0, 25), (0, 200)], 120), 50.0, 90.0, 115.0, 1);
    }

    #[test]
    fn an_eviction_stands_still_for_a_start_and_keeps_the_rest() {
        // Taken at 25, a third node is there: all wait for it until 30.
        expect(&run(Policy::Greedy, &[(0, 25), (0, 200), (10, 200)], 120), 140.0, 0.0, 70.0, 1);
    }

    #[test]
    fn uniform_progress_catches_up_on_demand_and_goes_back_to_spot() {
        // Nothing is there at first, so it goes on demand at once: ready at 5, even + 2d is (t + 10) / 2, reached by
        // t - 5 at t = 20. Spot came at 12 and is used from 20 on; at 25 it trains with 45 minutes to go.
        expect(&run(Policy::Uniform, &[(12, 200), (12, 200)], 120), 2.0 * 50.0, 2.0 * 20.0, 70.0, 0);
    }

    #[test]
    fn uniform_progress_idles_when_it_is_ahead_and_no_spot_is_there() {
        let found = run(Policy::Uniform, &[], 120);
        assert!(found.in_time && found.on_demand_hours * 60.0 > 130.0, "it starts several times: {found:?}");
    }

    #[test]
    fn without_a_deadline_both_wait_as_long_as_it_takes() {
        for policy in [Policy::Greedy, Policy::Uniform] {
            expect(&run(policy, &[(300, 500), (300, 500)], 0), 130.0, 0.0, 365.0, 0);
        }
    }
}
