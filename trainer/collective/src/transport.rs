//! What a sum over a group needs of whatever moves its floats, so that the sum itself is written once: for host memory
//! over a [`crate::Mesh`] ([`Tcp`]), and for device memory over a library that knows the devices. The memory says how to add,
//! the transport how to move; neither knows in which order a sum is made.

mod tcp;

pub use tcp::Tcp;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// One block of float32, on the host or on a device. All that an exchange touches lies in it, as ranges in floats.
pub trait Memory {
    /// Floats in it.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `from` to `into`, float by float, each sum rounded once to nearest as IEEE 754 has it: the same bits on
    /// every device. The ranges don't overlap and have one length.
    ///
    /// # Errors
    /// When the device refuses.
    fn add(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError>;

    /// Copies `from` to `into`. The ranges don't overlap and have one length.
    ///
    /// # Errors
    /// When the device refuses.
    fn copy(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError>;
}

/// A device that refused an addition or a copy.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{doing}: {detail}")]
pub struct MemoryError {
    /// What was asked of it.
    pub doing: &'static str,
    /// What it said.
    pub detail: String,
}

/// Floats that go to a peer or come from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The peer's rank.
    pub peer: usize,
    /// Where in the memory.
    pub range: Range<usize>,
}

/// The members of one generation, as something that moves floats between their memories. All members call the same
/// operations in the same order. After an error it is of no use any more: the next generation gets a new one.
pub trait Transport<M: Memory> {
    /// Why it ended.
    type Error: std::error::Error + Send + Sync + 'static;

    /// This member's place.
    fn rank(&self) -> usize;

    /// How many members there are.
    fn world_size(&self) -> usize;

    /// Moves all parts at once. What a member sends to a peer, in order, meets what the peer receives from it, in
    /// order. No received range overlaps another range.
    ///
    /// # Errors
    /// When a peer is lost or the operation was aborted. What is in the received ranges then is undefined.
    fn swap(&mut self, memory: &mut M, sends: &[Part], receives: &[Part]) -> Result<(), Self::Error>;

    /// The range is cut into as many equal chunks as there are members; each gives its own, by rank, to all.
    ///
    /// # Errors
    /// As [`Transport::swap`].
    fn all_gather(&mut self, memory: &mut M, range: Range<usize>) -> Result<(), Self::Error>;

    /// Replaces the range by the sum over all members, in an order that the transport chooses; equal on all members.
    ///
    /// # Errors
    /// As [`Transport::swap`].
    fn all_reduce(&mut self, memory: &mut M, range: Range<usize>) -> Result<(), Self::Error>;

    /// Ends it from any thread.
    fn aborter(&self) -> Aborter;
}

/// Ends a [`Transport`]: the operation in progress, if there is one, and all later ones return an error.
#[derive(Clone)]
pub struct Aborter(Arc<dyn Fn() + Send + Sync>);

impl Aborter {
    /// From what ends it; must not wait for the thread that is in the operation.
    #[must_use]
    pub fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(abort))
    }

    /// Ends it. Again does nothing.
    pub fn abort(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Aborter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aborter")
    }
}

/// Memory of the host.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Host(Vec<f32>);

impl Host {
    /// All zero.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self(vec![0.0; len])
    }

    /// All of it.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

impl AsMut<[f32]> for Host {
    fn as_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Memory for Host {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError> {
        let (into, from) = pair(&mut self.0, into, from);
        add(into, from);
        Ok(())
    }

    fn copy(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError> {
        self.0.copy_within(from, into.start);
        Ok(())
    }
}

fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += *b;
    }
}

fn pair(memory: &mut [f32], into: Range<usize>, from: Range<usize>) -> (&mut [f32], &[f32]) {
    if into.start < from.start {
        let (left, right) = memory.split_at_mut(from.start);
        (&mut left[into], &right[..from.end - from.start])
    } else {
        let (left, right) = memory.split_at_mut(into.start);
        (&mut right[..into.end - into.start], &left[from])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_memory_adds_and_copies_both_ways() {
        let mut memory = Host(vec![1.0, 2.0, 3.0, 4.0]);
        memory.add(0..2, 2..4).unwrap();
        memory.add(2..4, 0..2).unwrap();
        memory.copy(1..2, 3..4).unwrap();
        assert_eq!(memory.as_slice(), [4.0, 10.0, 7.0, 10.0]);
    }
}
