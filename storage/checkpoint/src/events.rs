//! What a run's record says of the way to its result: corruptions, memberships, evaluations, the end. Several workers
//! tell the same, so here is decided what is the same and what is kept.

use crate::digest::Digest;
use crate::run::RunRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Evaluations, and groups, that a record holds.
const EVENTS_OF_A_KIND_MAX: usize = 1000;

/// Something that happened while it ran. One that is noted twice, by two workers, is kept once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunEvent {
    /// Workers held different states or computed a logical shard differently, and the steps since the last agreement
    /// were repeated.
    Corruption(Corruption),
    /// A group of workers went on with it.
    Group(GroupBegan),
    /// The held-out samples were evaluated.
    Evaluation(Evaluation),
    /// It came to its end.
    Finished(Finish),
}

/// A change of membership.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupBegan {
    /// Counts the memberships of the run.
    pub generation: u64,
    /// Updates applied when it began.
    pub step: u64,
    /// Workers in it.
    pub world_size: u32,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// One point of a run's curves.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Updates applied.
    pub step: u64,
    /// Over the held-out samples.
    pub loss: f64,
    /// Share of them classified correctly, where that makes sense.
    pub accuracy: Option<f64>,
    /// Training loss of the newest update.
    pub train_loss: Option<f64>,
}

/// What came out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// Updates applied.
    pub step: u64,
    /// [`state_digest`](crate::state_digest) of the final state.
    pub state_digest: Digest,
    /// Training loss of the last update.
    pub loss: Option<f64>,
    /// Audits that passed: logical shards that were computed twice, to the same bits.
    #[serde(default)]
    pub audits_passed: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// One silent corruption.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Corruption {
    /// Counts the run's corruptions from 1.
    pub number: u64,
    /// When it was noted, Unix milliseconds.
    pub at_ms: i64,
    /// Updates applied when they differed.
    pub step: u64,
    /// What differed: `model` (parameters and buffers in memory), `saved` (the copy that was to be saved) or `gradient`
    /// (the vector of a logical shard).
    pub subject: String,
    /// The logical shard whose vector was computed differently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// What each worker held, or computed.
    pub digests: BTreeMap<String, String>,
    /// Workers found to be wrong; they were not used any more. Empty: which one was wrong isn't known, or not yet.
    pub quarantined: Vec<String>,
    /// The step whose state the run went on from.
    pub back_to: Option<u64>,
    /// Steps computed again for it.
    pub steps_repeated: Option<u64>,
}

impl RunRecord {
    /// How it ended, if it has.
    pub fn finish(&self) -> Option<&Finish> {
        self.events.iter().rev().find_map(|event| match event {
            RunEvent::Finished(finish) => Some(finish),
            _ => None,
        })
    }

    /// Its evaluations, by step.
    pub fn evaluations(&self) -> Vec<&Evaluation> {
        let found = self.events.iter().filter_map(|event| match event {
            RunEvent::Evaluation(evaluation) => Some(evaluation),
            _ => None,
        });
        let mut evaluations: Vec<_> = found.collect();
        evaluations.sort_by_key(|evaluation| evaluation.step);
        evaluations
    }

    /// Adds what is not there yet.
    pub(crate) fn add(&mut self, events: &[RunEvent]) {
        for event in events {
            match self.events.iter_mut().find(|known| known.is_same(event)) {
                Some(RunEvent::Corruption(known)) => {
                    if let RunEvent::Corruption(new) = event {
                        known.back_to = known.back_to.or(new.back_to);
                        known.steps_repeated = known.steps_repeated.or(new.steps_repeated);
                        known.quarantined.clone_from(&new.quarantined);
                    }
                }
                // The first to note it stays: the others say the same, later.
                Some(_) => {}
                None => self.events.push(event.clone()),
            }
        }
        self.thin_out();
    }

    /// The record stays small, however long the run: of too many evaluations and groups every second one goes.
    fn thin_out(&mut self) {
        let kinds: [fn(&RunEvent) -> bool; 2] =
            [|event| matches!(event, RunEvent::Evaluation(_)), |event| matches!(event, RunEvent::Group(_))];
        for is_kind in kinds {
            if self.events.iter().filter(|event| is_kind(event)).count() > EVENTS_OF_A_KIND_MAX {
                let mut count = 0;
                self.events.retain(|event| {
                    count += usize::from(is_kind(event));
                    !is_kind(event) || count % 2 == 1
                });
            }
        }
    }
}

impl RunEvent {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Corruption(ours), Self::Corruption(theirs)) => ours.number == theirs.number,
            (Self::Group(ours), Self::Group(theirs)) => ours.generation == theirs.generation,
            (Self::Evaluation(ours), Self::Evaluation(theirs)) => ours.step == theirs.step,
            (Self::Finished(_), Self::Finished(_)) => true,
            _ => false,
        }
    }
}
