//! What the members of one generation do together: meet, bring all to the newest state among them, train step by
//! step, and switch together at a step boundary once all know of the same planned assignment.

use crate::replicas::AUDIT_EVERY;
use crate::worker::SimWorker;
use crate::world::{Happening, World};
use coordinator_core::{Event, Generation, JobId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

const MEET_MS: u64 = 20;
const STEP_MS: u64 = 100;
/// What a logical shard takes a worker that is not slow.
pub(crate) const SHARD_MS: f64 = 6.0;
const SAVE_MS: u64 = 300;
const CHECKPOINT_EVERY: u64 = 50;

pub(crate) type Meshes = BTreeMap<(JobId, Generation), Mesh>;

#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) members: Vec<WorkerId>,
    pub(crate) arrived: BTreeSet<WorkerId>,
    pub(crate) phase: Phase,
    /// Counts what was scheduled, so that what was overtaken is known.
    turn: u64,
    first_step: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Meeting,
    Training,
    Saving,
}

impl World {
    /// A new assignment: taken at once, or at the next boundary of the generation in which the worker trains.
    pub(crate) fn assigned(&mut self, worker: &WorkerId, immediate: bool) {
        let Some(entry) = self.workers.get(worker) else { return };
        let trains = entry.at.is_some_and(|at| {
            let mesh = self.meshes.get(&(entry.job.clone(), at));
            mesh.is_some_and(|mesh| mesh.phase != Phase::Meeting)
        });
        if immediate || !trains {
            self.switch(worker, immediate && trains);
        }
    }

    /// Into the newest assignment, or out.
    fn switch(&mut self, worker: &WorkerId, dropped: bool) {
        let Some(entry) = self.workers.get_mut(worker) else { return };
        let Some(assigned) = entry.assigned.clone() else { return };
        entry.dropped |= dropped;
        entry.roll_back(assigned.rollbacks);
        let key = (entry.job.clone(), assigned.generation);
        if assigned.members.is_empty() {
            // With nobody to do it with, it saves alone.
            let (job, step) = (entry.job.clone(), entry.step);
            if let Some(step) = step.filter(|step| self.checkpoints.get(&job) < Some(step)) {
                self.commit(worker, &job, step, "alone");
            }
            return self.go(worker, assigned.generation);
        }
        if !assigned.has(worker) {
            entry.at = None;
            entry.aside = Some(assigned.generation);
            return self.say_aside(worker);
        }
        (entry.at, entry.aside) = (Some(assigned.generation), None);
        entry.donor = None;
        let mesh = self.meshes.entry(key.clone()).or_insert_with(|| Mesh {
            members: assigned.members.iter().map(|member| member.worker.clone()).collect(),
            arrived: BTreeSet::new(),
            phase: Phase::Meeting,
            turn: 0,
            first_step: true,
        });
        mesh.arrived.insert(worker.clone());
        if mesh.members.iter().all(|member| mesh.arrived.contains(member)) {
            self.schedule(&key, MEET_MS);
        }
        self.accuse_the_dead(worker);
    }

    fn go(&mut self, worker: &WorkerId, generation: Generation) {
        let Some(entry) = self.workers.get_mut(worker) else { return };
        entry.at = None;
        let step = entry.step.unwrap_or_default();
        self.say(worker, Event::WorkerLeft { worker: worker.clone(), generation, step });
        self.leave(worker, 0);
    }

    fn schedule(&mut self, key: &(JobId, Generation), ms: u64) {
        let Some(mesh) = self.meshes.get_mut(key) else { return };
        mesh.turn += 1;
        let turn = mesh.turn;
        self.after(ms, Happening::Mesh { job: key.0.clone(), generation: key.1, turn });
    }

    /// All members are there and answer.
    fn whole(&self, job: &JobId, generation: Generation) -> bool {
        let Some(mesh) = self.meshes.get(&(job.clone(), generation)) else { return false };
        mesh.members
            .iter()
            .all(|member| self.workers.get(member).is_some_and(|worker| worker.at == Some(generation) && !worker.hung))
    }

    /// The next thing that a generation does together. Where a member is missing it stands still: its peers have
    /// said so, or the coordinator finds out.
    pub(crate) fn turn(&mut self, job: &JobId, generation: Generation, turn: u64) {
        let key = (job.clone(), generation);
        let due = self.meshes.get(&key).is_some_and(|mesh| mesh.turn == turn);
        if !due || !self.whole(job, generation) {
            return;
        }
        let Some(mesh) = self.meshes.get_mut(&key) else { return };
        match mesh.phase {
            Phase::Meeting => {
                mesh.phase = Phase::Training;
                self.even_out(&key);
                self.schedule(&key, self.step_ms(&key));
            }
            Phase::Training => self.step(&key),
            Phase::Saving => self.saved(&key),
        }
    }

    /// All have the newest state among them; when nobody has any, that of the newest checkpoint.
    fn even_out(&mut self, key: &(JobId, Generation)) {
        let members = self.members(key);
        let newest = members.iter().filter_map(|worker| self.workers.get(worker)?.step).max();
        let step = newest.or_else(|| self.checkpoints.get(&key.0).copied()).unwrap_or(0);
        let source =
            members.iter().filter_map(|worker| self.workers.get(worker)).find(|worker| worker.step == Some(step));
        // A checkpoint knows of the audits before it.
        let (taint, audits) =
            source.map_or((0, step / AUDIT_EVERY), |worker| (worker.replica.taint, worker.replica.audits));
        self.each(&members, |worker| {
            if worker.step != Some(step) {
                worker.step = Some(step);
                (worker.replica.taint, worker.replica.audits) = (taint, audits);
            }
        });
        if self.is_last(&key.0, step) {
            self.end(key);
        }
    }

    fn members(&self, key: &(JobId, Generation)) -> Vec<WorkerId> {
        self.meshes.get(key).map_or_else(Vec::new, |mesh| mesh.members.clone())
    }

    fn each(&mut self, workers: &[WorkerId], change: impl Fn(&mut SimWorker)) {
        for worker in workers {
            if let Some(entry) = self.workers.get_mut(worker) {
                change(entry);
            }
        }
    }

    fn is_last(&self, job: &JobId, step: u64) -> bool {
        let spec = self.jobs.iter().find(|(id, _)| id == job).map(|(_, spec)| spec);
        spec.is_some_and(|spec| spec.train.steps == Some(step))
    }

    fn step(&mut self, key: &(JobId, Generation)) {
        let (now, members) = (self.now, self.members(key));
        let step = members.first().and_then(|worker| self.workers.get(worker)?.step).unwrap_or_default();
        if !self.is_last(&key.0, step) {
            if self.differ(key, &members, step) || self.audit(key, &members, step) {
                return;
            }
            self.train(key, &members, step + 1);
        }
        self.each(&members, |worker| worker.last_step_at = now);
        let Some(mesh) = self.meshes.get_mut(key) else { return };
        mesh.first_step = false;
        self.boundary(key, &members);
    }

    /// A step takes as long as the slowest member computes.
    fn step_ms(&self, key: &(JobId, Generation)) -> u64 {
        let computes = |worker: &SimWorker| worker.shards() as f64 * worker.slowness * SHARD_MS;
        let members = self.members(key);
        let slowest = members.iter().filter_map(|worker| self.workers.get(worker)).map(computes).fold(0.0, f64::max);
        STEP_MS.max(slowest as u64)
    }

    fn train(&mut self, key: &(JobId, Generation), members: &[WorkerId], step: u64) {
        let first = self.meshes.get(key).is_some_and(|mesh| mesh.first_step);
        self.each(members, |worker| {
            worker.step = Some(step);
            worker.timed += worker.shards();
        });
        let followers: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| worker.at.is_none() && !worker.hung)
            .filter(|worker| worker.donor.as_ref().is_some_and(|donor| members.contains(donor)))
            .map(|worker| worker.id.clone())
            .collect();
        self.each(&followers, |worker| worker.step = Some(step));
        if first {
            self.say_resumed(key.1, members, step);
        }
        if step.is_multiple_of(CHECKPOINT_EVERY) {
            self.commit(&members[0], &key.0, step, "every 50 steps");
        }
        if self.is_last(&key.0, step) {
            self.end(key);
        }
    }

    fn say_resumed(&mut self, generation: Generation, members: &[WorkerId], step: u64) {
        for worker in members {
            let Some(entry) = self.workers.get_mut(worker) else { continue };
            let steps_repeated = u64::from(std::mem::take(&mut entry.dropped));
            let pause_ms = if entry.last_step_at == 0 { 0.0 } else { (self.now - entry.last_step_at) as f64 };
            let resumed = Event::Resumed { worker: worker.clone(), generation, step, pause_ms, steps_repeated };
            self.say(worker, resumed);
        }
    }

    /// The final checkpoint is committed and everybody says that it is done.
    fn end(&mut self, key: &(JobId, Generation)) {
        let members = self.members(key);
        let step = members.first().and_then(|worker| self.workers.get(worker)?.step).unwrap_or_default();
        self.commit(&members[0], &key.0, step, "final");
        self.each(&members, |worker| worker.finished = true);
        for worker in &members {
            self.say_finished(worker);
        }
    }

    /// All switch when all know of the same newer assignment, else train on.
    fn boundary(&mut self, key: &(JobId, Generation), members: &[WorkerId]) {
        let heard: BTreeSet<Generation> =
            members.iter().filter_map(|worker| Some(self.workers.get(worker)?.heard)).collect();
        let agreed = heard.len() == 1 && heard.first() > Some(&key.1);
        if !agreed {
            return self.schedule(key, self.step_ms(key));
        }
        let first = members.first().and_then(|worker| self.workers.get(worker)?.assigned.as_ref());
        let all_leave = first.is_some_and(|assigned| assigned.members.is_empty());
        if all_leave {
            if let Some(mesh) = self.meshes.get_mut(key) {
                mesh.phase = Phase::Saving;
            }
            return self.schedule(key, SAVE_MS);
        }
        for worker in members {
            self.switch(worker, false);
        }
    }

    fn saved(&mut self, key: &(JobId, Generation)) {
        let members = self.members(key);
        let step = members.first().and_then(|worker| self.workers.get(worker)?.step).unwrap_or_default();
        self.commit(&members[0], &key.0, step, "drain");
        for worker in &members {
            self.switch(worker, false);
        }
    }

    /// Those who met or trained with a process that ended see their connections to it break.
    pub(crate) fn peers_see_the_end_of(&mut self, dead: &SimWorker) {
        let generations: Vec<(JobId, Generation)> = self
            .meshes
            .iter()
            .filter(|((job, _), mesh)| *job == dead.job && mesh.members.contains(&dead.id))
            .map(|(key, _)| key.clone())
            .collect();
        for (job, generation) in generations {
            let peers = self.workers.values().filter(|peer| peer.job == job && peer.at == Some(generation));
            let peers: Vec<WorkerId> = peers.map(|peer| peer.id.clone()).collect();
            for worker in peers {
                let ms = self.random.range(1, 100);
                self.after(ms, Happening::Reset { worker, peer: dead.id.clone(), generation });
            }
        }
    }

    /// Whoever is not there any more when a worker comes to a meeting, or tells the coordinator again.
    pub(crate) fn accuse_the_dead(&mut self, worker: &WorkerId) {
        let Some(entry) = self.workers.get(worker) else { return };
        let (job, Some(generation)) = (entry.job.clone(), entry.at) else { return };
        for peer in self.members(&(job, generation)) {
            if !self.workers.contains_key(&peer) {
                let ms = self.random.range(1, 100);
                self.after(ms, Happening::Reset { worker: worker.clone(), peer, generation });
            }
        }
    }

    pub(crate) fn reset(&mut self, worker: &WorkerId, peer: &WorkerId, generation: Generation) {
        let Some(entry) = self.workers.get(worker).filter(|entry| entry.at == Some(generation) && !entry.hung) else {
            return;
        };
        // With a newer assignment at hand, the peer may be there already.
        let overtaken = entry.heard > generation;
        let detail = "connection reset by peer".to_owned();
        let (accuser, peer, unsure) = (worker.clone(), peer.clone(), overtaken);
        self.say(worker, Event::PeerLost { worker: accuser, generation, peer, detail, unsure });
        if overtaken {
            self.switch(worker, true);
        }
    }
}
