//! Whether all members of a group hold the same bits. They must, with `fast` numerics too: all apply the same sums to
//! the same state, in arithmetic that gives the same bits on every machine. A bit that flips in one worker's memory
//! makes it differ, and everything that it computes from then on is wrong.
//!
//! Two things are compared. A checksum of the model, parameters and buffers, travels with every round and is looked at
//! before the round's sum is applied, so that what a faulty model contributed reaches nobody's state: until then all
//! others hold what they should, and a repetition shows who was right. Slots don't matter to others until they change
//! the model; they are covered by the digest of the whole state that each checkpoint has.

use crate::membership::Header;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Parameters and buffers, in memory, with every round.
    Model,
    /// The copy of the whole state that a checkpoint is made of.
    Saved,
    /// The vector of one logical shard, computed more than once ([`crate::audit`]).
    Gradient,
}

impl Subject {
    /// As messages and records have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Saved => "saved",
            Self::Gradient => "gradient",
        }
    }
}

/// Members hold different states.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispute {
    /// Updates applied.
    pub step: u64,
    /// Which of its digests differ.
    pub subject: Subject,
    /// By rank; `None`: it said nothing about it.
    pub digests: Vec<Option<u64>>,
    /// Of an audit: which logical shard was computed, and what that gives.
    pub audited: Option<Audited>,
}

/// What an audit found out before it blamed anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audited {
    /// The logical shard.
    pub shard: u32,
    /// Checksum of its vector.
    pub right: u64,
}

/// Members hold the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accord {
    /// Updates applied.
    pub step: u64,
    /// Of what.
    pub subject: Subject,
    /// What all show.
    pub digest: u64,
}

/// What the headers of a round at `step` say of the states of their senders. Equal on all members, since all have seen
/// the same headers. Where fewer than two say something there is nothing to compare.
///
/// # Errors
/// States differ.
pub fn compare(step: u64, headers: &[Header]) -> Result<Vec<Accord>, Dispute> {
    let models: Vec<Option<u64>> = headers.iter().map(|h| (h.check != 0).then_some(h.check)).collect();
    let mut accords: Vec<Accord> = one(step, Subject::Model, models)?.into_iter().collect();
    let newest = headers.iter().map(|h| h.digest_step).max().unwrap_or(0);
    // Whoever is still at it may be about to show the same step; all who save finish in this order.
    let waits = headers.iter().any(|h| h.saving && h.digest_step < newest);
    if newest > 0 && !waits {
        let saved = headers.iter().map(|h| (h.digest_step == newest).then_some(h.digest)).collect();
        accords.extend(one(newest, Subject::Saved, saved)?);
    }
    Ok(accords)
}

/// The same of one digest of each member.
///
/// # Errors
/// They differ.
pub fn one(step: u64, subject: Subject, digests: Vec<Option<u64>>) -> Result<Option<Accord>, Dispute> {
    let mut shown = digests.iter().flatten();
    let (Some(&digest), Some(&second)) = (shown.next(), shown.next()) else { return Ok(None) };
    if second != digest || shown.any(|other| *other != digest) {
        return Err(Dispute { step, subject, digests, audited: None });
    }
    Ok(Some(Accord { step, subject, digest }))
}

const LANES: usize = 8;
const LANE_FLOATS: usize = 2;
const BLOCK: usize = LANES * LANE_FLOATS;
/// Odd, so that multiplying by it loses nothing: the fractional part of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A checksum of floats as bits, at the speed of memory. Each step is a bijection of the lane for a given value and of
/// the value for a given lane, so any change of a single value always shows; several at once hide with a chance of
/// 2^-64. It is no cryptographic digest. Never 0.
#[derive(Clone, Debug)]
pub struct Checksum {
    lanes: [u64; LANES],
}

impl Default for Checksum {
    fn default() -> Self {
        Self { lanes: std::array::from_fn(|lane| FACTOR.wrapping_mul(2 * lane as u64 + 1)) }
    }
}

impl Checksum {
    /// Takes values in.
    pub fn add(&mut self, values: &[f32]) {
        let (blocks, rest) = values.as_chunks::<BLOCK>();
        for block in blocks {
            self.block(block);
        }
        if !rest.is_empty() {
            let mut block = [0.0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.block(&block);
        }
    }

    fn block(&mut self, block: &[f32; BLOCK]) {
        for (lane, pair) in self.lanes.iter_mut().zip(block.as_chunks::<LANE_FLOATS>().0) {
            let word = u64::from(pair[0].to_bits()) | u64::from(pair[1].to_bits()) << 32;
            *lane = (*lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
        }
    }

    /// Of all taken in so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        let sum = self.lanes.iter().fold(0_u64, |sum, lane| (sum ^ lane).wrapping_mul(FACTOR).rotate_left(29));
        sum.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(check: u64, digest_step: u64, digest: u64, saving: bool) -> Header {
        Header { check, digest_step, digest, saving, ..Header::default() }
    }

    #[test]
    fn equal_models_are_an_accord_and_different_ones_a_dispute() {
        let model = |digest| Accord { step: 12, subject: Subject::Model, digest };
        let equal = [header(7, 0, 0, false); 3];
        assert_eq!(compare(12, &equal), Ok(vec![model(7)]));
        let odd = [header(7, 0, 0, false), header(8, 0, 0, false), header(7, 0, 0, false)];
        let digests = vec![Some(7), Some(8), Some(7)];
        assert_eq!(compare(12, &odd), Err(Dispute { step: 12, subject: Subject::Model, digests, audited: None }));
    }

    #[test]
    fn alone_or_uncompared_there_is_nothing_to_say() {
        assert_eq!(compare(3, &[header(7, 2, 9, false)]), Ok(vec![]));
        assert_eq!(compare(3, &[header(0, 0, 0, false); 2]), Ok(vec![]));
    }

    #[test]
    fn saved_states_are_compared_once_all_who_save_have_digested() {
        let saved = |digest| Accord { step: 20, subject: Subject::Saved, digest };
        let dispute = |digests| Err(Dispute { step: 20, subject: Subject::Saved, digests, audited: None });
        let [done, busy, odd] = [header(0, 20, 5, false), header(0, 10, 1, true), header(0, 20, 6, false)];
        assert_eq!(compare(23, &[done, busy]), Ok(vec![]));
        assert_eq!(compare(23, &[done, busy, odd]), Ok(vec![]));
        assert_eq!(compare(23, &[done, header(0, 20, 5, true)]), Ok(vec![saved(5)]));
        assert_eq!(compare(23, &[done, odd]), dispute(vec![Some(5), Some(6)]));
        // One that joined after the save has no say.
        let joined = header(0, 0, 0, false);
        assert_eq!(compare(23, &[done, joined, done]), Ok(vec![saved(5)]));
        assert_eq!(compare(23, &[done, joined, odd]), dispute(vec![Some(5), None, Some(6)]));
    }

    #[test]
    fn never_changes_between_releases() {
        let mut checksum = Checksum::default();
        checksum.add(&[1.0, -2.5, 3.0]);
        assert_eq!(checksum.value(), 0x1dea_fa9a_dccd_d81e);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_shows(
            values in prop::collection::vec(any::<u32>(), 1..200),
            at in any::<prop::sample::Index>(),
            bit in 0_u32..32,
        ) {
            let value = |values: &[u32]| {
                let floats: Vec<f32> = values.iter().map(|bits| f32::from_bits(*bits)).collect();
                let mut checksum = Checksum::default();
                checksum.add(&floats);
                checksum.value()
            };
            let mut flipped = values.clone();
            let at = at.index(values.len());
            flipped[at] ^= 1 << bit;
            prop_assert_ne!(value(&values), value(&flipped));
        }
    }
}
