//! Who sits at which rank of a generation, and which logical shards each member owns: contiguous ranges in rank order,
//! of the sizes that [`crate::shares`] gives. Survivors keep their order and joiners come last.

use crate::action::Member;
use crate::ids::WorkerId;
use std::collections::BTreeSet;

/// The next generation's order: those of `current` who stay, as they stood, then the newcomers in the given order.
pub(crate) fn rank_order(current: &[Member], stay: &BTreeSet<WorkerId>, newcomers: &[WorkerId]) -> Vec<WorkerId> {
    let survivors = current.iter().map(|member| &member.worker).filter(|worker| stay.contains(*worker));
    let known: BTreeSet<&WorkerId> = current.iter().map(|member| &member.worker).collect();
    survivors.chain(newcomers.iter().filter(|worker| !known.contains(worker))).cloned().collect()
}

/// Members with their addresses and shard ranges, in rank order. `counts`: how many shards each computes.
pub(crate) fn members(order: Vec<(WorkerId, String)>, counts: &[u32]) -> Vec<Member> {
    let mut first_shard = 0;
    let member = |((worker, address), count): ((WorkerId, String), &u32)| {
        let end_shard = first_shard + count;
        let member = Member { worker, address, first_shard, end_shard };
        first_shard = end_shard;
        member
    };
    order.into_iter().zip(counts).map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<WorkerId> {
        names.iter().map(|name| WorkerId::from(*name)).collect()
    }

    #[test]
    fn ranges_follow_each_other_in_rank_order() {
        let order = ids(&["w1", "w2", "w3"]).into_iter().map(|worker| (worker, String::new())).collect();
        let members = members(order, &[5, 1, 2]);
        let ranges: Vec<(u32, u32)> = members.iter().map(|member| (member.first_shard, member.end_shard)).collect();
        assert_eq!(ranges, [(0, 5), (5, 6), (6, 8)]);
    }

    #[test]
    fn survivors_keep_their_order_and_joiners_come_last() {
        let current = members(ids(&["w3", "w1", "w2"]).into_iter().map(|w| (w, String::new())).collect(), &[3, 3, 2]);
        let stay = ids(&["w2", "w3"]).into_iter().collect();
        assert_eq!(rank_order(&current, &stay, &ids(&["w9", "w4"])), ids(&["w3", "w2", "w9", "w4"]));
    }
}
