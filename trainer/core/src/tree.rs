//! The order in which logical shards are summed. Floating-point addition does not associate, so a sum has the same
//! bits at every world size only if its brackets are the same: this module fixes one binary tree over the shard
//! indices `0..V`. Whoever holds the leaves, the brackets stay.
//!
//! A node covers a contiguous range; it splits at the largest power of two below its length, so that every aligned
//! block of a power of two is a node of its own and workers with contiguous shards can sum most of them locally.

use std::ops::Range;

/// A contiguous range of logical shards.
pub type Shards = Range<u32>;

/// The two children of the node over `shards`; `None` for a leaf.
#[must_use]
pub fn split(shards: &Shards) -> Option<(Shards, Shards)> {
    let length = shards.end - shards.start;
    if length < 2 {
        return None;
    }
    let left = 1 << (u32::BITS - 1 - (length - 1).leading_zeros());
    let middle = shards.start + left;
    Some((shards.start..middle, middle..shards.end))
}

/// The largest nodes of the tree over `0..logical_shards` that lie wholly within `owned`, from left to right. They
/// are what the owner of these shards sends: one partial sum for each.
#[must_use]
pub fn subtrees(logical_shards: u32, owned: &Shards) -> Vec<Shards> {
    let mut found = Vec::new();
    collect(&(0..logical_shards), owned, &mut found);
    found
}

fn collect(node: &Shards, owned: &Shards, found: &mut Vec<Shards>) {
    if node.start >= owned.end || node.end <= owned.start {
        return;
    }
    if owned.start <= node.start && node.end <= owned.end {
        found.push(node.clone());
        return;
    }
    if let Some((left, right)) = split(node) {
        collect(&left, owned, found);
        collect(&right, owned, found);
    }
}

/// One addition of the tree: the right operand's slot is added to the left's, which then holds their parent.
/// Slots are indices into the list of partial sums that the plan was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Add {
    /// Receives the sum.
    pub into: usize,
    /// Is added; not used after.
    pub from: usize,
}

/// The additions that turn partial sums of `nodes` (all workers' [`subtrees`], in shard order) into the sum over
/// `0..logical_shards`, which ends in slot 0.
///
/// # Panics
/// When `nodes` is not a partition of the tree into nodes: assignments are checked before they get here.
#[must_use]
pub fn additions(logical_shards: u32, nodes: &[Shards]) -> Vec<Add> {
    let mut plan = Vec::with_capacity(nodes.len().saturating_sub(1));
    let mut next = 0;
    let root = fold(&(0..logical_shards), nodes, &mut next, &mut plan);
    assert!(root == 0 && next == nodes.len(), "partial sums {nodes:?} don't make up 0..{logical_shards}");
    plan
}

fn fold(node: &Shards, nodes: &[Shards], next: &mut usize, plan: &mut Vec<Add>) -> usize {
    if nodes.get(*next) == Some(node) {
        *next += 1;
        return *next - 1;
    }
    let Some((left, right)) = split(node) else {
        panic!("no partial sum for shard {}", node.start);
    };
    let into = fold(&left, nodes, next, plan);
    let from = fold(&right, nodes, next, plan);
    plan.push(Add { into, from });
    into
}

/// Sums leaves as they come, in the tree's order, holding as few vectors at a time as the tree allows: one for each
/// finished maximal subtree and at most one for each level of the one in progress.
#[derive(Debug)]
pub struct Fold {
    nodes: Vec<Shards>,
    held: Vec<Shards>,
}

/// What to do with the vector of the shard that was just computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merge {
    /// Vectors held from now on, the new one (not merged yet) included.
    pub held: usize,
    /// So many times: add the last held vector to the one before it and let it go.
    pub times: usize,
}

impl Fold {
    /// For the shards in `owned`.
    #[must_use]
    pub fn new(logical_shards: u32, owned: &Shards) -> Self {
        Self { nodes: subtrees(logical_shards, owned), held: Vec::new() }
    }

    /// Takes the next shard, from left to right, and says which of the held vectors are now to be added.
    pub fn push(&mut self, shard: u32) -> Merge {
        self.held.push(shard..shard + 1);
        let held = self.held.len();
        let mut times = 0;
        while self.held.len() >= 2 {
            let left = &self.held[self.held.len() - 2];
            let right = &self.held[self.held.len() - 1];
            if !self.is_node(left, right) {
                break;
            }
            let parent = left.start..right.end;
            self.held.truncate(self.held.len() - 2);
            self.held.push(parent);
            times += 1;
        }
        Merge { held, times }
    }

    fn is_node(&self, left: &Shards, right: &Shards) -> bool {
        let Some(root) = self.nodes.iter().find(|n| n.start <= left.start && right.end <= n.end) else {
            return false;
        };
        let mut node = root.clone();
        loop {
            let Some((a, b)) = split(&node) else { return false };
            if a == *left && b == *right {
                return true;
            }
            node = if right.end <= a.end { a } else { b };
        }
    }

    /// The nodes whose vectors are held, from left to right; after the last shard, the owner's subtrees.
    #[must_use]
    pub fn held(&self) -> &[Shards] {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sum as its brackets, so that two sums are equal only if every addition is.
    fn brackets(node: &Shards) -> String {
        match split(node) {
            None => node.start.to_string(),
            Some((a, b)) => format!("({}+{})", brackets(&a), brackets(&b)),
        }
    }

    #[test]
    fn splits_at_powers_of_two() {
        assert_eq!(brackets(&(0..1)), "0");
        assert_eq!(brackets(&(0..5)), "(((0+1)+(2+3))+4)");
        assert_eq!(brackets(&(0..8)), "(((0+1)+(2+3))+((4+5)+(6+7)))");
        assert_eq!(subtrees(8, &(1..7)), vec![1..2, 2..4, 4..6, 6..7]);
        assert_eq!(subtrees(8, &(0..8)), vec![0..8]);
    }

    fn cut(logical_shards: u32, cuts: &[u32]) -> Vec<Shards> {
        let mut at: Vec<u32> = cuts.iter().map(|c| c % (logical_shards + 1)).collect();
        at.extend([0, logical_shards]);
        at.sort_unstable();
        at.dedup();
        at.windows(2).map(|w| w[0]..w[1]).collect()
    }

    proptest! {
        #[test]
        fn any_partition_gives_the_same_brackets(v in 1_u32..70, cuts in prop::collection::vec(0_u32..70, 0..9)) {
            let mut slots = Vec::new();
            let mut nodes = Vec::new();
            for owned in cut(v, &cuts) {
                let mut fold = Fold::new(v, &owned);
                let mut held: Vec<String> = Vec::new();
                for shard in owned.clone() {
                    held.push(shard.to_string());
                    let merge = fold.push(shard);
                    prop_assert_eq!(merge.held, held.len());
                    for _ in 0..merge.times {
                        let right = held.pop().unwrap();
                        let left = held.pop().unwrap();
                        held.push(format!("({left}+{right})"));
                    }
                    prop_assert!(held.len() <= 2 * 32);
                }
                let expected = subtrees(v, &owned);
                prop_assert_eq!(fold.held(), expected.as_slice());
                nodes.extend(expected);
                slots.extend(held);
            }
            for add in additions(v, &nodes) {
                slots[add.into] = format!("({}+{})", slots[add.into], slots[add.from]);
            }
            prop_assert_eq!(&slots[0], &brackets(&(0..v)));
        }
    }
}
