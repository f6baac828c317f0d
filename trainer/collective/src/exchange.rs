//! The sum of a round over all members.
//!
//! The vector is cut in [`Segments`], each owned by one member. All others send it their partial sums of the segment;
//! it adds them in the fixed order as soon as the last is there, and gives the sum to all. Every member sends and
//! receives about as much as in a ring, in two hops. Sending, adding and giving back go on at the same time, for
//! different segments, in one loop of one thread; and while the last shard is still being computed, what is ready of it
//! goes out. A short vector goes in one hop instead: each gives all to all, and adds for itself.

use crate::buffers::Buffers;
use crate::lane::{Common, Lane};
use crate::mesh::{Mesh, MeshError};
use crate::order::{Numerics, Program, Put, blocks};
use crate::poller::Poller;
use crate::segments::Segments;
use crate::wire::Kind;
use std::cell::Cell;
use std::time::{Duration, Instant};
use trainer_core::Round;
use trainer_core::membership::Header;

/// A member with no more to send of a vector than this sends it in one hop, in bytes.
const ONE_HOP_MAX: usize = 64 * 1024;

/// Moments within an exchange at which a test may let a worker die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// Some peer may have this worker's partial sums, others not.
    Reduce,
    /// Some peer may have this worker's finished sums, others not.
    Gather,
}

/// What an exchange works with, lent to each of its calls.
pub struct Context<'a> {
    /// The members.
    pub mesh: &'a mut Mesh,
    /// Where to wait for them.
    pub poller: &'a mut Poller,
    /// The vectors; the same in all calls of one exchange.
    pub buffers: &'a mut Buffers,
    /// Asked now and then: whether to give up.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Called in the middle of both hops.
    pub at: &'a mut dyn FnMut(Point),
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("mesh", &self.mesh).field("buffers", &self.buffers).finish_non_exhaustive()
    }
}

/// One round's sum in progress: [`Exchange::begin`], then [`Exchange::shard`] for each shard of this worker in order,
/// then [`Exchange::finish`]. Given up before that, it leaves a mesh that is of no use any more.
#[derive(Debug)]
pub struct Exchange {
    common: Common,
    /// By rank; none without peers, and none for a short vector.
    lanes: Vec<Option<Lane>>,
    one_hop: bool,
    /// The shard that is computed last, and how often the newest is merged.
    last_shard: u32,
    merges: usize,
    /// In fast mode: whose partial sums are in the segment that is summed next.
    added: Vec<bool>,
    told: [bool; 2],
    failed: Option<MeshError>,
    spent: Duration,
}

impl Exchange {
    /// Begins the sum of a round.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub fn begin(cx: &mut Context<'_>, round: Round) -> Result<Self, MeshError> {
        let members: Vec<_> = cx.mesh.assignment().members.iter().map(|m| m.shards.clone()).collect();
        let owned = cx.mesh.shards();
        cx.buffers.begin(members.last().map_or(0, |m| m.end), &owned).map_err(MeshError::Memory)?;
        let program = Program::new(cx.buffers.numerics(), &members);
        let most = program.partials().iter().max().copied().unwrap_or(0) * cx.buffers.length() * size_of::<f32>();
        let one_hop = most <= ONE_HOP_MAX;
        let mut lanes = Vec::new();
        if !one_hop && members.len() > 1 {
            lanes = cx.mesh.lanes(cx.poller, round, cx.buffers, cx.interrupted)?;
        }
        let common = Common {
            rank: cx.mesh.rank(),
            round,
            // What goes in one hop is an operation of the mesh that counts itself.
            sequence: if lanes.is_empty() { 0 } else { cx.mesh.next_sequence() },
            segments: Segments::new(cx.buffers.length(), members.len()),
            program,
            slots: Vec::new(),
            stamp: 0,
            ready: 0,
            summed: 0,
            header: None,
        };
        cx.buffers.stack.resize(common.program.stack_floats(), 0.0);
        cx.buffers.received.resize_with(members.len(), Vec::new);
        for (received, lane) in cx.buffers.received.iter_mut().zip(&lanes) {
            received.resize(lane.as_ref().map_or(0, |lane| lane.received_floats(&common)), 0.0);
        }
        Ok(Self {
            added: vec![false; members.len()],
            common,
            lanes,
            one_hop,
            last_shard: owned.end - 1,
            merges: 0,
            told: [false; 2],
            failed: None,
            spent: Duration::ZERO,
        })
    }

    /// How much of the time within [`Exchange::shard`] was this exchange's, not the computation's.
    #[must_use]
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Computes a shard's vector: `compute` overwrites what it is given. Of the last shard's vector it may say that
    /// everything from an offset on is ready; it doesn't touch that part any more, and the others may have it already.
    /// These are cells because what is ready may be replaced by its sum while the rest is still being computed.
    #[expect(unsafe_code, reason = "the vector is borrowed beside the exchange's own use of its ready part")]
    pub fn shard<R>(
        &mut self,
        cx: &mut Context<'_>,
        shard: u32,
        compute: impl FnOnce(&[Cell<f32>], &mut dyn FnMut(usize)) -> R,
    ) -> R {
        let slot = cx.buffers.next();
        self.merges = cx.buffers.merges(shard);
        // SAFETY: the arena is borrowed, through `cx`, for longer than the call. It is used in `ready` only, on this
        // thread, while `compute` waits for that, and no slice of it is left when that returns.
        let vector = unsafe { cx.buffers.arena.lend(slot) };
        let is_last = shard == self.last_shard;
        if is_last {
            self.open(cx);
        }
        let computed = compute(vector, &mut |from| {
            if is_last && !self.lanes.is_empty() {
                self.ready(cx, from);
            }
        });
        if is_last {
            self.ready(cx, 0);
        } else {
            cx.buffers.merge(self.merges, 0..cx.buffers.length());
        }
        cx.buffers.merged(self.merges);
        computed
    }

    /// The places of the partial sums are known now.
    fn open(&mut self, cx: &mut Context<'_>) {
        self.common.slots = cx.buffers.partials(self.merges).to_vec();
        self.common.stamp = cx.buffers.arena.publish(&self.common.slots);
    }

    fn ready(&mut self, cx: &mut Context<'_>, from: usize) {
        while self.common.ready < self.common.segments.count() {
            let range = self.common.segments.range(self.common.ready);
            if range.start < from {
                break;
            }
            cx.buffers.merge(self.merges, range);
            self.common.ready += 1;
        }
        // The loop goes on even so: whoever computes has the result of it later, from `finish`.
        if self.failed.is_none() && !self.lanes.is_empty() && from > 0 {
            let began = Instant::now();
            self.failed = self.progress(cx).err();
            self.spent += began.elapsed();
        }
    }

    /// Moves and sums what can be moved and summed without waiting.
    fn progress(&mut self, cx: &mut Context<'_>) -> Result<(), MeshError> {
        if (cx.interrupted)() {
            return Err(MeshError::Interrupted);
        }
        cx.mesh.wait(cx.poller, Some(Duration::ZERO))?;
        while self.turn(cx)? {}
        Ok(())
    }

    /// Waits until the sum is whole: [`Buffers::sum`]. Returns all members' headers, by rank.
    ///
    /// # Errors
    /// See [`MeshError`]. The buffers' sum is the one before it then.
    pub fn finish(mut self, cx: &mut Context<'_>, header: Header) -> Result<Vec<Header>, MeshError> {
        let members = cx.mesh.world_size();
        let mut headers = vec![header; members];
        if members == 1 {
            (cx.at)(Point::Reduce);
            (cx.at)(Point::Gather);
        } else if self.one_hop {
            headers = self.in_one_hop(cx, header)?;
        } else {
            self.in_segments(cx, header)?;
            for (header, lane) in headers.iter_mut().zip(&self.lanes) {
                *header = lane.as_ref().and_then(|lane| lane.header).unwrap_or(*header);
            }
            cx.mesh.keep(cx.buffers.arena.nonce(), self.lanes);
        }
        cx.buffers.finish();
        Ok(headers)
    }

    fn in_segments(&mut self, cx: &mut Context<'_>, header: Header) -> Result<(), MeshError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        self.common.header = Some(header);
        cx.mesh.retry_all();
        loop {
            let moved = self.turn(cx)?;
            if self.lanes.iter().flatten().all(|lane| lane.is_done(&self.common)) && !cx.mesh.has_pending() {
                return Ok(());
            }
            if (cx.interrupted)() {
                return Err(MeshError::Interrupted);
            }
            if !moved {
                cx.mesh.wait(cx.poller, None)?;
            }
        }
    }

    /// One turn for each link and for the sum; whether anything moved.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, MeshError> {
        let mut moved = false;
        for rank in 0..self.lanes.len() {
            let (Some(lane), Some(link)) = (&mut self.lanes[rank], cx.mesh.link(rank)) else { continue };
            let sent = lane.send(link, &self.common, &cx.buffers.arena).map_err(|e| link.lost(e))?;
            moved |= sent.is_some();
            let point = match sent {
                Some(Kind::Piece(_)) => Some(Point::Reduce),
                Some(Kind::Finished(_)) => Some(Point::Gather),
                _ => None,
            };
            if let Some(point) = point.filter(|point| !std::mem::replace(&mut self.told[*point as usize], true)) {
                (cx.at)(point);
            }
        }
        for rank in 0..self.lanes.len() {
            let (Some(lane), Some(link)) = (&mut self.lanes[rank], cx.mesh.link(rank)) else { continue };
            moved |= lane.receive(link, &self.common, cx.buffers).map_err(|e| link.lost(e))?;
            moved |= lane.take_sum(&self.common, &mut cx.buffers.arena).map_err(|e| link.lost(e))?;
        }
        Ok(moved | self.sum(cx)?)
    }

    /// Sums this worker's next segment, if all is there.
    fn sum(&mut self, cx: &mut Context<'_>) -> Result<bool, MeshError> {
        let own = self.common.summed;
        let Common { segments, rank, .. } = self.common;
        if own == segments.owned(rank) || segments.of(rank, own) >= self.common.ready {
            return Ok(false);
        }
        if cx.buffers.numerics() == Numerics::Fast {
            return self.add_what_came(cx, own);
        }
        if self.lanes.iter().flatten().any(|lane| lane.pieces <= own) {
            return Ok(false);
        }
        let (common, lanes) = (&self.common, &self.lanes);
        let Buffers { arena, stack, received, .. } = &mut *cx.buffers;
        let range = segments.range(segments.of(rank, own));
        let other = common.program.other_of_two(rank);
        if let Some((lane, leaf)) = other.and_then(|leaf| Some((lanes[leaf.member].as_ref()?, leaf))) {
            let sum = arena.slice_mut(common.slots[0], range.clone());
            lane.put(common, own, leaf.number, range, received, Put::Onto(sum));
        } else {
            for block in blocks(range) {
                let sum = common.program.sum(stack, block.clone(), |leaf, block, put| match &lanes[leaf.member] {
                    Some(lane) => lane.put(common, own, leaf.number, block, received, put),
                    None => put.take(arena.slice(common.slots[leaf.number], block)),
                });
                arena.slice_mut(common.slots[0], block).copy_from_slice(sum);
            }
        }
        self.summed(cx)?;
        Ok(true)
    }

    fn add_what_came(&mut self, cx: &mut Context<'_>, own: usize) -> Result<bool, MeshError> {
        let Common { segments, rank, .. } = self.common;
        let mut moved = false;
        for (lane, added) in self.lanes.iter().zip(&mut self.added) {
            let Some(lane) = lane.as_ref().filter(|lane| !*added && lane.pieces > own) else { continue };
            let Buffers { arena, received, .. } = &mut *cx.buffers;
            let range = segments.range(segments.of(rank, own));
            let sum = arena.slice_mut(self.common.slots[0], range.clone());
            lane.put(&self.common, own, 0, range, received, Put::Onto(sum));
            (*added, moved) = (true, true);
        }
        if self.added.iter().filter(|added| **added).count() + 1 == self.added.len() {
            self.added.fill(false);
            self.summed(cx)?;
        }
        Ok(moved)
    }

    /// Nothing that was made from a peer's memory goes on before it is known to have been whole.
    fn summed(&mut self, cx: &mut Context<'_>) -> Result<(), MeshError> {
        for rank in 0..self.lanes.len() {
            let (Some(lane), Some(link)) = (&self.lanes[rank], cx.mesh.link(rank)) else { continue };
            lane.still().map_err(|e| link.lost(e))?;
        }
        self.common.summed += 1;
        Ok(())
    }

    fn in_one_hop(&self, cx: &mut Context<'_>, header: Header) -> Result<Vec<Header>, MeshError> {
        let (rank, length) = (cx.mesh.rank(), cx.buffers.length());
        let Buffers { arena, stack, received, .. } = &mut *cx.buffers;
        let (common, at) = (&self.common, &mut *cx.at);
        let own_header = header.to_bytes();
        let mut headers = vec![own_header; cx.mesh.world_size()];
        let mut sends = cx.mesh.sendings();
        let mut receives = cx.mesh.receivings();
        let size = |member: usize| Header::BYTES + common.program.partials()[member] * length * size_of::<f32>();
        for (other, (theirs, floats)) in headers.iter_mut().zip(&mut *received).enumerate() {
            if other == rank {
                continue;
            }
            let out = common.slots.iter().map(|slot| bytemuck::cast_slice(arena.slice(*slot, 0..length)));
            let head = cx.mesh.head(Kind::Whole, common.round, size(rank));
            sends[other].frame(head, std::iter::once(own_header.as_slice()).chain(out));
            floats.resize(common.program.partials()[other] * length, 0.0);
            let head = cx.mesh.head(Kind::Whole, common.round, size(other));
            receives[other].frame(head, [theirs.as_mut_slice(), bytemuck::cast_slice_mut(floats)]);
        }
        cx.mesh.transfer(cx.poller, sends, receives, cx.interrupted, &mut || {
            at(Point::Reduce);
            at(Point::Gather);
        })?;
        for block in blocks(0..length) {
            let sum = common.program.sum(stack, block.clone(), |leaf, block, put| {
                put.take(if leaf.member == rank {
                    arena.slice(common.slots[leaf.number], block)
                } else {
                    &received[leaf.member][leaf.number * length..][block]
                });
            });
            arena.slice_mut(common.slots[0], block).copy_from_slice(sum);
        }
        cx.mesh.headers(&headers)
    }
}
