//! Silent corruption: what is known when workers that must hold the same state, or computed the same logical shard,
//! don't agree, and who is to blame.
//!
//! Where a repetition has shown already what is right, or a majority holds it, the others are blamed at once. Else
//! nobody is blamed yet: all repeat the steps since the last agreement, and those who held something else before than
//! all hold then were wrong.

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
    /// The vector of one logical shard, computed by more than one worker, or by one more than once.
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

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Model, Self::Saved, Self::Gradient].into_iter().find(|subject| subject.name() == name)
    }
}

/// Different states after the same number of updates, or different vectors of one logical shard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Differing {
    /// Updates applied.
    pub step: u64,
    /// Of what the digests are.
    pub subject: Subject,
    /// The logical shard, if they are of one's vector.
    #[serde(default)]
    pub shard: Option<u32>,
    /// By worker. Where a worker computed the shard more than once and differs from itself, what it got wrong.
    pub digests: BTreeMap<WorkerId, String>,
    /// What the computation gives, where its repetition has shown that.
    #[serde(default)]
    pub right: Option<String>,
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
    /// Whether it can be: somebody differs, and it names a shard, and perhaps what is right, if and only if it is of
    /// one's vector.
    pub(crate) fn is_real(&self) -> bool {
        let of_a_shard = self.subject == Subject::Gradient;
        let expected = self.right.as_ref().or_else(|| self.digests.values().next());
        let differ = self.digests.values().any(|digest| Some(digest) != expected);
        differ && self.shard.is_some() == of_a_shard && (of_a_shard || self.right.is_none())
    }

    /// What is right and who is to blame, where that is known at once.
    pub(crate) fn verdict(&self) -> Option<(&str, Vec<WorkerId>)> {
        let right = self.right.as_deref().or_else(|| self.majority())?;
        Some((right, self.differing_from(right)))
    }

    /// What more than half of the workers hold.
    fn majority(&self) -> Option<&str> {
        let votes = |digest: &str| self.digests.values().filter(|other| *other == digest).count();
        self.digests.values().map(String::as_str).find(|digest| 2 * votes(digest) > self.digests.len())
    }

    /// Those who held something else than this. Nobody, if all did: then it does not tell who was wrong.
    pub(crate) fn others_than(&self, right: &str) -> Vec<WorkerId> {
        let others = self.differing_from(right);
        if others.len() == self.digests.len() { Vec::new() } else { others }
    }

    fn differing_from(&self, right: &str) -> Vec<WorkerId> {
        self.digests.iter().filter(|(_, digest)| *digest != right).map(|(worker, _)| worker.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn differing(digests: &[&str]) -> Differing {
        let digest = |(n, digest): (usize, &&str)| (WorkerId(format!("w{}", n + 1)), (*digest).to_owned());
        let digests = digests.iter().enumerate().map(digest).collect();
        Differing { step: 12, subject: Subject::Model, shard: None, digests, right: None }
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

    fn of_shard(digests: &[&str], right: Option<&str>) -> Differing {
        let (subject, right) = (Subject::Gradient, right.map(str::to_owned));
        Differing { subject, shard: Some(3), right, ..differing(digests) }
    }

    #[test]
    fn what_a_repetition_has_shown_decides_alone() {
        let (w1, w2) = (WorkerId::from("w1"), WorkerId::from("w2"));
        for (digests, right, blamed) in [
            (vec!["a", "b"], "a", vec![w2.clone()]),
            (vec!["b"], "a", vec![w1.clone()]),
            (vec!["b", "c"], "a", vec![w1.clone(), w2.clone()]),
            (vec!["b", "b", "a"], "a", vec![w1, w2]),
        ] {
            let differing = of_shard(&digests, Some(right));
            assert!(differing.is_real(), "{digests:?}");
            assert_eq!(differing.verdict(), Some((right, blamed)), "{digests:?}");
        }
        assert_eq!(of_shard(&["a", "b"], None).verdict(), None);
    }

    #[test]
    fn what_can_not_be_is_not_real() {
        let states = |digests: &[&str]| differing(digests);
        for not_real in [
            states(&[]),
            states(&["a"]),
            states(&["a", "a"]),
            of_shard(&["a", "a"], Some("a")),
            of_shard(&["b"], None),
            of_shard(&[], Some("a")),
            Differing { shard: None, ..of_shard(&["a", "b"], Some("a")) },
            Differing { shard: Some(3), ..states(&["a", "b"]) },
            // No repetition has shown what a state should be: that takes steps.
            Differing { right: Some("a".to_owned()), ..states(&["a", "b"]) },
        ] {
            assert!(!not_real.is_real(), "{not_real:?}");
        }
    }

    #[test]
    fn records_from_before_there_were_audits_are_read() {
        let stored = r#"{"step": 12, "subject": "model", "digests": {"w1": "a", "w2": "b"}}"#;
        assert_eq!(serde_json::from_str::<Differing>(stored).unwrap(), differing(&["a", "b"]));
    }

    #[test]
    fn subjects_have_one_name_in_messages_and_records() {
        for subject in [Subject::Model, Subject::Saved, Subject::Gradient] {
            assert_eq!(Subject::from_name(subject.name()), Some(subject));
            assert_eq!(serde_json::to_value(subject).unwrap(), subject.name());
        }
        assert_eq!(Subject::from_name("weights"), None);
    }

    proptest! {
        #[test]
        fn a_verdict_blames_all_who_differ_from_what_is_right(
            votes in prop::collection::vec(0_u8..3, 1..9),
            right in 0_u8..3,
        ) {
            let (texts, right): (Vec<String>, _) = (votes.iter().map(u8::to_string).collect(), right.to_string());
            let differing = of_shard(&texts.iter().map(String::as_str).collect::<Vec<_>>(), Some(&right));
            let (told, blamed) = differing.verdict().expect("a verdict");
            prop_assert_eq!(told, &right);
            prop_assert_eq!(differing.is_real(), !blamed.is_empty());
            for (worker, digest) in &differing.digests {
                prop_assert_eq!(blamed.contains(worker), *digest != right);
            }
        }

        #[test]
        fn a_majority_is_never_blamed_and_somebody_else_is(votes in prop::collection::vec(0_u8..3, 2..9)) {
            let texts: Vec<String> = votes.iter().map(u8::to_string).collect();
            let differing = differing(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(differing.is_real(), votes.iter().any(|vote| *vote != votes[0]));
            if let Some(majority) = differing.majority() {
                let blamed = differing.others_than(majority);
                prop_assert_eq!(differing.verdict(), Some((majority, blamed.clone())));
                prop_assert!(2 * blamed.len() < votes.len());
                prop_assert_eq!(blamed.is_empty(), !differing.is_real());
                prop_assert!(blamed.iter().all(|worker| differing.digests[worker] != majority));
            }
        }
    }
}
