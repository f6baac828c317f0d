//! How many logical shards each member of a group computes. Shards can be anyone's: they cost the same, each worker
//! holds the whole state, and the sum doesn't depend on who computed what. So only the counts matter, and the ranges
//! follow from them in rank order.

use crate::ids::WorkerId;
use serde::{Deserialize, Serialize};

/// A step must get shorter by more than this share of it before shards move. Measures that are off by 5 % either way
/// can't fake so much: if `next` looks shorter than 0.9 of `present`, it takes less than 0.9 * 1.05 / 0.95 < 1 of its
/// time in truth. Each move then shortens the step, so moves come to an end.
const GAIN_MIN: f64 = 0.1;

/// Shards that go from one member to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardMove {
    /// So many.
    pub shards: u32,
    /// Who computed them.
    pub from: WorkerId,
    /// Who does from then on.
    pub to: WorkerId,
}

/// As even as they can be; the first ranks have one more where that does not divide.
///
/// # Panics
/// With no members, or with more members than shards: the planner never asks for either.
pub(crate) fn even(members: usize, shards: u32) -> Vec<u32> {
    let count = u32::try_from(members).unwrap_or(u32::MAX);
    assert!(count > 0 && count <= shards, "{members} members can't share {shards} logical shards");
    let (share, extra) = (shards / count, shards % count);
    (0..count).map(|rank| share + u32::from(rank < extra)).collect()
}

/// Seconds that the slowest member computes, given how many shards each has and what one costs it.
pub(crate) fn step_seconds(counts: &[u32], seconds: &[f64]) -> f64 {
    counts.iter().zip(seconds).map(|(count, seconds)| f64::from(*count) * seconds).fold(0.0, f64::max)
}

/// The counts, each at least 1, with the shortest step; of those, some that take the fewest shards away from the
/// members that have them in `present`.
///
/// Handing out shards one by one to whoever would be done first with one more gives the shortest step (identical jobs
/// on uniform machines). That step bounds what each member may have; what exceeds the bound must move, and goes to
/// members with room.
pub(crate) fn fastest(present: &[u32], seconds: &[f64]) -> Vec<u32> {
    let shards: u32 = present.iter().sum();
    let mut counts = vec![1; present.len()];
    give(&mut counts, seconds, shards, |_, _| true);
    let step = step_seconds(&counts, seconds);
    let fits = |rank: usize, count: u32| f64::from(count) * seconds[rank] <= step;
    let bounded = |(rank, count): (usize, &u32)| (1..=*count).rev().find(|count| fits(rank, *count)).unwrap_or(1);
    let mut counts: Vec<u32> = present.iter().enumerate().map(bounded).collect();
    give(&mut counts, seconds, shards, fits);
    counts
}

/// Raises counts until they sum to `shards`, each time where the step grows least.
fn give(counts: &mut [u32], seconds: &[f64], shards: u32, fits: impl Fn(usize, u32) -> bool) {
    for _ in counts.iter().sum()..shards {
        let after = |rank: usize| f64::from(counts[rank] + 1) * seconds[rank];
        let with_room = (0..counts.len()).filter(|rank| fits(*rank, counts[*rank] + 1));
        let Some(next) = with_room.min_by(|a, b| after(*a).total_cmp(&after(*b))) else { return };
        counts[next] += 1;
    }
}

/// Whether a step with `next` is enough shorter than one with `present`. The two take different figures of the same
/// members, so that a caller can hold its most doubtful measures against itself.
pub(crate) fn pays(present_seconds: f64, next_seconds: f64) -> bool {
    next_seconds < (1.0 - GAIN_MIN) * present_seconds
}

/// Who gives shards to whom, in rank order.
pub(crate) fn moves(workers: &[WorkerId], present: &[u32], next: &[u32]) -> Vec<ShardMove> {
    let surplus = |from: &[u32], to: &[u32]| -> Vec<(usize, u32)> {
        (0..workers.len()).map(|rank| (rank, from[rank].saturating_sub(to[rank]))).filter(|(_, n)| *n > 0).collect()
    };
    let mut takers = surplus(next, present);
    let mut moves = Vec::new();
    for (giver, mut left) in surplus(present, next) {
        while left > 0
            && let Some((taker, wants)) = takers.first_mut()
        {
            let shards = left.min(*wants);
            moves.push(ShardMove { shards, from: workers[giver].clone(), to: workers[*taker].clone() });
            left -= shards;
            *wants -= shards;
            if *wants == 0 {
                takers.remove(0);
            }
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moved(present: &[u32], next: &[u32]) -> u32 {
        present.iter().zip(next).map(|(present, next)| present.saturating_sub(*next)).sum()
    }

    /// Every way to share `shards` out, each member with at least one.
    fn every_way(members: usize, shards: u32) -> Vec<Vec<u32>> {
        if members == 1 {
            return vec![vec![shards]];
        }
        let rest = members as u32 - 1;
        let with = |first: u32| {
            every_way(members - 1, shards - first).into_iter().map(move |rest| [vec![first], rest].concat())
        };
        (1..=shards - rest).flat_map(with).collect()
    }

    #[test]
    fn a_member_at_a_quarter_of_the_speed_keeps_about_a_quarter_of_the_others_share() {
        assert_eq!(fastest(&[4, 4], &[0.01, 0.04]), [7, 1]);
        assert_eq!(fastest(&[7, 1], &[0.01, 0.01]), [4, 4]);
        assert_eq!(fastest(&[16, 16], &[0.04, 0.01]), [6, 26]);
        assert_eq!(fastest(&[4, 4], &[1.0, 0.000_1]), [1, 7]);
    }

    #[test]
    fn nothing_moves_that_need_not() {
        assert_eq!(fastest(&[3, 2, 3], &[0.01; 3]), [3, 2, 3]);
        assert_eq!(fastest(&[2, 3, 3], &[0.01; 3]), [2, 3, 3]);
        assert_eq!(fastest(&[8], &[0.01]), [8]);
    }

    #[test]
    fn moves_name_who_gives_and_who_takes() {
        let workers: Vec<WorkerId> = ["w1", "w2", "w3"].map(WorkerId::from).into();
        let one =
            |shards, from: usize, to: usize| ShardMove { shards, from: workers[from].clone(), to: workers[to].clone() };
        assert_eq!(moves(&workers, &[6, 1, 1], &[2, 3, 3]), [one(2, 0, 1), one(2, 0, 2)]);
        assert_eq!(moves(&workers, &[4, 4, 8], &[6, 6, 4]), [one(2, 2, 0), one(2, 2, 1)]);
        assert_eq!(moves(&workers, &[5, 6, 5], &[5, 6, 5]), []);
    }

    /// Members with a share of the shards each, and a seconds each.
    fn group(shards_max: u32) -> impl Strategy<Value = (Vec<u32>, Vec<f64>)> {
        prop::collection::vec((1..=shards_max, 0.001f64..0.1), 1..5).prop_map(|members| members.into_iter().unzip())
    }

    /// Each figure off by up to 5 % either way.
    fn noisy(seconds: &[f64], noise: &[f64]) -> Vec<f64> {
        seconds.iter().zip(noise).map(|(seconds, noise)| seconds * noise).collect()
    }

    proptest! {
        #[test]
        fn even_counts_differ_by_one_at_most(shards in 1u32..300, part in 0.0f64..1.0) {
            let members = 1 + (part * f64::from(shards - 1)) as usize;
            let counts = even(members, shards);
            prop_assert_eq!(counts.len(), members);
            prop_assert_eq!(counts.iter().sum::<u32>(), shards);
            prop_assert!(counts[0] - counts[members - 1] <= 1 && counts.is_sorted_by(|a, b| a >= b));
        }

        #[test]
        fn no_other_counts_are_faster_nor_as_fast_with_less_moved((present, seconds) in group(4)) {
            let next = fastest(&present, &seconds);
            let shards = present.iter().sum();
            prop_assert_eq!(next.iter().sum::<u32>(), shards);
            prop_assert!(next.iter().all(|count| *count > 0));
            let step = step_seconds(&next, &seconds);
            for other in every_way(present.len(), shards) {
                let others = step_seconds(&other, &seconds);
                let as_good = step < others || step <= others && moved(&present, &next) <= moved(&present, &other);
                prop_assert!(as_good, "{other:?} is better than {next:?}");
            }
            prop_assert_eq!(fastest(&next, &seconds), next);
        }

        #[test]
        fn moves_lead_from_one_to_the_other((present, seconds) in group(40)) {
            let next = fastest(&present, &seconds);
            let workers: Vec<WorkerId> = (0..present.len()).map(|n| WorkerId(n.to_string())).collect();
            let mut counts = present.clone();
            let rank = |worker: &WorkerId| workers.iter().position(|one| one == worker).unwrap();
            for one in moves(&workers, &present, &next) {
                counts[rank(&one.from)] -= one.shards;
                counts[rank(&one.to)] += one.shards;
            }
            prop_assert_eq!(counts, next);
        }

        #[test]
        fn with_noise_of_five_percent_each_move_shortens_the_step_in_truth(
            (start, seconds) in group(40),
            noises in prop::collection::vec(prop::collection::vec(0.95f64..1.05, 4), 50),
        ) {
            let mut counts = start;
            for noise in noises {
                let measured = noisy(&seconds, &noise);
                let next = fastest(&counts, &measured);
                if pays(step_seconds(&counts, &measured), step_seconds(&next, &measured)) {
                    prop_assert!(step_seconds(&next, &seconds) < step_seconds(&counts, &seconds));
                    counts = next;
                }
            }
        }

        #[test]
        fn noise_of_five_percent_moves_nothing_that_lies_well(
            (start, seconds) in group(40),
            noise in prop::collection::vec(0.95f64..1.05, 4),
        ) {
            let counts = fastest(&start, &seconds);
            let measured = noisy(&seconds, &noise);
            let next = fastest(&counts, &measured);
            prop_assert!(!pays(step_seconds(&counts, &measured), step_seconds(&next, &measured)));
        }
    }
}
