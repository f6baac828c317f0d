//! A frame's head. What it announces is always known to the receiver beforehand, so a head is only compared, and no
//! peer can make a worker allocate anything.

use trainer_core::Round;

/// Length of a head in bytes.
pub(crate) const HEAD: usize = 40;

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A few bytes from each member to each.
    Note = 1,
    /// Partial sums of the receiver's chunk.
    Partial = 2,
    /// The finished sum of the sender's chunk.
    Sum = 3,
    /// Parameters, buffers and slots.
    State = 4,
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
        bytes[0] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.round.to_bytes());
        bytes[32..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// `None` when these bytes are no head.
    pub(crate) fn from_bytes(bytes: &[u8; HEAD]) -> Option<Self> {
        let (kind, rest) = bytes.split_first_chunk::<8>()?;
        let kind = match kind {
            [1, 0, 0, 0, 0, 0, 0, 0] => Kind::Note,
            [2, 0, 0, 0, 0, 0, 0, 0] => Kind::Partial,
            [3, 0, 0, 0, 0, 0, 0, 0] => Kind::Sum,
            [4, 0, 0, 0, 0, 0, 0, 0] => Kind::State,
            _ => return None,
        };
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
        let head =
            Head { kind: Kind::Sum, sequence: 9, round: Round { step: 3, phase: Phase::Train }, length: 1 << 40 };
        assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
        assert_eq!(Head::from_bytes(&[0; HEAD]), None);
        assert_eq!(Head::from_bytes(&[0xff; HEAD]), None);
    }
}
