//! In which order partial sums are added: the tree's additions as a program for a stack, which any block of the vector
//! can run through while it is in the cache.

use std::ops::Range;
use trainer_core::tree::{Shards, additions, subtrees};

/// Floats that are summed at a time: so few that the blocks of a deep tree stay in the first cache.
pub(crate) const BLOCK: usize = 1024;

/// How sums are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Numerics {
    /// As the tree over the logical shards says: the same bits for any group.
    #[default]
    Exact,
    /// A worker's shards as they come, then the workers' sums as they come. All members still get equal bits.
    Fast,
}

/// One partial sum: load it, then add so many times the top of the stack to what is below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    /// Whose.
    pub(crate) member: usize,
    /// Which of the member's, counting from 0.
    pub(crate) number: usize,
    merges: usize,
}

/// Where the block of a partial sum goes.
#[derive(Debug)]
pub(crate) enum Put<'a> {
    /// In the place of what is there.
    Over(&'a mut [f32]),
    /// Added to what is there.
    Onto(&'a mut [f32]),
}

impl Put<'_> {
    /// Puts these floats, as many as there is room for.
    pub(crate) fn take(self, from: &[f32]) {
        match self {
            Self::Over(into) => into.copy_from_slice(from),
            Self::Onto(into) => add(into, from),
        }
    }
}

/// The order for one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Program {
    leaves: Vec<Leaf>,
    depth: usize,
    partials: Vec<usize>,
}

impl Program {
    /// For members that own these shards, which are all of the tree's.
    pub(crate) fn new(numerics: Numerics, members: &[Shards]) -> Self {
        let logical_shards = members.last().map_or(0, |m| m.end);
        let nodes: Vec<Vec<Shards>> = match numerics {
            Numerics::Exact => members.iter().map(|m| subtrees(logical_shards, m)).collect(),
            Numerics::Fast => members.iter().map(|m| vec![m.clone()]).collect(),
        };
        let partials: Vec<usize> = nodes.iter().map(Vec::len).collect();
        let mut merges = vec![0; partials.iter().sum()];
        match numerics {
            Numerics::Exact => {
                // An addition comes right after the last leaf below its right operand.
                let mut last: Vec<usize> = (0..merges.len()).collect();
                for add in additions(logical_shards, &nodes.concat()) {
                    merges[last[add.from]] += 1;
                    last[add.into] = last[add.from];
                }
            }
            Numerics::Fast => merges.iter_mut().skip(1).for_each(|m| *m = 1),
        }
        let places = partials.iter().enumerate().flat_map(|(member, n)| (0..*n).map(move |number| (member, number)));
        let leaves: Vec<Leaf> =
            places.zip(merges).map(|((member, number), merges)| Leaf { member, number, merges }).collect();
        let (mut depth, mut height) = (0, 0);
        for leaf in &leaves {
            // Its first merge is made without a place of its own.
            height += usize::from(leaf.merges == 0);
            depth = depth.max(height);
            height -= leaf.merges.saturating_sub(1);
        }
        Self { leaves, depth, partials }
    }

    /// How many partial sums each member has.
    pub(crate) fn partials(&self) -> &[usize] {
        &self.partials
    }

    /// Floats of stack that [`Program::sum`] needs.
    pub(crate) fn stack_floats(&self) -> usize {
        self.depth.max(1) * BLOCK
    }

    /// If there are only two partial sums, of two members: the one that is not this member's. Of two floats the order
    /// doesn't matter, so it can be added to the member's own where that lies.
    pub(crate) fn other_of_two(&self, member: usize) -> Option<Leaf> {
        match self.leaves.as_slice() {
            [a, b] if a.member != b.member => [a, b].into_iter().find(|leaf| leaf.member != member).copied(),
            _ => None,
        }
    }

    /// Sums one block of at most [`BLOCK`] floats, to the bottom of the stack. `put` puts a leaf's block.
    pub(crate) fn sum<'s>(
        &self,
        stack: &'s mut [f32],
        block: Range<usize>,
        mut put: impl FnMut(Leaf, Range<usize>, Put<'_>),
    ) -> &'s [f32] {
        let floats = block.len();
        let mut height = 0;
        for leaf in &self.leaves {
            let Some(merges) = leaf.merges.checked_sub(1) else {
                put(*leaf, block.clone(), Put::Over(&mut stack[height * BLOCK..][..floats]));
                height += 1;
                continue;
            };
            // The first merge needs no copy of its right operand.
            put(*leaf, block.clone(), Put::Onto(&mut stack[(height - 1) * BLOCK..][..floats]));
            for _ in 0..merges {
                height -= 1;
                let (below, top) = stack.split_at_mut(height * BLOCK);
                add(&mut below[(height - 1) * BLOCK..][..floats], &top[..floats]);
            }
        }
        &stack[..floats]
    }
}

/// Adds float by float; both have one length.
pub(crate) fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += *b;
    }
}

/// A range in pieces of at most [`BLOCK`].
pub(crate) fn blocks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trainer_core::tree::split;

    fn serial(node: &Shards, leaf: &dyn Fn(u32) -> f32) -> f32 {
        match split(node) {
            None => leaf(node.start),
            Some((left, right)) => serial(&left, leaf) + serial(&right, leaf),
        }
    }

    proptest! {
        #[test]
        fn a_program_adds_as_the_tree_does(
            logical_shards in 1_u32..70,
            cuts in prop::collection::vec(0_u32..70, 0..9),
            floats in 0_usize..20,
        ) {
            let mut at: Vec<u32> = cuts.iter().map(|c| c % (logical_shards + 1)).collect();
            at.extend([0, logical_shards]);
            at.sort_unstable();
            at.dedup();
            let members: Vec<Shards> = at.windows(2).map(|w| w[0]..w[1]).collect();
            let value = |shard: u32, i: usize| {
                ((u64::from(shard) * 31 + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 * 1.000_13
            };
            let program = Program::new(Numerics::Exact, &members);
            let mut stack = vec![0.0; program.stack_floats()];
            let sum = program.sum(&mut stack, 0..floats, |leaf, block, put| {
                let node = &subtrees(logical_shards, &members[leaf.member])[leaf.number];
                put.take(&block.map(|i| serial(node, &|shard| value(shard, i))).collect::<Vec<_>>());
            });
            for (i, f) in sum.iter().enumerate() {
                let expected = serial(&(0..logical_shards), &|shard| value(shard, i));
                prop_assert_eq!(f.to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn a_fast_program_needs_one_partial_of_each() {
        let program = Program::new(Numerics::Fast, &[0..3, 3..4, 4..9]);
        assert_eq!(program.partials(), [1, 1, 1]);
        let mut stack = vec![0.0; program.stack_floats()];
        let sum = program.sum(&mut stack, 0..1, |leaf, _, put| put.take(&[10_f32.powi(leaf.member as i32)]));
        assert_eq!(sum, [111.0]);
    }

    #[test]
    fn two_partial_sums_of_two_members_need_no_stack() {
        let other = |members: &[Shards]| {
            let program = Program::new(Numerics::Exact, members);
            [0, 1].map(|member| program.other_of_two(member).map(|leaf| (leaf.member, leaf.number)))
        };
        assert_eq!(other(&[0..2, 2..4]), [Some((1, 0)), Some((0, 0))]);
        assert_eq!(other(&[0..1, 1..4]), [None, None], "the second holds two");
        assert_eq!(other(&[0..1, 1..2, 2..3]), [None, None]);
        assert_eq!(other(std::slice::from_ref(&(0..3))), [None, None]);
    }

    #[test]
    fn blocks_cover_a_range() {
        assert_eq!(blocks(5..5).count(), 0);
        assert_eq!(
            blocks(5..2 * BLOCK + 6).collect::<Vec<_>>(),
            [5..BLOCK + 5, BLOCK + 5..2 * BLOCK + 5, 2 * BLOCK + 5..2 * BLOCK + 6]
        );
    }
}
