//! How the members of a new generation get to one state. Each says where it stands; the furthest is the goal. A
//! training step is a pure function of state and pinned inputs, so it doesn't matter who computed it: a member one
//! round behind applies the round's sum, which the others still hold, and any other takes the whole state, a share from
//! each that has it.

use crate::rounds::{Round, Rounds};
use std::ops::Range;

/// Where a member stands when the group meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The round that it would do next; `None` without a state.
    pub next: Option<Round>,
    /// It still holds the sum of the round before that one.
    pub holds_sum: bool,
}

/// Length of a position on the wire.
pub const POSITION: usize = 18;

impl Position {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; POSITION] {
        let mut bytes = [0; POSITION];
        if let Some(next) = self.next {
            bytes[..16].copy_from_slice(&next.to_bytes());
            bytes[16] = 1;
        }
        bytes[17] = u8::from(self.holds_sum);
        bytes
    }

    /// From [`Position::to_bytes`]; `None` when these are not such bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; POSITION]) -> Option<Self> {
        let (round, flags) = bytes.split_first_chunk::<16>()?;
        let [has_state @ 0..=1, holds_sum @ 0..=1] = flags else { return None };
        let next = if *has_state == 1 { Some(Round::from_bytes(round)?) } else { None };
        Some(Self { next, holds_sum: *holds_sum == 1 })
    }
}

/// What a member that is behind needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// It is at the goal.
    Nothing,
    /// The sum of this round; then it is at the goal.
    Sum(Round),
    /// Parameters, buffers and slots.
    State,
}

/// How a group gets to one state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CatchUp {
    /// Nobody holds a state: it comes from storage, or rank 0 makes the first.
    Start,
    /// All get to `goal`.
    Reach {
        /// The round that comes next for all.
        goal: Round,
        /// All ranks that are there already. Each gives a share of the state to those who need it.
        holders: Vec<usize>,
        /// Who gives the last round's sum: the lowest of those ranks that still holds it.
        source: usize,
        /// By rank.
        needs: Vec<Need>,
    },
}

/// Decides from all members' positions, by rank. Every member that sees the same positions decides the same.
#[must_use]
pub fn plan(rounds: &Rounds, positions: &[Position]) -> CatchUp {
    let Some(goal) = positions.iter().filter_map(|p| p.next).max() else { return CatchUp::Start };
    let there = |p: &Position| p.next == Some(goal);
    let with_sum = positions.iter().position(|p| there(p) && p.holds_sum);
    let holders: Vec<usize> = (0..positions.len()).filter(|rank| there(&positions[*rank])).collect();
    let source = with_sum.or(holders.first().copied()).unwrap_or(0);
    let need = |position: &Position| match position.next {
        Some(at) if at == goal => Need::Nothing,
        Some(at) if rounds.after(at) == goal && with_sum.is_some() => Need::Sum(at),
        _ => Need::State,
    };
    CatchUp::Reach { goal, holders, source, needs: positions.iter().map(need).collect() }
}

/// Shares begin at multiples of so many floats: a cache line.
const GRAIN: usize = 16;

/// Share `index` of `count` of a vector of `length` floats. The shares cover it in order; some may be empty.
#[must_use]
pub fn share(length: usize, index: usize, count: usize) -> Range<usize> {
    let start = |index: usize| (length.div_ceil(GRAIN) * index / count * GRAIN).min(length);
    start(index)..start(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Phase;

    #[test]
    fn the_furthest_is_the_goal() {
        let rounds = Rounds { steps: 10, eval_every: Some(4) };
        let at = |step, phase| Position { next: Some(Round { step, phase }), holds_sum: step == 4 };
        let none = Position { next: None, holds_sum: false };
        assert_eq!(plan(&rounds, &[none, none]), CatchUp::Start);
        let mut positions =
            [at(3, Phase::Train), at(4, Phase::Evaluate), none, at(4, Phase::Evaluate), at(2, Phase::Train)];
        for position in positions {
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }
        let goal = Round { step: 4, phase: Phase::Evaluate };
        let behind = Need::Sum(Round { step: 3, phase: Phase::Train });
        let needs = vec![behind, Need::Nothing, Need::State, Need::Nothing, Need::State];
        assert_eq!(
            plan(&rounds, &positions),
            CatchUp::Reach { goal, holders: vec![1, 3], source: 1, needs: needs.clone() }
        );
        positions[1].holds_sum = false;
        assert_eq!(plan(&rounds, &positions), CatchUp::Reach { goal, holders: vec![1, 3], source: 3, needs });
        positions[3].holds_sum = false;
        let needs = vec![Need::State, Need::Nothing, Need::State, Need::Nothing, Need::State];
        assert_eq!(plan(&rounds, &positions), CatchUp::Reach { goal, holders: vec![1, 3], source: 1, needs });
    }

    #[test]
    fn shares_cover_the_vector_in_order() {
        for length in [0, 1, 15, 16, 17, 1000, 1 << 20] {
            for count in 1..9 {
                let shares: Vec<Range<usize>> = (0..count).map(|index| share(length, index, count)).collect();
                assert_eq!((shares[0].start, shares[count - 1].end), (0, length));
                assert!(shares.windows(2).all(|w| w[0].end == w[1].start), "{shares:?}");
                assert!(shares.iter().all(|s| s.start % GRAIN == 0 || s.start == length), "{shares:?}");
            }
        }
    }
}
