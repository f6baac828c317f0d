//! Silent corruption: what is known when workers that must hold the same state don't, and who is to blame.
//!
//! A majority blames the others at once. Without one nobody is blamed yet: all repeat the steps since the last
//! agreement, and whoever held something else before than all hold then was wrong.

use crate::ids::{Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Parameters and buffers, in memory.
    Model,
    /// The copy of the whole state that was to be saved.
    Saved,
}

impl Subject {
    /// As messages and records have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Saved => "saved",
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Model, Self::Saved].into_iter().find(|subject| subject.name() == name)
    }
}

/// Different states after the same number of updates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Differing {
    /// Updates applied.
    pub step: u64,
    /// Of what the digests are.
    pub subject: Subject,
    /// By worker.
    pub digests: BTreeMap<WorkerId, String>,
}

/// One corruption of a job, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Corruption {
    /// Counts the job's corruptions, and so its roll-backs, from 1.
    pub number: u64,
    /// When it was heard of.
    pub at: Timestamp,
    /// Who held what.
    pub differing: Differing,
    /// Workers that were found to be wrong; they are not used any more.
    pub quarantined: Vec<WorkerId>,
    /// A repetition may still tell who was wrong.
    pub open: bool,
    /// The step that the job went on from, once it did.
    pub back_to: Option<u64>,
}

impl Corruption {
    /// Steps computed again for it, once that is known.
    #[must_use]
    pub fn steps_repeated(&self) -> Option<u64> {
        self.back_to.map(|step| self.differing.step.saturating_sub(step))
    }
}

/// A background save that did not work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SaveFailure {
    /// Of the state after so many updates.
    pub step: u64,
    /// Whose.
    pub worker: WorkerId,
    /// In its words.
    pub reason: String,
    /// When it was heard of.
    pub at: Timestamp,
}

/// A member can't use the NCCL that the job asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NcclFailure {
    /// Who.
    pub worker: WorkerId,
    /// In its words.
    pub reason: String,
    /// When it was heard of.
    pub at: Timestamp,
}

impl Differing {
    /// Whether there are two states at all.
    pub(crate) fn is_real(&self) -> bool {
        self.digests.values().any(|digest| Some(digest) != self.digests.values().next())
    }

    /// What more than half of the workers hold.
    pub(crate) fn majority(&self) -> Option<&str> {
        let votes = |digest: &str| self.digests.values().filter(|other| *other == digest).count();
        self.digests.values().map(String::as_str).find(|digest| 2 * votes(digest) > self.digests.len())
    }

    /// Those who held something else than this. Nobody, if all did: then it does not tell who was wrong.
    pub(crate) fn others_than(&self, right: &str) -> Vec<WorkerId> {
        let others: Vec<WorkerId> =
            self.digests.iter().filter(|(_, digest)| *digest != right).map(|(worker, _)| worker.clone()).collect();
        if others.len() == self.digests.len() { Vec::new() } else { others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn differing(digests: &[&str]) -> Differing {
        let digest = |(n, digest): (usize, &&str)| (WorkerId(format!("w{}", n + 1)), (*digest).to_owned());
        Differing { step: 12, subject: Subject::Model, digests: digests.iter().enumerate().map(digest).collect() }
    }

    #[test]
    fn more_than_half_are_a_majority() {
        for (digests, majority) in [
            (vec!["a", "b", "a"], Some("a")),
            (vec!["a", "b"], None),
            (vec!["a", "a", "b", "c"], None),
            (vec!["a", "a", "b", "c", "a"], Some("a")),
            (vec!["a", "b", "c"], None),
        ] {
            assert_eq!(differing(&digests).majority(), majority, "{digests:?}");
        }
    }

    #[test]
    fn who_held_something_else_is_to_blame_unless_all_did() {
        let tie = differing(&["a", "b"]);
        assert_eq!(tie.others_than("a"), [WorkerId::from("w2")]);
        assert_eq!(tie.others_than("c"), []);
    }

    proptest! {
        #[test]
        fn a_majority_is_never_blamed_and_somebody_else_is(votes in prop::collection::vec(0_u8..3, 2..9)) {
            let texts: Vec<String> = votes.iter().map(u8::to_string).collect();
            let differing = differing(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(differing.is_real(), votes.iter().any(|vote| *vote != votes[0]));
            if let Some(majority) = differing.majority() {
                let blamed = differing.others_than(majority);
                prop_assert!(2 * blamed.len() < votes.len());
                prop_assert_eq!(blamed.is_empty(), !differing.is_real());
                prop_assert!(blamed.iter().all(|worker| differing.digests[worker] != majority));
            }
        }
    }
}
