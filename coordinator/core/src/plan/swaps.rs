//! Which workers take the place of others: spot that of workers on demand, and what is safe that of workers that may be
//! taken before long. The new one comes first, fetches the state, and the old one leaves in the same change.

use super::Choice;
use super::capacity::{Among, Exchange, Order};
use super::fleet::Fleet;
use super::offers::{Offers, Usable};
use crate::decision::{LaunchCause, ReplaceCause};
use crate::event::Market;
use crate::ledger;
use crate::state::{Departure, JobState, Link, Standing, Worker};
use trainctl_jobs::OnDemandSpec;

/// What goes now, and whether the job hurries from now on.
pub(super) fn departures(offers: &Offers<'_>, fleet: &Fleet<'_>) -> Vec<Choice> {
    let job = &fleet.job.id;
    let outlook = fleet.outlook();
    if let Some(outlook) = outlook {
        let hurried = outlook.hurries(fleet.job.hurried, &fleet.state.settings.margins);
        if hurried != fleet.job.hurried {
            return vec![Choice::Hurry { job: job.clone(), hurried, outlook }];
        }
    }
    let mut going: Vec<(&Worker, Departure)> = replaced(offers, fleet);
    if outlook.is_some_and(|outlook| outlook.pressed()) {
        going.extend(too_late(offers, fleet));
    } else if let Some(outlook) = outlook
        && !fleet.hurried()
        && outlook.may_give_back(&fleet.state.settings.margins)
        && fleet.submission.on_demand() == OnDemandSpec::ToMeetDeadline
    {
        let slack_ms = u64::try_from(outlook.slack_with_ms(0).unwrap_or(0)).unwrap_or(0);
        going.extend(not_needed(fleet, slack_ms));
    }
    let depart = |(worker, departure): (&Worker, Departure)| Choice::Depart { worker: worker.id.clone(), departure };
    going.into_iter().map(depart).collect()
}

/// Those in whose place another stands ready.
fn replaced<'s>(offers: &Offers<'_>, fleet: &Fleet<'s>) -> Vec<(&'s Worker, Departure)> {
    let ready = |worker: &&Worker| matches!(worker.standing, Standing::Ready { .. } | Standing::Member);
    let one = |by: &'s Worker| {
        let old = fleet.replaces(by)?;
        let (before, after) = (fleet.pool(old)?, fleet.pool(by)?);
        // The deadline came nearer meanwhile: what is not taken away stays.
        if before.secure() && !after.secure() && fleet.pressed() {
            return None;
        }
        let cause = match old.at_risk {
            true => ReplaceCause::AtRisk,
            false => ReplaceCause::Cheaper {
                before_usd_per_hour: offers.score_of(fleet, before),
                after_usd_per_hour: offers.score_of(fleet, after),
            },
        };
        Some((old, Departure::Replaced { by: by.id.clone(), cause }))
    };
    fleet.counted().filter(ready).filter_map(one).collect()
}

/// Spot instances that have not attached in a quarter of the time that a start may take, as far as others that nobody
/// takes away can be had in their place. One that was only just asked for stays, so that nothing is asked for and given
/// up in turn.
fn too_late<'s>(offers: &Offers<'_>, fleet: &Fleet<'s>) -> Vec<(&'s Worker, Departure)> {
    let late = |worker: &Worker| {
        let (Some(pool), Some(instance)) = (fleet.pool(worker), fleet.state.instance(&worker.instance)) else {
            return false;
        };
        !pool.secure() && fleet.now >= instance.launched.plus_ms(fleet.start_ms(pool) / 4)
    };
    let on_their_way = |worker: &&Worker| {
        matches!(worker.link, Link::Never { .. }) && fleet.replaces(worker).is_none() && late(worker)
    };
    let starting: Vec<&Worker> = fleet.counted().filter(on_their_way).collect();
    if starting.is_empty() {
        return Vec::new();
    }
    let instead = |one: &Usable| {
        let pool = offers.get(one.at).pool;
        let usd_per_hour = pool.spec.price.map_or(0.0, |price| price.usd_per_hour);
        pool.secure() && ledger::affords(fleet.state, fleet.now, &fleet.job.id, usd_per_hour)
    };
    let usable = offers.usable(fleet).into_iter().filter(instead);
    let room = usable.map(|one| offers.available(one.at)).fold(0, u32::saturating_add);
    starting.into_iter().take(room as usize).map(|worker| (worker, Departure::TooLate)).collect()
}

/// All on demand, if the others are enough to go on with.
fn not_needed<'s>(fleet: &Fleet<'s>, slack_ms: u64) -> Vec<(&'s Worker, Departure)> {
    let on_demand = |worker: &&Worker| fleet.market(worker) == Some(Market::OnDemand);
    let members = fleet.counted().filter(|worker| worker.standing == Standing::Member && !on_demand(worker)).count();
    if members < fleet.submission.workers_min() as usize || !trains(fleet) {
        return Vec::new();
    }
    fleet.counted().filter(on_demand).map(|worker| (worker, Departure::NotNeeded { slack_ms })).collect()
}

fn trains(fleet: &Fleet<'_>) -> bool {
    matches!(&fleet.job.state, JobState::Running { group } if group.effective)
}

/// Whether the job has a worker that might be replaced.
pub(super) fn may_swap(fleet: &Fleet<'_>) -> bool {
    let on_demand = fleet.state.pools_of(&fleet.job.id).any(|pool| pool.spec.market == Market::OnDemand);
    let may = |worker: &Worker| worker.at_risk || (on_demand && fleet.market(worker) == Some(Market::OnDemand));
    trains(fleet) && fleet.counted().any(|worker| worker.standing == Standing::Member && may(worker))
}

/// Starts those that are to take others' places.
pub(super) fn launches<'s>(market: &mut Exchange<'s>, order: &mut Order<'s>) {
    if !may_swap(&order.fleet) {
        return;
    }
    for_those_at_risk(market, order);
    for_those_on_demand(market, order);
}

fn members<'s>(order: &Order<'s>, pick: impl Fn(&Worker) -> bool) -> Vec<&'s Worker> {
    let fleet = &order.fleet;
    let free = |worker: &&Worker| worker.standing == Standing::Member && fleet.replacement(worker).is_none();
    fleet.counted().filter(free).filter(|worker| pick(worker)).collect()
}

/// Anything that is allowed and is not taken away together with the one at risk.
fn for_those_at_risk<'s>(market: &mut Exchange<'s>, order: &mut Order<'s>) {
    for worker in members(order, |worker| worker.at_risk) {
        let Some(old) = order.fleet.pool(worker) else { continue };
        let elsewhere: Vec<usize> = order
            .usable
            .iter()
            .filter(|one| {
                let pool = market.offers.get(one.at).pool;
                pool.secure() || pool.spec.place != old.spec.place
            })
            .map(|one| one.at)
            .collect();
        let fits = move |one: &Usable| elsewhere.contains(&one.at);
        let cause = LaunchCause::InsteadOf { worker: worker.id.clone(), why: ReplaceCause::AtRisk };
        market.buy(order, Among::Allowed, Some((&worker.id, &fits)), &cause);
    }
}

/// Spot that is cheaper by enough, as long as the deadline allows one more that may be taken, and the work left is long
/// enough to be worth a start.
fn for_those_on_demand<'s>(market: &mut Exchange<'s>, order: &mut Order<'s>) {
    let settings = &market.state.settings;
    let outlook = order.fleet.outlook();
    let pace = order.fleet.job.pace.at_least(order.fleet.submission.workers_max());
    let steps_left = order.fleet.submission.spec.train.steps.unwrap_or_default();
    let steps_left = steps_left.saturating_sub(order.fleet.job.progress.step);
    let worth_it = pace.is_none_or(|pace| steps_left as f64 / pace * 1e3 >= 2.0 * settings.start_ms as f64);
    if !worth_it {
        return;
    }
    let secure_swaps = |order: &Order<'s>| {
        let on_demand = |worker: &&Worker| order.fleet.market(worker) == Some(Market::OnDemand);
        order.fleet.counted().filter(on_demand).filter(|worker| order.fleet.replacement(worker).is_some()).count()
    };
    let mut pending = u32::try_from(secure_swaps(order)).unwrap_or(u32::MAX);
    for worker in members(order, |_| true) {
        let Some(old) = order.fleet.pool(worker).filter(|pool| pool.spec.market == Market::OnDemand) else { continue };
        if outlook.is_some_and(|outlook| !outlook.may_replace(pending + 1, &settings.margins)) {
            return;
        }
        let before = market.offers.score_of(&order.fleet, old);
        let bound = before * (1.0 - settings.replace_gain);
        let fits = move |one: &Usable| one.score < bound;
        let best = order.usable.iter().filter(|one| fits(one)).map(|one| one.score).fold(f64::INFINITY, f64::min);
        let why = ReplaceCause::Cheaper { before_usd_per_hour: before, after_usd_per_hour: best };
        let cause = LaunchCause::InsteadOf { worker: worker.id.clone(), why };
        if !market.buy(order, Among::NotOnDemand, Some((&worker.id, &fits)), &cause) {
            return;
        }
        pending += 1;
    }
}
