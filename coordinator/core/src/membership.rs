//! Who sits at which rank of a generation, and which logical shards each member owns. Ranges are contiguous and
//! balanced within one shard; survivors keep their order and joiners come last, so that most of what a worker holds
//! warm stays with it.

use crate::action::Member;
use crate::ids::WorkerId;
use std::collections::BTreeSet;

/// The range of logical shards of each rank: a partition of `0..shards`, none empty.
///
/// # Panics
/// With no members, or with more members than shards: the planner never asks for either.
pub(crate) fn shard_ranges(members: usize, shards: u32) -> Vec<(u32, u32)> {
    let count = u32::try_from(members).unwrap_or(u32::MAX);
    assert!(count > 0 && count <= shards, "{members} members can't share {shards} logical shards");
    let (share, extra) = (shards / count, shards % count);
    (0..count)
        .scan(0, |first, rank| {
            let start = *first;
            *first += share + u32::from(rank < extra);
            Some((start, *first))
        })
        .collect()
}

/// The next generation's order: those of `current` who stay, as they stood, then the newcomers in the given order.
pub(crate) fn rank_order(current: &[Member], stay: &BTreeSet<WorkerId>, newcomers: &[WorkerId]) -> Vec<WorkerId> {
    let survivors = current.iter().map(|member| &member.worker).filter(|worker| stay.contains(*worker));
    let known: BTreeSet<&WorkerId> = current.iter().map(|member| &member.worker).collect();
    survivors.chain(newcomers.iter().filter(|worker| !known.contains(worker))).cloned().collect()
}

/// Members with their addresses and shard ranges, in rank order.
pub(crate) fn members(order: Vec<(WorkerId, String)>, shards: u32) -> Vec<Member> {
    let ranges = shard_ranges(order.len(), shards);
    order
        .into_iter()
        .zip(ranges)
        .map(|((worker, address), (first_shard, end_shard))| Member { worker, address, first_shard, end_shard })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(names: &[&str]) -> Vec<WorkerId> {
        names.iter().map(|name| WorkerId::from(*name)).collect()
    }

    #[test]
    fn eight_shards_over_three_workers() {
        assert_eq!(shard_ranges(3, 8), [(0, 3), (3, 6), (6, 8)]);
        assert_eq!(shard_ranges(8, 8).last(), Some(&(7, 8)));
        assert_eq!(shard_ranges(1, 8), [(0, 8)]);
    }

    #[test]
    fn survivors_keep_their_order_and_joiners_come_last() {
        let current = members(ids(&["w3", "w1", "w2"]).into_iter().map(|w| (w, String::new())).collect(), 8);
        let stay = ids(&["w2", "w3"]).into_iter().collect();
        assert_eq!(rank_order(&current, &stay, &ids(&["w9", "w4"])), ids(&["w3", "w2", "w9", "w4"]));
    }

    proptest! {
        #[test]
        fn ranges_partition_the_shards_and_are_balanced(shards in 1u32..300, part in 0.0f64..1.0) {
            let members = 1 + (part * f64::from(shards - 1)) as usize;
            let ranges = shard_ranges(members, shards);
            prop_assert_eq!(ranges.len(), members);
            prop_assert_eq!(ranges[0].0, 0);
            prop_assert_eq!(ranges[members - 1].1, shards);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let sizes = ranges.iter().map(|(first, end)| end - first);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }
    }
}
