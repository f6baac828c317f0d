//! What can be bought: each place of each pool, what it has free, and what it is worth to a job.

use super::fleet::Fleet;
use crate::decision::LaunchTerms;
use crate::event::{Market, Place};
use crate::ids::{JobId, PoolName, Timestamp};
use crate::policy::{Terms, score};
use crate::settings::Settings;
use crate::state::{Pool, State};
use std::cell::OnceCell;
use trainctl_jobs::OnDemandSpec;

/// All places of all pools, while a plan is made.
pub(super) struct Offers<'s> {
    state: &'s State,
    now: Timestamp,
    /// Once a job asks: most plans end with nobody asking.
    all: OnceCell<Vec<Offer<'s>>>,
}

/// One place of a pool.
pub(super) struct Offer<'s> {
    pub(super) pool: &'s Pool,
    /// It was announced, and what its provider runs is known.
    pub(super) known: bool,
    /// What it would give now.
    pub(super) free: u32,
    /// Of one instance, once it was asked for.
    evictions_per_hour: OnceCell<f64>,
    /// A job that comes first waits for it.
    pub(super) claimed: Option<JobId>,
}

/// An offer that a job may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usable {
    /// Its index.
    pub(super) at: usize,
    /// Its pool's place in the job's list.
    pub(super) preference: usize,
    /// What it is worth to the job.
    pub(super) score: f64,
}

impl<'s> Offer<'s> {
    fn new(state: &State, now: Timestamp, pool: &'s Pool) -> Self {
        let spec = &pool.spec;
        let listed = state.listed(spec);
        let gives = listed && state.resting(spec, now).is_none();
        Self {
            pool,
            known: listed && state.announced(&spec.name),
            free: if gives { spec.capacity.saturating_sub(pool.in_use) } else { 0 },
            evictions_per_hour: OnceCell::new(),
            claimed: None,
        }
    }
}

impl<'s> Offers<'s> {
    pub(super) fn new(state: &'s State, now: Timestamp) -> Self {
        Self { state, now, all: OnceCell::new() }
    }

    fn all(&self) -> &[Offer<'s>] {
        self.all.get_or_init(|| self.state.pools().map(|pool| Offer::new(self.state, self.now, pool)).collect())
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Offer<'s>> {
        self.all();
        self.all.get_mut()?.get_mut(at)
    }

    pub(super) fn get(&self, at: usize) -> &Offer<'s> {
        &self.all()[at]
    }

    fn evictions_per_hour(&self, offer: &Offer<'_>) -> f64 {
        *offer.evictions_per_hour.get_or_init(|| offer.pool.evictions_per_hour(self.now, &self.state.settings))
    }

    /// One is taken.
    pub(super) fn take(&mut self, at: usize) {
        if let Some(offer) = self.get_mut(at) {
            offer.free = offer.free.saturating_sub(1);
        }
    }

    /// From now on it is kept for this job, unless it is for another already.
    pub(super) fn claim(&mut self, at: usize, job: &JobId) {
        if let Some(offer) = self.get_mut(at) {
            offer.claimed.get_or_insert_with(|| job.clone());
        }
    }

    /// What it gives to jobs for which it is not kept.
    pub(super) fn available(&self, at: usize) -> u32 {
        let offer = self.get(at);
        if offer.claimed.is_some() { 0 } else { offer.free }
    }

    /// All places of the pools that the job lists.
    fn listed_by(&self, fleet: &Fleet<'_>) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        for (preference, name) in fleet.submission.spec.resources.pools.iter().enumerate() {
            let named = |offer: &Offer<'_>| offer.pool.spec.of.0 == *name || offer.pool.spec.name.0 == *name;
            let of_pool = self.all().iter().enumerate().filter(|(_, offer)| named(offer));
            places.extend(of_pool.map(|(at, _)| (at, preference)));
        }
        places
    }

    /// What the job may take: listed, in its regions, on terms that it allows, and not given up.
    pub(super) fn usable(&self, fleet: &Fleet<'_>) -> Vec<Usable> {
        let never = fleet.submission.on_demand() == OnDemandSpec::Never;
        let settings = &fleet.state.settings;
        let may = |(at, _): &(usize, usize)| {
            let spec = &self.get(*at).pool.spec;
            fleet.submission.may_be_in(&spec.place)
                && !(never && spec.market == Market::OnDemand)
                && !fleet.job.given_up(&spec.of, settings)
                && fleet.job.rejects(spec, fleet.now, settings).is_none()
        };
        let usable = self.listed_by(fleet).into_iter().filter(may);
        // Places of one configured pool come together, and are alike.
        let mut known: Option<(&PoolName, f64)> = None;
        let mut speed = |pool: &'s Pool| match known {
            Some((of, speed)) if *of == pool.spec.of => speed,
            _ => known.insert((&pool.spec.of, fleet.speed(pool))).1,
        };
        let with_score = |(at, preference)| {
            let score = self.score(at, || speed(self.get(at).pool), settings);
            Usable { at, preference, score }
        };
        usable.map(with_score).collect()
    }

    /// The job lists some that are there, and none of them is in its regions.
    pub(super) fn all_outside_regions(&self, fleet: &Fleet<'_>) -> bool {
        let listed = self.listed_by(fleet);
        let outside = |(at, _): &(usize, usize)| !fleet.submission.may_be_in(&self.get(*at).pool.spec.place);
        !listed.is_empty() && listed.iter().all(outside)
    }

    fn score(&self, at: usize, speed: impl FnOnce() -> f64, settings: &Settings) -> f64 {
        let offer = self.get(at);
        let usd_per_hour = offer.pool.spec.price.map_or(0.0, |price| price.usd_per_hour);
        if usd_per_hour <= 0.0 {
            return 0.0;
        }
        score(&Terms {
            usd_per_hour,
            speed: speed(),
            evictions_per_hour: self.evictions_per_hour(offer),
            eviction_cost_hours: settings.eviction_cost_ms as f64 / 3.6e6,
        })
    }

    /// What an instance of the worker's pool is worth to its job.
    pub(super) fn score_of(&self, fleet: &Fleet<'_>, pool: &Pool) -> f64 {
        let at = self.all().iter().position(|offer| offer.pool.spec.name == pool.spec.name);
        at.map_or(0.0, |at| self.score(at, || fleet.speed(pool), &fleet.state.settings))
    }

    pub(super) fn terms(&self, usable: &Usable) -> Option<LaunchTerms> {
        let offer = self.get(usable.at);
        let price = offer.pool.spec.price?;
        Some(LaunchTerms {
            usd_per_hour: price.usd_per_hour,
            on_demand_usd_per_hour: price.on_demand_usd_per_hour,
            evictions_per_hour: self.evictions_per_hour(offer),
            score_usd_per_hour: usable.score,
        })
    }

    /// What is taken away together with it.
    pub(super) fn zone(&self, at: usize) -> Option<&'s Place> {
        let spec = &self.get(at).pool.spec;
        (spec.market == Market::Spot && spec.place.zone.is_some()).then_some(&spec.place)
    }
}
