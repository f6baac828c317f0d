//! Bits that flip in a worker's memory, and shards that it computes wrong. A state is right or off by something; members
//! compare theirs before each step, and now and then what a shard of it gives.

use crate::setup::{LOGICAL_SHARDS, digest};
use crate::worker::SimWorker;
use crate::world::World;
use coordinator_core::{Differing, Event, Generation, JobId, Subject, WorkerId};
use std::collections::BTreeMap;

/// A shard of each so many steps is computed twice.
pub(crate) const AUDIT_EVERY: u64 = 4;

/// What a worker knows of its state beside the step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    /// How far it is off; 0: right.
    pub(crate) taint: u64,
    /// A bit flips before the next step that it computes with others.
    pub(crate) flips: bool,
    /// Of the next step that it computes it gets a shard wrong that is audited.
    pub(crate) miscomputes: bool,
    /// Audits of the whole job that passed, as far as it knows.
    pub(crate) audits: u64,
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
    /// Whether the members, about to compute the step after `step`, hold different states.
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
        let differing = Differing { step, subject: Subject::Model, shard: None, digests, right: None };
        self.dispute(key, members, differing);
        true
    }

    /// Whether an audit of the step after `step` finds that a member computed a shard wrong. All compute it again, so
    /// they know what is right, and say so.
    pub(crate) fn audit(&mut self, key: &(JobId, Generation), members: &[WorkerId], step: u64) -> bool {
        let miscomputes = |worker: &&WorkerId| self.workers.get(worker).is_some_and(|w| w.replica.miscomputes);
        let Some(wrong) = members.iter().find(miscomputes).cloned() else {
            if step.is_multiple_of(AUDIT_EVERY) {
                for worker in members {
                    self.workers.get_mut(worker).into_iter().for_each(|entry| entry.replica.audits += 1);
                }
            }
            return false;
        };
        if let Some(entry) = self.workers.get_mut(&wrong) {
            entry.replica.miscomputes = false;
        }
        let shard = self.random.range(0, u64::from(LOGICAL_SHARDS)) as u32;
        let right = format!("{}@{step}/{shard}", key.0);
        // Where it is alone it has computed the shard twice.
        let auditor = members.iter().find(|worker| **worker != wrong).map(|worker| (worker.clone(), right.clone()));
        let digests = auditor.into_iter().chain([(wrong, format!("{right}+1"))]).collect();
        let (subject, shard, right) = (Subject::Gradient, Some(shard), Some(right));
        self.dispute(key, members, Differing { step, subject, shard, digests, right });
        true
    }

    /// All that see it drop their states and say so; one that was interrupted goes on with what it holds.
    fn dispute(&mut self, key: &(JobId, Generation), members: &[WorkerId], differing: Differing) {
        for (n, worker) in members.iter().enumerate() {
            // Only what the coordinator surely knows of may be missed by somebody: a lone wrong one can't be found.
            let known = self.rollbacks(&key.0) > self.workers.get(worker).map_or(0, |entry| entry.replica.seen);
            if n > 0 && known && self.random.one_in(3) {
                continue;
            }
            let said = Event::StatesDiffer { worker: worker.clone(), generation: key.1, differing: differing.clone() };
            if let Some(entry) = self.workers.get_mut(worker) {
                entry.drop_state();
                entry.replica.disputed = differing.right.is_none().then_some(differing.step);
                entry.replica.said = vec![said.clone()];
            }
            if n == 0 {
                self.tell(said);
            } else {
                self.say(worker, said);
            }
        }
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
