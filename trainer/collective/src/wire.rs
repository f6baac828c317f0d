//! A frame's head. What may come is always known to the receiver beforehand, so a head is only compared, and no peer can
//! make a worker allocate anything.

use trainer_core::Round;

/// Length of a head in bytes.
pub(crate) const HEAD: usize = 40;

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A few bytes from each member to each.
    Note,
    /// Floats that the receiver adds to others.
    Partial,
    /// A finished sum.
    Sum,
    /// Parameters, buffers and slots.
    State,
    /// Where the sender's vectors of a round lie in the memory that it shares.
    Open,
    /// The sender's [`trainer_core::membership::Header`] of a round.
    Header,
    /// Header and all partial sums of a short vector.
    Whole,
    /// Partial sums of this segment. Without a body: they lie in the sender's shared memory, as do those of all
    /// segments before it.
    Piece(u32),
    /// The sum of this segment; without a body as before.
    Finished(u32),
}

impl Kind {
    fn to_bytes(self) -> [u8; 8] {
        let (kind, segment) = match self {
            Self::Note => (1, 0),
            Self::Partial => (2, 0),
            Self::Sum => (3, 0),
            Self::State => (4, 0),
            Self::Open => (5, 0),
            Self::Header => (6, 0),
            Self::Whole => (7, 0),
            Self::Piece(segment) => (8, segment),
            Self::Finished(segment) => (9, segment),
        };
        (u64::from(segment) << 32 | kind).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        let word = u64::from_le_bytes(bytes);
        let segment = (word >> 32) as u32;
        Some(match (word & u64::from(u32::MAX), segment) {
            (1, 0) => Self::Note,
            (2, 0) => Self::Partial,
            (3, 0) => Self::Sum,
            (4, 0) => Self::State,
            (5, 0) => Self::Open,
            (6, 0) => Self::Header,
            (7, 0) => Self::Whole,
            (8, segment) => Self::Piece(segment),
            (9, segment) => Self::Finished(segment),
            _ => return None,
        })
    }
}

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// What comes.
    pub(crate) kind: Kind,
    /// Counts the operations of a connection.
    pub(crate) sequence: u64,
    /// The round that it belongs to.
    pub(crate) round: Round,
    /// Bytes that follow.
    pub(crate) length: u64,
}

impl Head {
    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&self.kind.to_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.round.to_bytes());
        bytes[32..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// `None` when these bytes are no head.
    pub(crate) fn from_bytes(bytes: &[u8; HEAD]) -> Option<Self> {
        let (kind, rest) = bytes.split_first_chunk::<8>()?;
        let kind = Kind::from_bytes(*kind)?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (round, length) = rest.split_first_chunk::<16>()?;
        Some(Self {
            kind,
            sequence: u64::from_le_bytes(*sequence),
            round: Round::from_bytes(round)?,
            length: u64::from_le_bytes(length.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer_core::Phase;

    #[test]
    fn heads_survive_and_garbage_does_not() {
        for kind in [Kind::Sum, Kind::Open, Kind::Piece(0), Kind::Finished(u32::MAX)] {
            let head = Head { kind, sequence: 9, round: Round { step: 3, phase: Phase::Train }, length: 1 << 40 };
            assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
        }
        assert_eq!(Head::from_bytes(&[0; HEAD]), None);
        assert_eq!(Head::from_bytes(&[0xff; HEAD]), None);
    }
}
