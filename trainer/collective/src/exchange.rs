//! The exact sum of a round: each member owns one chunk of the vector; it gets all partial sums of that chunk, adds
//! them in the tree's order, and gives the result to all. Every member sends and receives about as much as in a ring,
//! in two hops, and the additions are the same whatever the members are.

use crate::mesh::{Mesh, MeshError};
use crate::poller::Poller;
use crate::wire::Kind;
use trainer_core::Round;
use trainer_core::membership::Header;
use trainer_core::tree::{Fold, Shards, additions, subtrees};

/// Chunks begin at multiples of so many floats: a cache line.
const GRAIN: usize = 16;

/// Moments within an exchange at which a test may let a worker die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// Some peer may have this worker's partial sums, others not.
    Reduce,
    /// Some peer may have this worker's finished chunk, others not.
    Gather,
}

/// The vectors of one kind of round, reused from round to round.
#[derive(Debug)]
pub struct Buffers {
    length: usize,
    partials: Vec<Vec<f32>>,
    spare: Vec<Vec<f32>>,
    others: Vec<f32>,
    sum: Vec<f32>,
    sum_of: Option<Round>,
    fold: Option<Fold>,
}

impl Buffers {
    /// For vectors of so many floats.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self {
            length,
            partials: Vec::new(),
            spare: Vec::new(),
            others: Vec::new(),
            sum: vec![0.0; length],
            sum_of: None,
            fold: None,
        }
    }

    /// Begins a round over the shards of this worker.
    pub fn begin(&mut self, logical_shards: u32, owned: &Shards) {
        self.spare.append(&mut self.partials);
        self.fold = Some(Fold::new(logical_shards, owned));
    }

    /// Where the next shard's vector goes; then call [`Buffers::push`]. What is in it is left over from earlier.
    pub fn next_vector(&mut self) -> &mut [f32] {
        let vector = self.spare.pop().unwrap_or_else(|| vec![0.0; self.length]);
        self.partials.push(vector);
        let last = self.partials.len() - 1;
        &mut self.partials[last]
    }

    /// Adds the vector of this shard, the one after the last pushed, to those before it as the tree says.
    ///
    /// # Panics
    /// When no round was begun.
    pub fn push(&mut self, shard: u32) {
        let Some(fold) = self.fold.as_mut() else { panic!("a shard outside of a round") };
        let merge = fold.push(shard);
        debug_assert_eq!(merge.held, self.partials.len());
        for _ in 0..merge.times {
            let (Some(right), Some(left)) = (self.partials.pop(), self.partials.last_mut()) else { return };
            add(left, &right);
            self.spare.push(right);
        }
    }

    /// The result of the last exchange.
    #[must_use]
    pub fn sum(&self) -> &[f32] {
        &self.sum
    }

    /// The round whose sum [`Buffers::sum`] is, as [`Buffers::sum_is`] said; `None` once another began to replace it.
    #[must_use]
    pub fn sum_of(&self) -> Option<Round> {
        self.sum_of
    }

    /// The sum is whole, and this round's.
    pub fn sum_is(&mut self, round: Round) {
        self.sum_of = Some(round);
    }

    /// Where a sum goes that is taken from a peer instead of computed.
    pub fn sum_mut(&mut self) -> &mut [f32] {
        self.sum_of = None;
        &mut self.sum
    }
}

fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += *b;
    }
}

/// Where chunk `rank` of `world_size` begins in a vector of `length` floats.
fn chunk_start(length: usize, world_size: usize, rank: usize) -> usize {
    let grains = length.div_ceil(GRAIN);
    (grains * rank / world_size * GRAIN).min(length)
}

impl Mesh {
    /// Sums what all members pushed into their [`Buffers`]; [`Buffers::sum`] then holds the result on all. Returns all
    /// members' headers, by rank. `at` is called in the middle of both hops.
    ///
    /// # Errors
    /// See [`MeshError`]. The buffers' sum is the one before it then, or none: [`Buffers::sum_of`].
    pub fn exchange(
        &mut self,
        poller: &mut Poller,
        round: Round,
        header: Header,
        buffers: &mut Buffers,
        interrupted: &dyn Fn() -> bool,
        at: &mut dyn FnMut(Point),
    ) -> Result<Vec<Header>, MeshError> {
        let (world_size, rank, length) = (self.world_size(), self.rank(), buffers.length);
        if world_size == 1 {
            at(Point::Reduce);
            buffers.sum_of = None;
            std::mem::swap(&mut buffers.partials[0], &mut buffers.sum);
            at(Point::Gather);
            return Ok(vec![header]);
        }
        let members = &self.assignment().members;
        let logical_shards = members.last().map_or(0, |m| m.shards.end);
        let nodes: Vec<Vec<Shards>> = members.iter().map(|m| subtrees(logical_shards, &m.shards)).collect();
        let start = |of| chunk_start(length, world_size, of);
        let chunk = |of: usize| start(of)..start(of + 1);
        let mine = chunk(rank);

        let mut headers = vec![header.to_bytes(); world_size];
        let foreign: usize = nodes.iter().map(Vec::len).sum::<usize>() - nodes[rank].len();
        buffers.others.resize(foreign * mine.len(), 0.0);
        let mut sends = self.sendings();
        let mut receives = self.receivings();
        let mut space = buffers.others.as_mut_slice();
        let own_header = header.to_bytes();
        for (other, theirs) in headers.iter_mut().enumerate().filter(|(other, _)| *other != rank) {
            let size = |nodes: &[Shards], chunk: usize| Header::BYTES + nodes.len() * chunk * size_of::<f32>();
            let out = buffers.partials.iter().map(|p| bytemuck::cast_slice(&p[chunk(other)]));
            let head = self.head(Kind::Partial, round, size(&nodes[rank], chunk(other).len()));
            sends[other].frame(head, std::iter::once(own_header.as_slice()).chain(out));
            let (here, rest) = std::mem::take(&mut space).split_at_mut(nodes[other].len() * mine.len());
            space = rest;
            let head = self.head(Kind::Partial, round, size(&nodes[other], mine.len()));
            receives[other].frame(head, [theirs.as_mut_slice(), bytemuck::cast_slice_mut(here)]);
        }
        self.transfer(poller, sends, receives, interrupted, &mut || at(Point::Reduce))?;

        buffers.sum_of = None;
        let (before, rest) = buffers.sum.split_at_mut(mine.start);
        let (own, after) = rest.split_at_mut(mine.len());
        let mut slots = slots(&nodes, rank, &mut buffers.partials, &mut buffers.others, &mine);
        for step in additions(logical_shards, &nodes.concat()) {
            let from = std::mem::take(&mut slots[step.from]);
            add(slots[step.into], from);
        }
        own.copy_from_slice(slots[0]);

        let own: &[u8] = bytemuck::cast_slice(own);
        let mut sends = self.sendings();
        let mut receives = self.receivings();
        let mut before = before;
        let mut after = after;
        for other in (0..world_size).filter(|other| *other != rank) {
            sends[other].frame(self.head(Kind::Sum, round, own.len()), [own]);
            let rest = if other < rank { &mut before } else { &mut after };
            let (here, left) = std::mem::take(rest).split_at_mut(chunk(other).len());
            *rest = left;
            let here: &mut [u8] = bytemuck::cast_slice_mut(here);
            receives[other].frame(self.head(Kind::Sum, round, here.len()), [here]);
        }
        self.transfer(poller, sends, receives, interrupted, &mut || at(Point::Gather))?;
        let parse = |(other, bytes): (usize, &[u8; Header::BYTES])| {
            Header::from_bytes(bytes).ok_or_else(|| MeshError::Lost {
                worker: self.assignment().members[other].worker.clone(),
                detail: "sent a header that is none".to_owned(),
            })
        };
        headers.iter().enumerate().map(parse).collect()
    }
}

/// All partial sums of this worker's chunk, in shard order.
fn slots<'a>(
    nodes: &[Vec<Shards>],
    rank: usize,
    partials: &'a mut [Vec<f32>],
    mut others: &'a mut [f32],
    chunk: &std::ops::Range<usize>,
) -> Vec<&'a mut [f32]> {
    let mut slots = Vec::new();
    let mut own = partials.iter_mut();
    for (other, nodes) in nodes.iter().enumerate() {
        for _ in nodes {
            if other == rank {
                slots.extend(own.next().map(|p| &mut p[chunk.clone()]));
            } else {
                let (here, rest) = std::mem::take(&mut others).split_at_mut(chunk.len());
                others = rest;
                slots.push(here);
            }
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_vector() {
        for length in [0, 1, 15, 16, 17, 1000] {
            for world_size in 1..9 {
                let starts: Vec<usize> = (0..=world_size).map(|r| chunk_start(length, world_size, r)).collect();
                assert_eq!((starts[0], starts[world_size]), (0, length));
                assert!(starts.windows(2).all(|w| w[0] <= w[1]));
                assert!(starts[..world_size].iter().all(|s| s % GRAIN == 0 || *s == length));
            }
        }
    }
}
