//! Which generation a worker belongs to, and when it leaves it for the next.
//!
//! A planned change takes effect at a step boundary that all members of the running generation agree on without
//! asking anybody: each round's headers carry the newest assignment that their sender knows, every member sees every
//! header, and when all name the same newer generation, all switch after that round. A change that can't wait
//! (`immediate`, or a lost link) drops the round; both sides of a lost round end in equal bits, see
//! [`crate::catch_up`].

use crate::assignment::Assignment;
use std::collections::BTreeMap;

/// Assignments kept that are newer than the current one; a worker that is further behind enters the newest anyway.
const KEPT_AHEAD: usize = 16;

/// What one worker tells all others with each round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// The newest generation that the sender has an assignment for.
    pub newest_generation: u64,
    /// By the job's rule a checkpoint is due at the end of this round. Only rank 0 says so.
    pub save_due: bool,
    /// The sender was asked for a checkpoint.
    pub save_asked: bool,
    /// The sender is still writing an earlier one.
    pub saving: bool,
    /// Who waits for the sender's share of the state: a number of that request, 0 when nobody does.
    pub joiner: u64,
    /// The newest step whose state the sender has digested for comparison; 0 for none.
    pub digest_step: u64,
    /// The first eight bytes of that digest.
    pub digest: u64,
    /// Checksum of the sender's model before the round's sum is applied; 0 when it is not to be compared.
    pub check: u64,
    /// Checksum of the vector of the audited shard, which the sender computed for the sum; 0 where it did not.
    pub vector: u64,
    /// The same of the one that it computed a second time, as the audit.
    pub vector_again: u64,
    /// Audits of the run that passed, as far as the sender knows.
    pub audits_passed: u64,
}

impl Header {
    /// Length of [`Header::to_bytes`].
    pub const BYTES: usize = 72;

    /// Little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.newest_generation.to_le_bytes());
        bytes[8] = u8::from(self.save_due);
        bytes[9] = u8::from(self.save_asked);
        bytes[10] = u8::from(self.saving);
        bytes[16..24].copy_from_slice(&self.joiner.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.digest_step.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.digest.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.check.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.vector.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.vector_again.to_le_bytes());
        bytes[64..].copy_from_slice(&self.audits_passed.to_le_bytes());
        bytes
    }

    /// From [`Header::to_bytes`]; `None` when these are not such bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let [generation, flags, joiner, digest_step, digest, check, vector, vector_again, audits_passed] = words else {
            return None;
        };
        let ([due @ 0..=1, asked @ 0..=1, saving @ 0..=1, 0, 0, 0, 0, 0], []) = (flags, rest) else { return None };
        Some(Self {
            newest_generation: u64::from_le_bytes(*generation),
            save_due: *due == 1,
            save_asked: *asked == 1,
            saving: *saving == 1,
            joiner: u64::from_le_bytes(*joiner),
            digest_step: u64::from_le_bytes(*digest_step),
            digest: u64::from_le_bytes(*digest),
            check: u64::from_le_bytes(*check),
            vector: u64::from_le_bytes(*vector),
            vector_again: u64::from_le_bytes(*vector_again),
            audits_passed: u64::from_le_bytes(*audits_passed),
        })
    }
}

/// What all headers of a round together say. Equal on all members, since all have seen the same headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// After this round everyone switches to this generation.
    pub switch_to: Option<u64>,
    /// After this round everyone saves.
    pub save: Option<Why>,
}

/// Why a checkpoint is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The job's rule says so.
    Due,
    /// A member was asked.
    Asked,
}

/// One worker's view of its job's generations.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    current: u64,
    ahead: BTreeMap<u64, Assignment>,
}

impl Membership {
    /// Takes an assignment. Older ones than the newest known are dropped; the same one again (told after a reconnect)
    /// changes nothing.
    pub fn offer(&mut self, assignment: Assignment) {
        if assignment.generation > self.newest_generation() {
            self.ahead.insert(assignment.generation, assignment);
        }
        while self.ahead.len() > KEPT_AHEAD {
            self.ahead.pop_first();
        }
    }

    /// The newest generation heard of.
    #[must_use]
    pub fn newest_generation(&self) -> u64 {
        self.ahead.last_key_value().map_or(self.current, |(generation, _)| *generation)
    }

    /// The generation that it trains in; 0 before the first.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current
    }

    /// The newest assignment, if it is newer than the current generation.
    #[must_use]
    pub fn next(&self) -> Option<&Assignment> {
        self.ahead.last_key_value().map(|(_, assignment)| assignment)
    }

    /// Whether the round in progress must be dropped.
    #[must_use]
    pub fn interrupts(&self) -> bool {
        self.ahead.values().any(|a| a.immediate)
    }

    /// Moves to the generation that a round agreed on. `None` when it was passed already.
    pub fn switch_to(&mut self, generation: u64) -> Option<Assignment> {
        let assignment = self.ahead.remove(&generation)?;
        self.ahead = self.ahead.split_off(&generation);
        self.current = generation;
        Some(assignment)
    }

    /// Moves to the newest assignment: after an interruption or a lost link, when there is no round to agree in.
    pub fn enter_newest(&mut self) -> Option<Assignment> {
        self.switch_to(self.newest_generation())
    }

    /// Reads a round's headers, one for each member, its own included.
    #[must_use]
    pub fn agree(&self, headers: &[Header]) -> Agreement {
        let first = headers.first().map_or(0, |h| h.newest_generation);
        let same = headers.iter().all(|h| h.newest_generation == first);
        let switch_to = (same && first > self.current).then_some(first);
        let why = if headers.iter().any(|h| h.save_asked) {
            Some(Why::Asked)
        } else {
            headers.iter().any(|h| h.save_due).then_some(Why::Due)
        };
        let save = why.filter(|_| !headers.iter().any(|h| h.saving));
        Agreement { switch_to, save }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(generation: u64, immediate: bool) -> Assignment {
        Assignment { generation, immediate, members: Vec::new(), reason: String::new() }
    }

    fn header(newest_generation: u64) -> Header {
        Header { newest_generation, ..Header::default() }
    }

    #[test]
    fn switches_only_when_all_know() {
        let mut membership = Membership::default();
        membership.offer(assignment(1, true));
        assert!(membership.interrupts());
        assert_eq!(membership.enter_newest().unwrap().generation, 1);
        assert!(membership.enter_newest().is_none());
        membership.offer(assignment(2, false));
        assert!(!membership.interrupts());
        assert_eq!(membership.agree(&[header(2), header(1)]).switch_to, None);
        assert_eq!(membership.agree(&[header(2), header(2)]).switch_to, Some(2));
        assert_eq!(membership.agree(&[header(2), header(3)]).switch_to, None);
        assert_eq!(membership.agree(&[header(1), header(1)]).switch_to, None);
    }

    #[test]
    fn older_assignments_are_dropped() {
        let mut membership = Membership::default();
        membership.offer(assignment(3, true));
        membership.offer(assignment(2, true));
        membership.offer(assignment(3, true));
        assert_eq!((membership.newest_generation(), membership.ahead.len()), (3, 1));
        membership.enter_newest();
        membership.offer(assignment(3, true));
        assert!(membership.next().is_none());
    }

    #[test]
    fn what_was_agreed_is_entered_though_something_newer_is_known() {
        let mut membership = Membership::default();
        for generation in 1..=3 {
            membership.offer(assignment(generation, false));
        }
        assert_eq!(membership.switch_to(2).unwrap().generation, 2);
        assert_eq!((membership.current(), membership.newest_generation()), (2, 3));
        assert!(membership.switch_to(1).is_none());
        assert_eq!(membership.enter_newest().unwrap().generation, 3);
    }

    #[test]
    fn saves_when_wanted_and_nobody_is_busy() {
        let membership = Membership::default();
        let due = Header { save_due: true, ..Header::default() };
        let asked = Header { save_asked: true, ..Header::default() };
        let busy = Header { saving: true, ..Header::default() };
        assert_eq!(membership.agree(&[header(0), due]).save, Some(Why::Due));
        assert_eq!(membership.agree(&[due, asked]).save, Some(Why::Asked));
        assert_eq!(membership.agree(&[busy, asked]).save, None);
        assert_eq!(membership.agree(&[header(0), header(0)]).save, None);
    }

    #[test]
    fn headers_survive_the_wire() {
        let header = Header {
            newest_generation: 7,
            save_due: true,
            save_asked: false,
            saving: true,
            joiner: 5,
            digest_step: 9,
            digest: u64::MAX,
            check: 11,
            vector: 12,
            vector_again: 13,
            audits_passed: 14,
        };
        assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
        assert_eq!(Header::from_bytes(&[3; Header::BYTES]), None);
    }
}
