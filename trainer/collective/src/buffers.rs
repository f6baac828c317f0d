//! The vectors of one kind of round, reused from round to round: the partial sums of this worker's shards, and the sum
//! of the last round.
//!
//! For each parameter (float of the vector) there is one float for each partial sum held at a time, and one for the
//! last sum. A worker with `n` shards (a power of two, aligned in the tree) holds at most `log2(n) + 1` partial sums;
//! with uneven shards, at most as many more as it sends. The new sum is built in the place of this worker's first
//! partial sum, so an exchange needs no vector of its own: what it receives to add lies in a few segments for each
//! peer, whatever the vector's length. Peers on the same host read these vectors where they are.

use crate::order::{Numerics, add, blocks};
use crate::shared::Arena;
use std::io;
use std::ops::Range;
use trainer_core::Round;
use trainer_core::tree::{Fold, Shards};

/// The vectors of one kind of round.
#[derive(Debug)]
pub struct Buffers {
    pub(crate) arena: Arena,
    length: usize,
    numerics: Numerics,
    fold: Option<Fold>,
    /// Vectors of partial sums, in shard order.
    held: Vec<usize>,
    spare: Vec<usize>,
    sum: usize,
    sum_of: Option<Round>,
    /// What is added within a segment, and what came to be added.
    pub(crate) stack: Vec<f32>,
    pub(crate) received: Vec<Vec<f32>>,
}

impl Buffers {
    /// For vectors of so many floats.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn new(length: usize, numerics: Numerics) -> io::Result<Self> {
        let mut arena = Arena::new(length)?;
        arena.grow_to(1)?;
        Ok(Self {
            arena,
            length,
            numerics,
            fold: None,
            held: Vec::new(),
            spare: Vec::new(),
            sum: 0,
            sum_of: None,
            stack: Vec::new(),
            received: Vec::new(),
        })
    }

    /// Floats of a vector.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// How sums are ordered.
    #[must_use]
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// Begins a round over the shards of this worker.
    pub(crate) fn begin(&mut self, logical_shards: u32, owned: &Shards) -> io::Result<()> {
        self.spare.append(&mut self.held);
        let mut fold = Fold::new(logical_shards, owned);
        let most = match self.numerics {
            Numerics::Exact => owned.clone().map(|shard| fold.push(shard).held).max().unwrap_or(0),
            Numerics::Fast => owned.len().min(2),
        };
        let have = self.spare.len() + 1;
        let want = have.max(most + 1);
        self.arena.grow_to(want)?;
        self.spare.extend(have..want);
        self.fold = Some(Fold::new(logical_shards, owned));
        Ok(())
    }

    /// A vector for the next shard; then come [`Buffers::merges`] and [`Buffers::merge`].
    pub(crate) fn next(&mut self) -> usize {
        let Some(slot) = self.spare.pop() else { panic!("more shards than the round was begun with") };
        self.arena.unpublish(slot);
        self.held.push(slot);
        slot
    }

    /// How often the last held vector is added to the one before it, now that this shard's is the last.
    pub(crate) fn merges(&mut self, shard: u32) -> usize {
        match self.numerics {
            Numerics::Exact => {
                let Some(fold) = self.fold.as_mut() else { panic!("a shard outside of a round") };
                let merge = fold.push(shard);
                debug_assert_eq!(merge.held, self.held.len());
                merge.times
            }
            Numerics::Fast => self.held.len() - 1,
        }
    }

    /// Does so many merges, within this part of the vectors only.
    pub(crate) fn merge(&mut self, times: usize, range: Range<usize>) {
        if times == 0 {
            return;
        }
        for block in blocks(range) {
            for right in (self.held.len() - times..self.held.len()).rev() {
                let (left, right) = self.arena.pair(self.held[right - 1], self.held[right], block.clone());
                add(left, right);
            }
        }
    }

    /// Lets go what was merged in all parts.
    pub(crate) fn merged(&mut self, times: usize) {
        self.spare.extend(self.held.drain(self.held.len() - times..).rev());
    }

    /// Where the partial sums lie that are left, once the last so many merges are done.
    pub(crate) fn partials(&self, merges: usize) -> &[usize] {
        &self.held[..self.held.len() - merges]
    }

    /// The first partial sum's vector has become the round's sum.
    pub(crate) fn finish(&mut self) {
        self.sum_of = None;
        self.spare.push(self.sum);
        self.sum = self.held.remove(0);
        self.spare.append(&mut self.held);
    }

    /// The result of the last exchange.
    #[must_use]
    pub fn sum(&self) -> &[f32] {
        self.arena.slice(self.sum, 0..self.length)
    }

    /// The round whose sum [`Buffers::sum`] is, as [`Buffers::sum_is`] said; `None` once another replaced it.
    #[must_use]
    pub fn sum_of(&self) -> Option<Round> {
        self.sum_of
    }

    /// The sum is whole, and this round's.
    pub fn sum_is(&mut self, round: Round) {
        self.sum_of = Some(round);
    }

    /// The sum is nobody's any more.
    pub fn forget(&mut self) {
        self.sum_of = None;
    }

    /// Where a sum goes that is taken from a peer instead of computed.
    pub fn sum_mut(&mut self) -> &mut [f32] {
        self.sum_of = None;
        self.arena.unpublish(self.sum);
        self.arena.slice_mut(self.sum, 0..self.length)
    }
}
