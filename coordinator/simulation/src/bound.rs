//! What somebody who knows the future would pay at least: a lower bound on the cost of every schedule that is done by
//! the deadline, whichever workers it uses when.
//!
//! The steps need a certain time of workers ([`Workload::worker_ms`]). A worker on a spot node is of use from one
//! start-up delay after the node came until the node is taken, and its whole time is paid; so a node's use costs at
//! least its price times `length / (length - delay)`. On-demand workers are of use in all of the time but for one
//! start. The bound fills the need from the cheapest on, as a fractional knapsack, with no more spot use at a time than
//! workers can share a step. That leaves out all that stands between a schedule and this: indivisible workers, changes
//! of the group, and what else must hold at each moment. So it is below what can be had, and nothing is below it.

use crate::market::Market;
use crate::outcome::{Bill, Outcome};
use crate::setup::Conditions;
use crate::workload::Workload;

/// The bound, in a window that ends at the deadline, or at `horizon_ms` without one. Without a deadline and with too
/// little spot it takes on-demand for the rest, as that has to be had somehow.
#[must_use]
pub fn bound(market: &Market, workload: &Workload, conditions: &Conditions, horizon_ms: u64) -> Outcome {
    let end_ms = workload.deadline_ms.unwrap_or(horizon_ms);
    let delay_ms = conditions.start_ms;
    let need_ms = workload.worker_ms();
    let at_once = need_ms / workload.full_ms();

    let mut usable: Vec<(f64, f64)> = Vec::new();
    let mut edges: Vec<(u64, i64)> = Vec::new();
    for node in market.presences() {
        let (from_ms, until_ms) = (node.from_ms + delay_ms, node.until_ms.min(end_ms));
        if from_ms < until_ms {
            let useful = (until_ms - from_ms) as f64;
            usable.push((1.0 + delay_ms as f64 / useful, useful));
            edges.extend([(from_ms, 1), (until_ms, -1)]);
        }
    }
    usable.sort_by(|a, b| a.0.total_cmp(&b.0));
    let use_of = Use::of(edges, at_once);

    let prices = &conditions.prices;
    let on_demand_factor = end_ms as f64 / (end_ms.saturating_sub(delay_ms)).max(1) as f64;
    let on_demand_usd = prices.on_demand_usd_per_hour * on_demand_factor;
    let mut spot_left_ms = need_ms.min(use_of.total_ms());
    let (mut bill, mut spot_use_ms) = (Bill::default(), 0.0);
    for (factor, useful_ms) in usable {
        if prices.spot_usd_per_hour * factor >= on_demand_usd {
            break;
        }
        let taken = useful_ms.min(spot_left_ms);
        bill.spot_ms += taken * factor;
        spot_use_ms += taken;
        spot_left_ms -= taken;
    }
    bill.on_demand_ms = (need_ms - spot_use_ms).max(0.0) * on_demand_factor;
    let finish_ms =
        if bill.on_demand_ms > 0.0 { end_ms as f64 } else { use_of.done_at(need_ms).unwrap_or(end_ms as f64) };
    bill.outcome(prices, Some(finish_ms), workload.deadline_ms, None)
}

/// How much use spot is over time, at most `at_once` workers at a time.
struct Use {
    /// From when on how many are of use.
    steps: Vec<(u64, f64)>,
}

impl Use {
    fn of(mut edges: Vec<(u64, i64)>, at_once: f64) -> Self {
        edges.sort_unstable();
        let mut of_use = 0;
        let mut steps: Vec<(u64, f64)> = Vec::new();
        for (at, change) in edges {
            of_use += change;
            steps.push((at, (of_use as f64).min(at_once)));
        }
        Self { steps }
    }

    fn spans(&self) -> impl Iterator<Item = (u64, u64, f64)> {
        self.steps.windows(2).map(|pair| (pair[0].0, pair[1].0, pair[0].1))
    }

    fn total_ms(&self) -> f64 {
        self.spans().map(|(from, until, count)| (until - from) as f64 * count).sum()
    }

    /// When so much use has been had.
    fn done_at(&self, need_ms: f64) -> Option<f64> {
        let mut had_ms = 0.0;
        for (from, until, count) in self.spans() {
            let more_ms = (until - from) as f64 * count;
            if count > 0.0 && had_ms + more_ms >= need_ms {
                return Some(from as f64 + (need_ms - had_ms) / count);
            }
            had_ms += more_ms;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::tests::market;
    use crate::workload::tests::workload;

    const MIN: u64 = 60_000;

    fn found(nodes: &[(u64, u64)], deadline_min: u64) -> Outcome {
        let nodes: Vec<(u64, u64)> = nodes.iter().map(|(from, until)| (from * MIN, until * MIN)).collect();
        let conditions = Conditions { start_ms: 5 * MIN, ..Conditions::default() };
        bound(&market(&nodes, 1_000 * MIN), &workload(60, 2, deadline_min), &conditions, 1_000 * MIN)
    }

    fn minutes(hours: f64) -> f64 {
        (hours * 60.0 * 1e6).round() / 1e6
    }

    #[test]
    fn enough_spot_costs_its_use_and_its_starts() {
        let found = found(&[(0, 65), (0, 65)], 120);
        assert_eq!((minutes(found.spot_hours), found.on_demand_hours), (130.0, 0.0));
        assert_eq!(found.finish_seconds, Some(65.0 * 60.0));
    }

    #[test]
    fn what_spot_does_not_give_is_bought_on_demand() {
        // 55 + 20 of use of the 120 that it takes; more than two at a time are of no use.
        let found = found(&[(0, 60), (10, 35), (12, 30)], 120);
        let spot_use = 55.0 + 20.0;
        assert_eq!(minutes(found.on_demand_hours), minutes((120.0 - spot_use) / 60.0 * 120.0 / 115.0));
        assert!(found.in_time);
    }

    #[test]
    fn nodes_that_go_before_a_worker_has_started_are_worth_nothing() {
        let found = found(&[(0, 5), (20, 24)], 120);
        assert_eq!((found.spot_hours, minutes(found.on_demand_hours)), (0.0, minutes(2.0 * 120.0 / 115.0)));
    }
}
