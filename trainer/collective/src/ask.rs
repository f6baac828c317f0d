//! What a joiner asks of each of its donors: the same request, and which share of the state is to come from whom.

use std::ops::Range;
use trainer_core::catch_up::share;

/// Donors of one request.
pub const DONORS_MAX: usize = 8;

/// One donor's part in a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ask {
    number: u64,
    index: u8,
    count: u8,
}

impl Ask {
    /// Length of [`Ask::to_bytes`].
    pub(crate) const BYTES: usize = 10;

    /// Part `index` of `count` in the request of this number; `None` when there can be no such part. Numbers tell
    /// requests apart, so they are drawn at random; 0 is none.
    #[must_use]
    pub fn new(number: u64, index: usize, count: usize) -> Option<Self> {
        if number == 0 || count > DONORS_MAX || index >= count {
            return None;
        }
        Some(Self { number, index: u8::try_from(index).ok()?, count: u8::try_from(count).ok()? })
    }

    /// Of the request.
    pub(crate) fn number(self) -> u64 {
        self.number
    }

    /// How many donors the request has. One alone needs to agree with nobody.
    pub(crate) fn count(self) -> usize {
        self.count.into()
    }

    /// The first donor also sends the sums that follow.
    pub(crate) fn is_first(self) -> bool {
        self.index == 0
    }

    /// What this donor gives of a state of so many floats.
    pub(crate) fn share(self, length: usize) -> Range<usize> {
        share(length, self.index.into(), self.count.into())
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8] = self.index;
        bytes[9] = self.count;
        bytes
    }

    /// `None` when these bytes ask for nothing that exists.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (number, [index, count]) = bytes.split_first_chunk::<8>()? else { return None };
        Self::new(u64::from_le_bytes(*number), usize::from(*index), usize::from(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_cannot_be_are_refused() {
        let ask = Ask::new(u64::MAX, 2, 3).unwrap();
        assert_eq!(Ask::from_bytes(&ask.to_bytes()), Some(ask));
        for (number, index, count) in [(0, 0, 1), (1, 0, 0), (1, 3, 3), (1, 0, DONORS_MAX + 1), (1, 0, 1000)] {
            assert_eq!(Ask::new(number, index, count), None, "{number} {index} {count}");
        }
        assert_eq!(Ask::from_bytes(&[0xff; Ask::BYTES]), None);
    }
}
