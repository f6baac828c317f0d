//! The mesh as a transport of host memory.

use super::{Aborter, Memory, Part, Transport, add};
use crate::mesh::{Mesh, MeshError, Receiving, Sending};
use crate::poller::{Bell, Poller};
use crate::wire::Kind;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trainer_core::Round;

/// A [`Mesh`] as a transport of host memory. It takes part in one round; its mesh goes on after it.
pub struct Tcp<'a> {
    mesh: &'a mut Mesh,
    poller: &'a mut Poller,
    round: Round,
    interrupted: &'a dyn Fn() -> bool,
    aborted: Arc<AtomicBool>,
    bell: Bell,
    others: Vec<f32>,
}

impl fmt::Debug for Tcp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("mesh", &self.mesh).field("round", &self.round).finish_non_exhaustive()
    }
}

impl<'a> Tcp<'a> {
    /// For one round. Whoever wants it to end makes `interrupted` true and rings the poller's bell, or uses its
    /// [`Aborter`].
    #[must_use]
    pub fn new(mesh: &'a mut Mesh, poller: &'a mut Poller, round: Round, interrupted: &'a dyn Fn() -> bool) -> Self {
        let bell = poller.bell();
        Self { mesh, poller, round, interrupted, aborted: Arc::default(), bell, others: Vec::new() }
    }

    fn pass<'m>(
        &mut self,
        kind: Kind,
        sends: impl Iterator<Item = (usize, &'m [f32])>,
        receives: impl Iterator<Item = (usize, &'m mut [f32])>,
    ) -> Result<(), MeshError> {
        let mesh = &mut *self.mesh;
        let mut sending: Vec<Sending<'_>> = mesh.sendings();
        for (peer, floats) in sends {
            let bytes: &[u8] = bytemuck::cast_slice(floats);
            sending[peer].frame(mesh.head(kind, self.round, bytes.len()), [bytes]);
        }
        let mut receiving: Vec<Receiving<'_>> = mesh.receivings();
        for (peer, floats) in receives {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(floats);
            receiving[peer].frame(mesh.head(kind, self.round, bytes.len()), [bytes]);
        }
        let (aborted, interrupted) = (&self.aborted, self.interrupted);
        let interrupted = || aborted.load(Ordering::SeqCst) || interrupted();
        if interrupted() {
            return Err(MeshError::Interrupted);
        }
        mesh.transfer(self.poller, sending, receiving, &interrupted, &mut || {})
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.mesh.rank();
        (0..self.mesh.world_size()).filter(move |peer| *peer != rank)
    }
}

impl<M: Memory + AsMut<[f32]>> Transport<M> for Tcp<'_> {
    type Error = MeshError;

    fn rank(&self) -> usize {
        self.mesh.rank()
    }

    fn world_size(&self) -> usize {
        self.mesh.world_size()
    }

    fn swap(&mut self, memory: &mut M, sends: &[Part], receives: &[Part]) -> Result<(), MeshError> {
        let (sends, receives) = cut(memory.as_mut(), sends, receives);
        self.pass(Kind::Partial, sends.into_iter(), receives.into_iter())
    }

    fn all_gather(&mut self, memory: &mut M, range: Range<usize>) -> Result<(), MeshError> {
        let (world_size, rank) = (self.mesh.world_size(), self.mesh.rank());
        assert!(range.len().is_multiple_of(world_size), "{range:?} is cut into {world_size} equal chunks");
        let chunk = |of| share(&range, world_size, of);
        let sends: Vec<Part> = self.peers().map(|peer| Part { peer, range: chunk(rank) }).collect();
        let receives: Vec<Part> = self.peers().map(|peer| Part { peer, range: chunk(peer) }).collect();
        let (sends, receives) = cut(memory.as_mut(), &sends, &receives);
        self.pass(Kind::Sum, sends.into_iter(), receives.into_iter())
    }

    fn all_reduce(&mut self, memory: &mut M, range: Range<usize>) -> Result<(), MeshError> {
        let (world_size, rank) = (self.mesh.world_size(), self.mesh.rank());
        let chunk = |of| share(&range, world_size, of);
        let mine = chunk(rank);
        let mut others = std::mem::take(&mut self.others);
        others.resize((world_size - 1) * mine.len(), 0.0);
        let floats = memory.as_mut();
        let sends = self.peers().map(|peer| (peer, &floats[chunk(peer)]));
        let mut space = others.as_mut_slice();
        let receives: Vec<(usize, &mut [f32])> = self
            .peers()
            .map(|peer| {
                let (here, rest) = std::mem::take(&mut space).split_at_mut(mine.len());
                space = rest;
                (peer, here)
            })
            .collect();
        self.pass(Kind::Partial, sends, receives.into_iter())?;
        for of_peer in others.chunks_exact(mine.len().max(1)) {
            add(&mut floats[mine.clone()], of_peer);
        }
        self.others = others;
        let sends: Vec<Part> = self.peers().map(|peer| Part { peer, range: mine.clone() }).collect();
        let receives: Vec<Part> = self.peers().map(|peer| Part { peer, range: chunk(peer) }).collect();
        let (sends, receives) = cut(floats, &sends, &receives);
        self.pass(Kind::Sum, sends.into_iter(), receives.into_iter())
    }

    fn aborter(&self) -> Aborter {
        let (aborted, bell) = (Arc::clone(&self.aborted), self.bell.clone());
        Aborter::new(move || {
            aborted.store(true, Ordering::SeqCst);
            bell.ring();
        })
    }
}

/// The chunk of `range` that belongs to `rank`.
fn share(range: &Range<usize>, world_size: usize, rank: usize) -> Range<usize> {
    let start = |rank| range.start + range.len() * rank / world_size;
    start(rank)..start(rank + 1)
}

type Sends<'m> = Vec<(usize, &'m [f32])>;
type Receives<'m> = Vec<(usize, &'m mut [f32])>;

/// The ranges as slices: the received ones cut out of the memory, the sent ones within what lies between them.
fn cut<'m>(memory: &'m mut [f32], sends: &[Part], receives: &[Part]) -> (Sends<'m>, Receives<'m>) {
    let mut order: Vec<usize> = (0..receives.len()).collect();
    order.sort_by_key(|i| receives[*i].range.start);
    let mut targets: Vec<Option<&mut [f32]>> = receives.iter().map(|_| None).collect();
    let mut between: Vec<(usize, &[f32])> = Vec::with_capacity(receives.len() + 1);
    let (mut at, mut rest) = (0, memory);
    for i in order {
        let Range { start, end } = receives[i].range;
        assert!(start >= at, "{:?} is received twice", receives[i].range);
        let (before, after) = rest.split_at_mut(start - at);
        between.push((at, before));
        let (here, after) = after.split_at_mut(end - start);
        targets[i] = Some(here);
        (at, rest) = (end, after);
    }
    between.push((at, rest));
    let sent = |part: &Part| {
        let Range { start, end } = part.range;
        let i = between.partition_point(|(from, _)| *from <= start).saturating_sub(1);
        let (from, floats) = between[i];
        assert!(end <= from + floats.len(), "{:?} is sent while it is received", part.range);
        (part.peer, &floats[start - from..end - from])
    };
    let sends = sends.iter().map(sent).collect();
    let receives = receives.iter().zip(targets).filter_map(|(part, target)| Some((part.peer, target?))).collect();
    (sends, receives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(peer: usize, range: Range<usize>) -> Part {
        Part { peer, range }
    }

    #[test]
    fn ranges_are_cut_in_any_order() {
        let mut memory: Vec<f32> = (0_u8..10).map(f32::from).collect();
        let sends = [part(2, 4..6), part(1, 4..5), part(1, 0..1), part(1, 10..10)];
        let receives = [part(1, 8..9), part(2, 1..3), part(2, 3..3)];
        let (sends, receives) = cut(&mut memory, &sends, &receives);
        assert_eq!(sends, vec![(2, &[4.0, 5.0][..]), (1, &[4.0][..]), (1, &[0.0][..]), (1, &[][..])]);
        let receives: Vec<_> = receives.into_iter().map(|(peer, floats)| (peer, floats.to_vec())).collect();
        assert_eq!(receives, vec![(1, vec![8.0]), (2, vec![1.0, 2.0]), (2, vec![])]);
    }

    #[test]
    #[should_panic(expected = "is sent while it is received")]
    fn a_range_is_not_sent_while_it_is_received() {
        cut(&mut [0.0; 4], &[part(1, 0..3)], &[part(1, 2..4)]);
    }
}
