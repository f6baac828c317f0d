//! A job's group: the newest generation that was handed out, and what is known of its taking effect.

use crate::action::Member;
use crate::ids::{Generation, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One generation, as it was handed out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) generation: Generation,
    /// In rank order.
    pub(crate) members: Vec<Member>,
    pub(crate) immediate: bool,
    pub(crate) assigned: Timestamp,
    pub(crate) origin: Origin,
    /// The job's roll-backs before it.
    #[serde(default)]
    pub(crate) rollbacks: u64,
    /// Somebody is known to have trained in it.
    pub(crate) effective: bool,
    /// The oldest generation that may still be at work: messages of older ones are stale.
    pub(crate) oldest_live: Generation,
    /// `progress.step_max` when it was handed out.
    pub(crate) step_before: u64,
    /// Members that applied their donors' updates until it takes effect: their steps don't tell that it has.
    pub(crate) followers: BTreeSet<WorkerId>,
    pub(crate) reason: String,
    /// A worker that it needs is lost: it must be replaced at once.
    pub(crate) broken: Option<Breakage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// The job's first.
    Start,
    /// From the newest checkpoint, after everybody was gone.
    Recovery,
    /// From a generation whose state lives on.
    Change,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Breakage {
    pub(crate) worker: WorkerId,
    pub(crate) why: String,
}

impl Group {
    pub(crate) fn has(&self, worker: &WorkerId) -> bool {
        self.members.iter().any(|member| member.worker == *worker)
    }

    pub(crate) fn rank(&self, worker: &WorkerId) -> Option<usize> {
        self.members.iter().position(|member| member.worker == *worker)
    }

    /// A planned change may follow it: it took effect, or has had long enough to.
    pub(crate) fn settled(&self, now: Timestamp, settle_ms: u64) -> bool {
        self.effective || now >= self.assigned.plus_ms(settle_ms)
    }
}
