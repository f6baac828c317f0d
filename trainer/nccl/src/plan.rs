//! Where the floats of a sum lie in one block of memory, and who sends what to whom. Pure.
//!
//! The vector is cut into one chunk for each member, all of one length, so that the gathering is a plain all-gather;
//! the vector is padded to that. Then come, one after another:
//!
//! - slots for this member's own vectors: finished partial sums, the vector being computed, and what the tree needs
//!   between them;
//! - the other members' partial sums of this member's chunk;
//! - the finished sum.

use std::ops::Range;
use trainer_collective::{Numerics, Part};
use trainer_core::Assignment;
use trainer_core::tree::{Add, Fold, Shards, additions, subtrees};

/// Chunks are multiples of so many floats: 256 bytes, which is how CUDA aligns memory.
const GRAIN: usize = 64;

/// The layout of one member's memory in one generation, for vectors of one length.
#[derive(Clone, Debug)]
pub struct Plan {
    numerics: Numerics,
    rank: usize,
    logical_shards: u32,
    length: usize,
    chunk: usize,
    /// Of each member, by rank.
    nodes: Vec<Vec<Shards>>,
    owned: Shards,
    slots: usize,
}

impl Plan {
    /// For the member of this rank in a checked assignment, and vectors of `length` floats.
    ///
    /// # Panics
    /// When the rank is none of the assignment's.
    #[must_use]
    pub fn new(numerics: Numerics, assignment: &Assignment, rank: usize, length: usize) -> Self {
        let members = &assignment.members;
        let logical_shards = members.last().map_or(0, |m| m.shards.end);
        let owned = members[rank].shards.clone();
        let slots = match numerics {
            Numerics::Exact => {
                let mut fold = Fold::new(logical_shards, &owned);
                owned.clone().map(|shard| fold.push(shard).held).max().unwrap_or(0)
            }
            Numerics::Fast => owned.len().min(2),
        };
        Self {
            numerics,
            rank,
            logical_shards,
            length,
            chunk: length.div_ceil(members.len()).next_multiple_of(GRAIN),
            nodes: members.iter().map(|m| subtrees(logical_shards, &m.shards)).collect(),
            owned,
            slots,
        }
    }

    /// Floats of memory that it needs.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.sum_start() + self.padded()
    }

    /// Where the finished sum lies.
    #[must_use]
    pub fn sum(&self) -> Range<usize> {
        let start = self.sum_start();
        start..start + self.length
    }

    /// How the sum is ordered.
    #[must_use]
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// The shards that this member computes.
    #[must_use]
    pub fn owned(&self) -> Shards {
        self.owned.clone()
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn world_size(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn fold(&self) -> Fold {
        Fold::new(self.logical_shards, &self.owned)
    }

    /// Where an own vector lies.
    pub(crate) fn slot(&self, slot: usize) -> Range<usize> {
        let start = slot * self.padded();
        start..start + self.length
    }

    /// The finished sum with its padding: as many equal chunks as there are members.
    pub(crate) fn padded_sum(&self) -> Range<usize> {
        self.sum_start()..self.memory_len()
    }

    /// Where this member's chunk of the finished sum lies.
    pub(crate) fn own_sum(&self) -> Range<usize> {
        let start = self.sum_start() + self.rank * self.chunk;
        start..start + self.chunk
    }

    /// This member's partial sums, each chunk to its owner.
    pub(crate) fn sends(&self) -> Vec<Part> {
        let to = |peer| (0..self.nodes[self.rank].len()).map(move |slot| Part { peer, range: self.piece(slot, peer) });
        self.peers().flat_map(to).collect()
    }

    /// The peers' partial sums of this member's chunk.
    pub(crate) fn receives(&self) -> Vec<Part> {
        let mut next = 0;
        let mut parts = Vec::new();
        for peer in self.peers() {
            for _ in &self.nodes[peer] {
                parts.push(Part { peer, range: self.other(next) });
                next += 1;
            }
        }
        parts
    }

    /// All members' partial sums of this member's chunk, in shard order.
    pub(crate) fn operands(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let mut found = Vec::new();
        for (member, nodes) in self.nodes.iter().enumerate() {
            for slot in 0..nodes.len() {
                if member == self.rank {
                    found.push(self.piece(slot, self.rank));
                } else {
                    found.push(self.other(next));
                    next += 1;
                }
            }
        }
        found
    }

    /// The additions over [`Plan::operands`] that leave the sum in the first of them.
    pub(crate) fn additions(&self) -> Vec<Add> {
        additions(self.logical_shards, &self.nodes.concat())
    }

    fn padded(&self) -> usize {
        self.chunk * self.world_size()
    }

    fn sum_start(&self) -> usize {
        self.others_start() + self.others() * self.chunk
    }

    fn others_start(&self) -> usize {
        self.slots * self.padded()
    }

    /// How many partial sums come from peers.
    fn others(&self) -> usize {
        match self.numerics {
            Numerics::Exact => self.peers().map(|peer| self.nodes[peer].len()).sum(),
            Numerics::Fast => 0,
        }
    }

    fn other(&self, index: usize) -> Range<usize> {
        let start = self.others_start() + index * self.chunk;
        start..start + self.chunk
    }

    /// The chunk of this owner in a slot.
    fn piece(&self, slot: usize, owner: usize) -> Range<usize> {
        let start = slot * self.padded() + owner * self.chunk;
        start..start + self.chunk
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.rank;
        (0..self.nodes.len()).filter(move |peer| *peer != rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer_core::Member;

    fn plan(numerics: Numerics, owned: &[Shards], rank: usize, length: usize) -> Plan {
        let member = |shards: &Shards| Member { worker: String::new(), address: String::new(), shards: shards.clone() };
        let members = owned.iter().map(member).collect();
        Plan::new(
            numerics,
            &Assignment { generation: 1, immediate: true, members, reason: String::new() },
            rank,
            length,
        )
    }

    #[test]
    fn nothing_overlaps_and_what_is_sent_is_received() {
        let divisions: [&[u32]; 4] = [&[0, 8], &[0, 3, 8], &[0, 1, 6, 8], &[0, 2, 3, 4, 7, 11]];
        for owned in divisions.map(|cuts| cuts.windows(2).map(|w| w[0]..w[1]).collect::<Vec<Shards>>()) {
            for length in [1, 64, 1000] {
                let plans: Vec<Plan> = (0..owned.len()).map(|r| plan(Numerics::Exact, &owned, r, length)).collect();
                for (rank, plan) in plans.iter().enumerate() {
                    let mut pieces: Vec<Range<usize>> = (0..plan.slots).map(|s| plan.slot(s)).collect();
                    pieces.extend(plan.receives().into_iter().map(|part| part.range));
                    pieces.push(plan.padded_sum());
                    assert!(pieces.windows(2).all(|w| w[0].end <= w[1].start), "{pieces:?}");
                    assert_eq!(plan.padded_sum().end, plan.memory_len());
                    for (peer, other) in plans.iter().enumerate() {
                        let sent = other.sends().into_iter().filter(|p| p.peer == rank).map(|p| p.range.len());
                        let taken = plan.receives().into_iter().filter(|p| p.peer == peer).map(|p| p.range.len());
                        assert!(sent.eq(taken));
                    }
                }
            }
        }
    }

    #[test]
    fn memory_is_a_few_vectors() {
        // 16 shards alone: one for each level of the tree, the one being computed, and the sum.
        assert_eq!(plan(Numerics::Exact, std::slice::from_ref(&(0..16)), 0, 6400).memory_len(), (5 + 1) * 6400);
        // Half of them each: the peer's one partial sum of one's own chunk is half a vector.
        assert_eq!(plan(Numerics::Exact, &[0..8, 8..16], 0, 6400).memory_len(), (4 + 1) * 6400 + 3200);
        assert_eq!(plan(Numerics::Fast, &[0..8, 8..16], 0, 6400).memory_len(), (2 + 1) * 6400);
    }
}
