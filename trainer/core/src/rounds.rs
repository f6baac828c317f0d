//! What a group does, in which order: a fixed sequence of rounds that every worker knows. A round is one exchange of
//! one vector: a training step or an evaluation. Where a worker stands in the sequence says all about its progress.

/// What is exchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// The held-out split, with the state of this step.
    Evaluate,
    /// The update from this step to the next.
    Train,
    /// Nothing: the job is done.
    Done,
}

/// A place in the sequence: the round that comes next. Ordered as the sequence is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Round {
    /// Updates applied before it.
    pub step: u64,
    /// What it does.
    pub phase: Phase,
}

/// The sequence of one job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rounds {
    /// Updates in all.
    pub steps: u64,
    /// Evaluate every so many steps; the end is always evaluated.
    pub eval_every: Option<u64>,
}

impl Rounds {
    /// The first round with a state of so many updates: where a new job (0) or a loaded checkpoint goes on.
    #[must_use]
    pub fn at_step(&self, step: u64) -> Round {
        let due = self.eval_every.is_some_and(|every| every > 0 && step > 0 && step.is_multiple_of(every));
        let phase = if step >= self.steps || due { Phase::Evaluate } else { Phase::Train };
        Round { step, phase }
    }

    /// The round after this one.
    #[must_use]
    pub fn after(&self, round: Round) -> Round {
        match round.phase {
            Phase::Train => self.at_step(round.step + 1),
            Phase::Evaluate if round.step >= self.steps => Round { step: round.step, phase: Phase::Done },
            Phase::Evaluate => Round { step: round.step, phase: Phase::Train },
            Phase::Done => round,
        }
    }
}

impl Round {
    /// As 16 bytes, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.step.to_le_bytes());
        bytes[8] = match self.phase {
            Phase::Evaluate => 0,
            Phase::Train => 1,
            Phase::Done => 2,
        };
        bytes
    }

    /// From [`Round::to_bytes`]; `None` when these are not such bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 16]) -> Option<Self> {
        let (step, rest) = bytes.split_first_chunk::<8>()?;
        let phase = match rest {
            [0, 0, 0, 0, 0, 0, 0, 0] => Phase::Evaluate,
            [1, 0, 0, 0, 0, 0, 0, 0] => Phase::Train,
            [2, 0, 0, 0, 0, 0, 0, 0] => Phase::Done,
            _ => return None,
        };
        Some(Self { step: u64::from_le_bytes(*step), phase })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluates_when_due_and_at_the_end() {
        let rounds = Rounds { steps: 5, eval_every: Some(2) };
        let mut round = rounds.at_step(0);
        let mut seen = Vec::new();
        while round.phase != Phase::Done {
            seen.push((round.step, round.phase));
            let next = rounds.after(round);
            assert!(next > round);
            assert_eq!(Round::from_bytes(&next.to_bytes()), Some(next));
            round = next;
        }
        use Phase::{Evaluate, Train};
        let expected =
            [(0, Train), (1, Train), (2, Evaluate), (2, Train), (3, Train), (4, Evaluate), (4, Train), (5, Evaluate)];
        assert_eq!(seen, expected);
        assert_eq!(rounds.at_step(4), Round { step: 4, phase: Evaluate });
        assert_eq!(rounds.after(round), round);
        assert_eq!(Round::from_bytes(&[9; 16]), None);
    }
}
