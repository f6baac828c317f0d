//! State for members that are behind, from all that are not. With as many holders as takers or more, each holder
//! gives a share to each taker. With fewer, as at a job's first start, where one has what all others need, the holders
//! deal the state out over the takers and these pass it on among themselves: a holder sends the state about once,
//! however many take it.

use crate::mesh::{Mesh, MeshError};
use crate::poller::Poller;
use crate::wire::Kind;
use std::ops::Range;
use trainer_core::Round;
use trainer_core::catch_up::share;

/// Floats dealt out at once, while those before are passed on.
const BLOCK: usize = 4 << 20;

impl Mesh {
    /// Puts the holders' state into the takers' `state`. All members call it with the same ranks, also those that
    /// neither hold nor take.
    ///
    /// # Errors
    /// See [`MeshError`]; a taker's state is then worth nothing.
    pub fn spread(
        &mut self,
        poller: &mut Poller,
        round: Round,
        (holders, takers): (&[usize], &[usize]),
        state: &mut [f32],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MeshError> {
        if takers.len() <= holders.len() {
            return self.deal(poller, round, holders, takers, state, interrupted);
        }
        for block in 0..=state.len().div_ceil(BLOCK) {
            let (before, from) = state.split_at_mut((block * BLOCK).min(state.len()));
            let passed = &mut before[block.saturating_sub(1) * BLOCK..];
            let dealt = from.len().min(BLOCK);
            self.relay(poller, round, (holders, takers), (passed, &mut from[..dealt]), interrupted)?;
        }
        Ok(())
    }

    /// Each member gives all others what only it has: `owned` says, for each rank, which ranges of the state are its,
    /// and no two of them overlap. All members call it with the same ranges.
    ///
    /// # Errors
    /// See [`MeshError`]; a member's state is then worth nothing.
    ///
    /// # Panics
    /// When ranges overlap, or one ends outside of the state.
    pub fn gather(
        &mut self,
        poller: &mut Poller,
        round: Round,
        owned: &[Vec<Range<usize>>],
        state: &mut [f32],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MeshError> {
        let mut ranges: Vec<(usize, Range<usize>)> = Vec::new();
        for (rank, of_rank) in owned.iter().enumerate() {
            ranges.extend(of_rank.iter().map(|range| (rank, range.clone())));
        }
        ranges.sort_by_key(|(_, range)| range.start);
        let mut pieces: Vec<Vec<&mut [u8]>> = owned.iter().map(|_| Vec::new()).collect();
        let (mut rest, mut done) = (state, 0);
        for (rank, range) in ranges {
            let (piece, later) = std::mem::take(&mut rest)[range.start - done..].split_at_mut(range.len());
            pieces[rank].push(bytes_mut(piece));
            (rest, done) = (later, range.end);
        }
        let bytes: Vec<usize> = pieces.iter().map(|of_rank| of_rank.iter().map(|piece| piece.len()).sum()).collect();
        let me = self.rank();
        let mine: Vec<&[u8]> = std::mem::take(&mut pieces[me]).into_iter().map(|piece| &*piece).collect();
        let mut sends = self.sendings();
        let mut receives = self.receivings();
        for (other, theirs) in pieces.into_iter().enumerate().filter(|(other, _)| *other != me) {
            sends[other].frame(self.head(Kind::State, round, bytes[me]), mine.iter().copied());
            receives[other].frame(self.head(Kind::State, round, bytes[other]), theirs);
        }
        self.transfer(poller, sends, receives, interrupted, &mut || {})
    }

    fn deal(
        &mut self,
        poller: &mut Poller,
        round: Round,
        holders: &[usize],
        takers: &[usize],
        state: &mut [f32],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MeshError> {
        let mut sends = self.sendings();
        let mut receives = self.receivings();
        if takers.contains(&self.rank()) {
            for (holder, share) in holders.iter().zip(cut(state, holders.len())) {
                receives[*holder].frame(self.head(Kind::State, round, size_of_val(share)), [bytes_mut(share)]);
            }
        } else if let Some(index) = holders.iter().position(|holder| *holder == self.rank()) {
            let share = &state[share(state.len(), index, holders.len())];
            for taker in takers {
                sends[*taker].frame(self.head(Kind::State, round, size_of_val(share)), [bytemuck::cast_slice(share)]);
            }
        }
        self.transfer(poller, sends, receives, interrupted, &mut || {})
    }

    /// Deals one block out over the takers while they pass the one before on among themselves.
    fn relay(
        &mut self,
        poller: &mut Poller,
        round: Round,
        (holders, takers): (&[usize], &[usize]),
        (passed, dealt): (&mut [f32], &mut [f32]),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MeshError> {
        let mut sends = self.sendings();
        let mut receives = self.receivings();
        let me = self.rank();
        let own = takers.iter().position(|taker| *taker == me);
        let giver = holders.iter().position(|holder| *holder == me);
        for (index, piece) in cut(dealt, takers.len()).into_iter().enumerate() {
            if own == Some(index) {
                for (holder, share) in holders.iter().zip(cut(piece, holders.len())) {
                    receives[*holder].frame(self.head(Kind::State, round, size_of_val(share)), [bytes_mut(share)]);
                }
            } else if let Some(giver) = giver {
                let piece: &[f32] = piece;
                let share = &piece[share(piece.len(), giver, holders.len())];
                let head = self.head(Kind::State, round, size_of_val(share));
                sends[takers[index]].frame(head, [bytemuck::cast_slice(share)]);
            }
        }
        if let Some(own) = own {
            let mut pieces: Vec<Option<&mut [f32]>> = cut(passed, takers.len()).into_iter().map(Some).collect();
            let mine: &[f32] = pieces[own].take().unwrap_or_default();
            for (taker, piece) in takers.iter().zip(pieces) {
                let Some(piece) = piece else { continue };
                sends[*taker].frame(self.head(Kind::State, round, size_of_val(mine)), [bytemuck::cast_slice(mine)]);
                receives[*taker].frame(self.head(Kind::State, round, size_of_val(piece)), [bytes_mut(piece)]);
            }
        }
        self.transfer(poller, sends, receives, interrupted, &mut || {})
    }
}

fn bytes_mut(floats: &mut [f32]) -> &mut [u8] {
    bytemuck::cast_slice_mut(floats)
}

/// All shares of a vector.
fn cut(mut vector: &mut [f32], count: usize) -> Vec<&mut [f32]> {
    let length = vector.len();
    let next = |index| {
        let (share, rest) = std::mem::take(&mut vector).split_at_mut(share(length, index, count).len());
        vector = rest;
        share
    };
    (0..count).map(next).collect()
}
