//! Which of several offers to take: the cheapest for the work that is done on it, and of those that are nearly as
//! cheap, one in a zone that has few of the job's workers.

use crate::event::Place;
use crate::ids::PoolName;
use std::cmp::Ordering;

/// What one instance of an offer costs and gives.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Terms {
    /// US dollars an hour.
    pub usd_per_hour: f64,
    /// Work done in a time, against other offers; 1 where nothing is known.
    pub speed: f64,
    /// Evictions of one instance that are to be expected in an hour.
    pub evictions_per_hour: f64,
    /// Hours of an instance that one eviction costs: the start of another, and what others wait.
    pub eviction_cost_hours: f64,
}

/// US dollars for an hour's work at speed 1, with what evictions are expected to cost. Less is better.
#[must_use]
pub fn score(terms: &Terms) -> f64 {
    let lost = terms.evictions_per_hour.max(0.0) * terms.eviction_cost_hours.max(0.0);
    terms.usd_per_hour.max(0.0) / terms.speed.max(1e-6) * (1.0 + lost)
}

/// An offer that has something to give.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate<'a> {
    /// As [`score`] says.
    pub score: f64,
    /// Its pool's place in the job's list.
    pub preference: usize,
    /// Its name.
    pub name: &'a PoolName,
    /// What it shares with all that are taken away together; absent: nothing is, or it is not known.
    pub zone: Option<&'a Place>,
    /// The job's workers in that zone.
    pub neighbours: u32,
}

impl Candidate<'_> {
    fn by_score(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| {
            let rank = |one: &Self| (one.preference, one.name.clone());
            rank(self).cmp(&rank(other))
        })
    }
}

/// The index of the one to take: the best by score, then by the job's order of pools. Where that could be taken away
/// with its zone, the zone with the fewest of the job's workers among those whose score is worse by no more than
/// `tolerance` (0.1: 10 %).
#[must_use]
pub fn choose(candidates: &[Candidate<'_>], tolerance: f64) -> Option<usize> {
    let (best, leader) = candidates.iter().enumerate().min_by(|(_, a), (_, b)| a.by_score(b))?;
    if leader.zone.is_none() {
        return Some(best);
    }
    let bound = leader.score * (1.0 + tolerance.max(0.0));
    let near = candidates.iter().enumerate().filter(|(_, one)| one.zone.is_some() && one.score <= bound);
    let spread = near.min_by(|(_, a), (_, b)| a.neighbours.cmp(&b.neighbours).then_with(|| a.by_score(b)));
    spread.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ProviderName;
    use proptest::prelude::*;

    fn terms(usd_per_hour: f64, speed: f64, evictions_per_hour: f64) -> Terms {
        Terms { usd_per_hour, speed, evictions_per_hour, eviction_cost_hours: 0.1 }
    }

    fn zone(name: &str) -> Place {
        let text = |text: &str| Some(text.to_owned());
        Place { provider: ProviderName::from("aws"), region: text("r"), zone: text(name) }
    }

    #[test]
    fn a_machine_of_twice_the_speed_is_worth_twice_the_price() {
        assert!(score(&terms(1.9, 2.0, 0.0)) < score(&terms(1.0, 1.0, 0.0)));
        assert!(score(&terms(2.1, 2.0, 0.0)) > score(&terms(1.0, 1.0, 0.0)));
    }

    #[test]
    fn what_is_taken_often_must_be_cheaper() {
        // Three an hour at six minutes each lose 0.3 of an hour.
        assert!(score(&terms(1.0, 1.0, 3.0)) > score(&terms(1.25, 1.0, 0.0)));
        assert!(score(&terms(1.0, 1.0, 3.0)) < score(&terms(1.35, 1.0, 0.0)));
    }

    #[test]
    fn four_workers_go_to_as_many_zones_as_are_nearly_as_cheap() {
        let zones = ["a", "b", "c"].map(zone);
        let names = ["a", "b", "c"].map(PoolName::from);
        let scores = [1.0, 1.05, 1.5];
        let mut placed = [0; 3];
        for _ in 0..4 {
            let candidates: Vec<Candidate> = (0..3)
                .map(|n| Candidate {
                    score: scores[n],
                    preference: 0,
                    name: &names[n],
                    zone: Some(&zones[n]),
                    neighbours: placed[n],
                })
                .collect();
            placed[choose(&candidates, 0.1).unwrap()] += 1;
        }
        assert_eq!(placed, [2, 2, 0]);
    }

    #[test]
    fn where_prices_tie_the_jobs_order_of_pools_decides() {
        let names = ["a", "b"].map(PoolName::from);
        let one =
            |n: usize, preference| Candidate { score: 0.0, preference, name: &names[n], zone: None, neighbours: 9 };
        assert_eq!(choose(&[one(0, 1), one(1, 0)], 0.1), Some(1));
        assert_eq!(choose(&[], 0.1), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_nearly_the_cheapest_and_no_near_one_has_fewer_neighbours(
            offers in prop::collection::vec((0.0f64..3.0, 0u32..5, any::<bool>()), 1..9),
        ) {
            let names: Vec<PoolName> = (0..offers.len()).map(|n| PoolName(n.to_string())).collect();
            let zones: Vec<Place> = (0..offers.len()).map(|n| zone(&n.to_string())).collect();
            let candidates: Vec<Candidate> = offers.iter().enumerate().map(|(n, (score, neighbours, zoned))| Candidate {
                score: *score,
                preference: 0,
                name: &names[n],
                zone: zoned.then_some(&zones[n]),
                neighbours: *neighbours,
            }).collect();
            let chosen = &candidates[choose(&candidates, 0.1).unwrap()];
            let cheapest = candidates.iter().map(|one| one.score).fold(f64::INFINITY, f64::min);
            prop_assert!(chosen.score <= cheapest * 1.1);
            let better = |one: &&Candidate| one.zone.is_some() && one.score <= cheapest && one.neighbours < chosen.neighbours;
            prop_assert!(chosen.zone.is_none() || !candidates.iter().any(|one| better(&one)));
        }
    }
}
