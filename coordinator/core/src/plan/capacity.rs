//! What to buy. Jobs take what they lack from the offers in turn: the higher priority first, then the queue with the
//! fewest workers, then the earlier submission. A job that has no group starts whole or not at all, and until it can,
//! jobs that come after it buy nothing from its pools, so that small jobs can't starve a large one. A job too large for
//! its pools blocks nobody.

use super::fleet::Fleet;
use super::offers::{Offers, Usable};
use super::swaps;
use super::yields::Yields;
use super::{Choice, Purchase};
use crate::decision::LaunchCause;
use crate::event::{Market, Place};
use crate::ids::{PoolName, Timestamp, WorkerId};
use crate::ledger;
use crate::policy::{Candidate, choose};
use crate::state::{Job, Shortage, State, Submission};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use trainctl_jobs::OnDemandSpec;

/// Which of the jobs that lack workers are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// All. Only then do those that train and want more get what others can spare: to find that takes a look at every
    /// worker, and there may be an event for each of them.
    Together,
    /// Those of which something changed.
    Changed,
}

/// Launches, notes of what is lacking, and which workers go so that others can come.
pub(super) fn purchases(state: &State, now: Timestamp, buyers: &[(&Job, &Submission)], asked: Asked) -> Vec<Choice> {
    if !state.may_buy() || buyers.is_empty() {
        return Vec::new();
    }
    let mut market = Exchange::new(state, now, asked);
    let hungry = buyers.iter().filter(|(job, _)| job.hungry());
    let fleets: Vec<Fleet> = hungry.map(|entry| Fleet::new(state, now, *entry)).collect();
    let changes: Vec<Choice> = fleets.iter().flat_map(|fleet| swaps::departures(&market.offers, fleet)).collect();
    // What goes changes what is lacking.
    if !changes.is_empty() {
        return changes;
    }
    let orders = fleets.into_iter().map(|fleet| Order::new(&market.offers, fleet)).collect();
    market.share_out(orders);
    market.choices
}

/// What a job lacks, and where it may get it.
pub(super) struct Order<'s> {
    pub(super) fleet: Fleet<'s>,
    pub(super) usable: Vec<Usable>,
    have: u32,
    want: u32,
    /// Only what nobody takes away can meet its deadline.
    pressed: bool,
    /// A job without a group starts with so many or not at all.
    needed: u32,
    bought: u32,
    /// What is bought for it, US dollars an hour.
    usd_per_hour: f64,
    /// Its workers in each zone, once it buys.
    neighbours: BTreeMap<&'s Place, u32>,
}

impl<'s> Order<'s> {
    fn new(offers: &Offers<'s>, fleet: Fleet<'s>) -> Self {
        let (have, want) = (fleet.have(), fleet.submission.workers_max());
        let needed = if fleet.job.groupless() { fleet.submission.workers_min().saturating_sub(have) } else { 0 };
        // A job that lacks nothing and has nothing to replace need not know what there is.
        let idle = have >= want && !swaps::may_swap(&fleet);
        let usable = if idle { Vec::new() } else { offers.usable(&fleet) };
        let pressed = !idle && fleet.pressed();
        Self { fleet, usable, have, want, pressed, needed, bought: 0, usd_per_hour: 0.0, neighbours: BTreeMap::new() }
    }

    fn count_neighbours(&mut self) {
        if self.neighbours.is_empty() {
            let pools = self.fleet.counted().filter_map(|worker| self.fleet.pool(worker));
            for pool in pools.filter(|pool| !pool.secure()) {
                *self.neighbours.entry(&pool.spec.place).or_insert(0) += 1;
            }
        }
    }

    fn lacking(&self) -> u32 {
        self.want.saturating_sub(self.have + self.bought)
    }
}

/// The worker that is to be replaced, and what is good enough in its place.
pub(super) type Instead<'a> = (&'a WorkerId, &'a dyn Fn(&Usable) -> bool);

/// Which of its offers a purchase may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Among {
    /// Any that the job's policy allows now.
    Allowed,
    /// Those that cost less than on demand.
    NotOnDemand,
}

/// What there is, and what was chosen so far.
pub(super) struct Exchange<'s> {
    pub(super) state: &'s State,
    now: Timestamp,
    asked: Asked,
    pub(super) offers: Offers<'s>,
    pub(super) choices: Vec<Choice>,
}

impl<'s> Exchange<'s> {
    fn new(state: &'s State, now: Timestamp, asked: Asked) -> Self {
        Self { state, now, asked, offers: Offers::new(state, now), choices: Vec::new() }
    }

    fn share_out(&mut self, orders: Vec<Order<'s>>) {
        let mut levels: BTreeMap<Reverse<i32>, BTreeMap<&'s str, VecDeque<Order<'s>>>> = BTreeMap::new();
        for order in orders {
            let submission = order.fleet.submission;
            levels.entry(submission.rank().0).or_default().entry(submission.queue()).or_default().push_back(order);
        }
        let mut yields = Yields::new(self.state);
        let mut served = Vec::new();
        for (_, mut queues) in levels {
            // Most jobs lack nothing, and take no turn.
            for orders in queues.values_mut() {
                let (content, lacking) = std::mem::take(orders).into_iter().partition(|order| order.lacking() == 0);
                *orders = lacking;
                served.extend::<VecDeque<_>>(content);
            }
            queues.retain(|_, orders| !orders.is_empty());
            while let Some(queue) = yields.next_queue(&queues) {
                let Some(orders) = queues.get_mut(queue) else { break };
                let Some(order) = orders.front_mut() else {
                    queues.remove(queue);
                    continue;
                };
                match self.bite(order, &mut yields) {
                    Some(bought) => yields.used(queue, bought),
                    None => served.extend(orders.pop_front()),
                }
            }
        }
        for order in &served {
            if order.lacking() == 0 {
                self.note(order, None);
            }
        }
        for mut order in served {
            swaps::launches(self, &mut order);
        }
    }

    /// Buys a worker for the job, or as many as it starts with. `None`: there is nothing more to buy for it.
    fn bite(&mut self, order: &mut Order<'s>, yields: &mut Yields<'s>) -> Option<u32> {
        let lacking = order.lacking();
        if lacking == 0 {
            return None;
        }
        if !order.usable.is_empty() && !order.usable.iter().any(|one| self.offers.get(one.at).known) {
            return None;
        }
        let together = if order.bought == 0 { order.needed } else { 0 };
        let available = self.available(order);
        if available < together {
            let shortage = self.shortage(order, together);
            if matches!(shortage, Shortage::NoCapacity { .. }) {
                self.choices.extend(yields.for_start(&self.offers, order, together));
                for one in &order.usable {
                    self.offers.claim(one.at, &order.fleet.job.id);
                }
            }
            self.note(order, Some(shortage));
            return None;
        }
        let mut bought = 0;
        while bought < together.max(1) && self.buy(order, Among::Allowed, None, &LaunchCause::Best) {
            bought += 1;
        }
        if bought == 0 {
            let shortage = self.shortage(order, lacking);
            if shortage != Shortage::Budget && self.asked == Asked::Together {
                self.choices.extend(yields.for_growth(&self.offers, order, lacking));
            }
            self.note(order, Some(shortage));
            return None;
        }
        Some(bought)
    }

    /// Whether the job's policy allows the offer now.
    fn allows(&self, order: &Order<'s>, one: &Usable, among: Among) -> bool {
        let market = self.offers.get(one.at).pool.spec.market;
        let by_policy = match order.fleet.submission.on_demand() {
            OnDemandSpec::Always => true,
            OnDemandSpec::ToMeetDeadline => order.fleet.hurried() || market != Market::OnDemand,
            OnDemandSpec::Never => market != Market::OnDemand,
        };
        by_policy
            && match among {
                Among::Allowed => true,
                Among::NotOnDemand => market != Market::OnDemand,
            }
    }

    fn available(&self, order: &Order<'s>) -> u32 {
        let allowed = order.usable.iter().filter(|one| self.allows(order, one, Among::Allowed));
        allowed.map(|one| self.offers.available(one.at)).fold(0, u32::saturating_add)
    }

    /// Buys one worker for the job, instead of another one or because it lacks one. False: there is none to be had.
    pub(super) fn buy(
        &mut self,
        order: &mut Order<'s>,
        among: Among,
        instead_of: Option<Instead<'_>>,
        cause: &LaunchCause,
    ) -> bool {
        let fits = |one: &&Usable| {
            self.allows(order, one, among)
                && self.offers.available(one.at) > 0
                && instead_of.is_none_or(|(_, fits)| fits(one))
                && self.affords(order, one)
        };
        let mut fitting: Vec<Usable> = order.usable.iter().filter(fits).copied().collect();
        let secure = |one: &Usable| self.offers.get(one.at).pool.secure();
        // With no time left, what is not taken away comes first.
        let for_deadline = order.pressed && instead_of.is_none() && fitting.iter().any(secure);
        if for_deadline {
            fitting.retain(secure);
        }
        if fitting.is_empty() {
            return false;
        }
        order.count_neighbours();
        let neighbours = |at: usize| self.offers.zone(at).and_then(|zone| order.neighbours.get(zone)).map_or(0, |n| *n);
        let candidates: Vec<Candidate> = fitting
            .iter()
            .map(|one| Candidate {
                score: one.score,
                preference: one.preference,
                name: &self.offers.get(one.at).pool.spec.name,
                zone: self.offers.zone(one.at),
                neighbours: neighbours(one.at),
            })
            .collect();
        let Some(chosen) = choose(&candidates, self.state.settings.spread_tolerance) else { return false };
        let best = choose(&candidates, -1.0).unwrap_or(chosen);
        let one = fitting[chosen];
        let cause = match cause {
            LaunchCause::Best if for_deadline => LaunchCause::Deadline,
            LaunchCause::Best if candidates[best].neighbours > candidates[chosen].neighbours => LaunchCause::Spread {
                best: candidates[best].name.clone(),
                there: candidates[best].neighbours,
                here: candidates[chosen].neighbours,
            },
            cause => cause.clone(),
        };
        let passed_over = self.passed_over(order, &one, among);
        let offer = self.offers.get(one.at);
        self.choices.push(Choice::Launch(Box::new(Purchase {
            job: order.fleet.job.id.clone(),
            pool: offer.pool.spec.name.clone(),
            have: order.have + order.bought,
            want: order.want,
            free: offer.free,
            passed_over,
            cause,
            terms: self.offers.terms(&one),
            replaces: instead_of.map(|(worker, _)| worker.clone()),
        })));
        order.usd_per_hour += offer.pool.spec.price.map_or(0.0, |price| price.usd_per_hour);
        if let Some(zone) = self.offers.zone(one.at) {
            *order.neighbours.entry(zone).or_insert(0) += 1;
        }
        if instead_of.is_none() {
            order.bought += 1;
        }
        self.offers.take(one.at);
        true
    }

    /// Better offers that have nothing to give.
    fn passed_over(&self, order: &Order<'s>, taken: &Usable, among: Among) -> Vec<PoolName> {
        let better = |one: &&Usable| {
            let earlier = (one.score, one.preference) < (taken.score, taken.preference);
            earlier && self.allows(order, one, among) && self.offers.available(one.at) == 0
        };
        let name = |one: &Usable| self.offers.get(one.at).pool.spec.name.clone();
        order.usable.iter().filter(better).map(name).collect()
    }

    fn shortage(&self, order: &Order<'s>, lacking: u32) -> Shortage {
        let fleet = &order.fleet;
        if self.offers.all_outside_regions(fleet) {
            return Shortage::OutsideRegions { regions: fleet.submission.spec.resources.regions.clone() };
        }
        if let (true, Some(rejected)) = (order.usable.is_empty(), fleet.job.rejected.last()) {
            return Shortage::Rejected { pool: rejected.pool.clone(), reason: rejected.reason.clone() };
        }
        let capacity = order.usable.iter().map(|one| self.offers.get(one.at).pool.spec.capacity);
        let capacity = capacity.fold(0, u32::saturating_add);
        let min = fleet.submission.workers_min();
        if fleet.job.groupless() && capacity < min {
            return Shortage::TooSmall { min, capacity };
        }
        let claimed = order.usable.iter().find_map(|one| {
            let offer = self.offers.get(one.at);
            offer.claimed.clone().filter(|_| offer.free > 0)
        });
        match claimed {
            Some(job) => Shortage::Behind { job },
            None if self.too_dear(order) => Shortage::Budget,
            None => Shortage::NoCapacity { lacking, free: self.available(order) },
        }
    }

    /// There is something to be had, and the job's budget covers none of it.
    fn too_dear(&self, order: &Order<'s>) -> bool {
        let there = |one: &&Usable| self.allows(order, one, Among::Allowed) && self.offers.available(one.at) > 0;
        let mut there = order.usable.iter().filter(there).peekable();
        there.peek().is_some() && !there.any(|one| self.affords(order, one))
    }

    fn affords(&self, order: &Order<'s>, one: &Usable) -> bool {
        let price = self.offers.get(one.at).pool.spec.price.map_or(0.0, |price| price.usd_per_hour);
        ledger::affords(self.state, self.now, &order.fleet.job.id, order.usd_per_hour + price)
    }

    /// Said once for each change.
    fn note(&mut self, order: &Order<'s>, shortage: Option<Shortage>) {
        let job = order.fleet.job;
        if job.shortage != shortage {
            self.choices.push(Choice::Note { job: job.id.clone(), shortage });
        }
    }
}
