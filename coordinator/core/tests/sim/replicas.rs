//! Bits that flip in a worker's memory. A state is right or off by something; members compare theirs before each step.

use crate::setup::digest;
use crate::worker::SimWorker;
use crate::world::World;
use coordinator_core::{Differing, Event, Generation, JobId, Subject, WorkerId};
use std::collections::BTreeMap;

/// What a worker knows of its state beside the step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    /// How far it is off; 0: right.
    pub(crate) taint: u64,
    /// A bit flips before the next step that it computes with others.
    pub(crate) flips: bool,
    /// Roll-backs that the state has seen.
    pub(crate) seen: u64,
    /// The newest step that was disputed, until it is agreed on.
    disputed: Option<u64>,
    /// What it said of disputes, to be said again at each attach.
    said: Vec<Event>,
}

impl SimWorker {
    fn drop_state(&mut self) {
        self.step = None;
        self.donor = None;
        self.finished = false;
        self.dropped = false;
        self.replica.taint = 0;
    }

    /// What it goes on from, or gets, has seen so many roll-backs.
    pub(crate) fn roll_back(&mut self, rollbacks: u64) {
        if self.replica.seen < rollbacks {
            self.replica.seen = rollbacks;
            self.drop_state();
        }
    }

    /// The digest of its state.
    pub(crate) fn digest(&self) -> String {
        let right = digest(&self.job, self.step.unwrap_or_default());
        if self.replica.taint == 0 { right } else { format!("{right}+{}", self.replica.taint) }
    }
}

impl World {
    /// Whether the members, about to compute the step after `step`, hold different states. Then all that see it drop
    /// theirs and say so; one that was interrupted goes on with what it holds.
    pub(crate) fn differ(&mut self, key: &(JobId, Generation), members: &[WorkerId], step: u64) -> bool {
        if members.len() < 2 {
            return false;
        }
        let noise = self.random.range(1, u64::MAX);
        let mut digests = BTreeMap::new();
        for worker in members {
            let Some(entry) = self.workers.get_mut(worker) else { continue };
            if std::mem::take(&mut entry.replica.flips) {
                entry.replica.taint ^= noise;
            }
            digests.insert(worker.clone(), entry.digest());
        }
        let mut values = digests.values();
        let first = values.next().cloned().unwrap_or_default();
        if values.all(|digest| *digest == first) {
            self.agree(key.1, members, step, &first);
            return false;
        }
        let differing = Differing { step, subject: Subject::Model, digests };
        for (n, worker) in members.iter().enumerate() {
            // Only what the coordinator surely knows of may be missed by somebody: a lone wrong one can't be found.
            let known = self.rollbacks(&key.0) > self.workers.get(worker).map_or(0, |entry| entry.replica.seen);
            if n > 0 && known && self.random.one_in(3) {
                continue;
            }
            let said = Event::StatesDiffer { worker: worker.clone(), generation: key.1, differing: differing.clone() };
            if let Some(entry) = self.workers.get_mut(worker) {
                entry.drop_state();
                entry.replica.disputed = Some(step);
                entry.replica.said = vec![said.clone()];
            }
            if n == 0 {
                self.tell(said);
            } else {
                self.say(worker, said);
            }
        }
        true
    }

    fn agree(&mut self, generation: Generation, members: &[WorkerId], step: u64, digest: &str) {
        for worker in members {
            let Some(entry) = self.workers.get_mut(worker) else { continue };
            if entry.replica.disputed != Some(step) {
                continue;
            }
            entry.replica.disputed = None;
            let (worker, digest) = (worker.clone(), digest.to_owned());
            let said = Event::StatesAgree { worker: worker.clone(), generation, step, subject: Subject::Model, digest };
            entry.replica.said.push(said.clone());
            self.say(&worker, said);
        }
    }

    fn rollbacks(&self, job: &JobId) -> u64 {
        let newest = self.core.as_ref().and_then(|core| core.job(job)?.corruptions.last().map(|one| one.number));
        newest.unwrap_or_default()
    }

    pub(crate) fn say_disputes(&mut self, worker: &WorkerId) {
        let said = self.workers.get(worker).map_or_else(Vec::new, |entry| entry.replica.said.clone());
        for event in said {
            self.say(worker, event);
        }
    }

    /// A checkpoint is committed by members that agree.
    pub(crate) fn check_committed(&self, worker: &WorkerId) {
        let taint = self.workers.get(worker).map_or(0, |entry| entry.replica.taint);
        assert_eq!(taint, 0, "{worker} commits a wrong state");
    }
}
