//! What the members of a generation do together: meet, train at the rate of so many, change at a step boundary, save,
//! finish. One group at a time, as the scheduler hands out one generation at a time.

use super::{Happening, World};
use coordinator_core::{Checkpoint, Event, Generation, Timestamp, WorkerId};
use trainctl_jobs::CheckpointEvery;

/// From an assignment to the first step of those who hold the state: connections are made anew.
const MEET_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Group {
    /// The newest that was heard of.
    heard: Generation,
    /// The one that it is in.
    generation: Generation,
    members: Vec<WorkerId>,
    phase: Phase,
    /// Counts what was scheduled.
    turn: u64,
    /// Updates applied at `since_ms`.
    base: u64,
    since_ms: f64,
    step_ms: f64,
    /// To switch to at the next step boundary.
    pending: Option<(Generation, Vec<WorkerId>)>,
    /// Of the newest checkpoint.
    saved: u64,
    /// A step was dropped.
    dropped: bool,
    stopped_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// There is none, or a member is lost and the scheduler has not said yet how to go on.
    #[default]
    Still,
    Meeting,
    FirstStep,
    Training,
    Saving,
}

impl Group {
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn trains(&self, worker: &WorkerId) -> bool {
        matches!(self.phase, Phase::FirstStep | Phase::Training) && self.members.contains(worker)
    }

    /// Updates applied.
    fn step(&self, now_ms: u64, last: u64) -> u64 {
        if !matches!(self.phase, Phase::FirstStep | Phase::Training) {
            return self.base;
        }
        // A boundary is looked at in the millisecond after it.
        let done = (now_ms as f64 - self.since_ms) / self.step_ms + 1e-9;
        (self.base + done.max(0.0) as u64).min(last)
    }
}

impl World<'_> {
    pub(super) fn group_step(&self) -> u64 {
        self.group.step(self.now_ms, self.workload.steps)
    }

    /// Somebody of the group has its state.
    pub(super) fn group_holds(&self) -> bool {
        self.group.members.iter().any(|member| self.workers.get(member).is_some_and(|worker| worker.holds))
    }

    pub(super) fn group_shards(&self, worker: &WorkerId) -> u64 {
        let members = self.group.members.len().max(1) as u64;
        let shards = u64::from(self.workload.spec.train.logical_shards);
        if self.group.members.contains(worker) { shards.div_ceil(members) } else { 0 }
    }

    pub(super) fn shard_seconds(&self) -> f64 {
        let members = u32::try_from(self.group.members.len()).unwrap_or(u32::MAX).max(1);
        let shards = self.workload.spec.train.logical_shards.div_ceil(members);
        self.group.step_ms / 1e3 / f64::from(shards)
    }

    pub(super) fn samples_per_s(&self) -> f64 {
        f64::from(self.workload.spec.train.global_batch) / (self.group.step_ms / 1e3).max(1e-9)
    }

    /// All attached workers hear an assignment at once, so the first to hear acts for all.
    pub(super) fn assigned(&mut self, generation: Generation, immediate: bool, members: Vec<WorkerId>) {
        if generation <= self.group.heard {
            return;
        }
        self.group.heard = generation;
        let trains = matches!(self.group.phase, Phase::FirstStep | Phase::Training);
        if immediate || (!trains && self.group.phase != Phase::Saving) {
            self.group.dropped |= immediate && trains;
            return self.enter(generation, members);
        }
        self.group.pending = Some((generation, members));
        if trains {
            self.schedule_step();
        }
    }

    /// A member is gone for good.
    pub(super) fn lose(&mut self, worker: &WorkerId) {
        if self.group.members.contains(worker) && self.group.phase != Phase::Still {
            self.group.dropped = true;
            self.stand_still();
        }
    }

    fn stand_still(&mut self) {
        if matches!(self.group.phase, Phase::FirstStep | Phase::Training) {
            self.group.base = self.group_step();
            self.group.stopped_ms = self.now_ms;
        }
        self.group.phase = Phase::Still;
        self.group.turn += 1;
    }

    /// From one generation into the next, or out.
    fn enter(&mut self, generation: Generation, members: Vec<WorkerId>) {
        self.stand_still();
        self.group.pending = None;
        let step = self.group.base;
        for leaver in self.group.members.clone() {
            if !members.contains(&leaver) && self.workers.contains_key(&leaver) {
                if members.is_empty() {
                    self.say(Event::WorkerLeft { worker: leaver.clone(), generation, step });
                    self.leave(&leaver);
                } else {
                    self.say(Event::WorkerAside { worker: leaver, generation, step });
                }
            }
        }
        self.group.generation = generation;
        self.group.members = members;
        let members = &self.group.members;
        if members.is_empty() || members.iter().any(|member| !self.workers.contains_key(member)) {
            return;
        }
        let held = self.group_holds();
        if !held {
            self.group.base = self.group.saved;
        }
        self.group.phase = Phase::Meeting;
        self.group_in(if held { MEET_MS } else { self.conditions.transfer_ms.max(MEET_MS) });
    }

    fn group_in(&mut self, ms: u64) {
        self.group.turn += 1;
        let turn = self.group.turn;
        self.after(ms, Happening::Group { turn });
    }

    pub(super) fn group_turn(&mut self, turn: u64) {
        if turn != self.group.turn {
            return;
        }
        match self.group.phase {
            Phase::Still => {}
            Phase::Meeting => self.begin(),
            Phase::FirstStep | Phase::Training => self.at_a_step(),
            Phase::Saving => self.saved(),
        }
    }

    fn begin(&mut self) {
        for member in self.group.members.clone() {
            if let Some(worker) = self.workers.get_mut(&member) {
                worker.holds = true;
            }
        }
        let size = u32::try_from(self.group.members.len()).unwrap_or(u32::MAX);
        self.group.step_ms = self.workload.step_ms_on(size);
        self.group.since_ms = self.now_ms as f64;
        self.group.phase = Phase::FirstStep;
        if self.group.base >= self.workload.steps { self.finish() } else { self.schedule_step() }
    }

    /// The next step at which something is to be done.
    fn schedule_step(&mut self) {
        let done = self.group_step();
        let soon = self.group.phase == Phase::FirstStep || self.group.pending.is_some();
        let next = if soon { done + 1 } else { self.workload.steps.min(self.group.saved + self.save_every()) };
        let next = next.max(done + 1).min(self.workload.steps);
        let at_ms = self.group.since_ms + (next - self.group.base) as f64 * self.group.step_ms;
        self.group_in((at_ms.ceil() as u64).saturating_sub(self.now_ms).max(1));
    }

    fn save_every(&self) -> u64 {
        let steps = |ms: f64| ((ms / self.group.step_ms) as u64).max(1);
        match self.workload.spec.checkpoint.every {
            CheckpointEvery::Steps(count) => count,
            CheckpointEvery::Seconds(seconds) => steps(seconds as f64 * 1e3),
            CheckpointEvery::Auto => steps(self.conditions.checkpoint_ms as f64),
        }
    }

    fn at_a_step(&mut self) {
        let step = self.group_step();
        if self.group.phase == Phase::FirstStep && step > self.group.base {
            self.group.phase = Phase::Training;
            self.say_resumed();
        }
        if step >= self.workload.steps {
            return self.finish();
        }
        if step >= self.group.saved + self.save_every() {
            self.commit(step, "regular");
        }
        match self.group.pending.take() {
            Some((generation, members)) if members.is_empty() => {
                self.stand_still();
                self.group.pending = Some((generation, members));
                self.group.phase = Phase::Saving;
                self.group_in(self.conditions.transfer_ms);
            }
            Some((generation, members)) => self.enter(generation, members),
            None => self.schedule_step(),
        }
    }

    fn say_resumed(&mut self) {
        let steps_repeated = u64::from(std::mem::take(&mut self.group.dropped));
        let pause_ms = self.now_ms.saturating_sub(self.group.stopped_ms) as f64;
        let (generation, step) = (self.group.generation, self.group.base + 1);
        for worker in self.group.members.clone() {
            self.say(Event::Resumed { worker, generation, step, pause_ms, steps_repeated });
        }
    }

    fn saved(&mut self) {
        self.commit(self.group.base, "drain");
        if let Some((generation, members)) = self.group.pending.take() {
            self.enter(generation, members);
        }
    }

    fn commit(&mut self, step: u64, why: &str) {
        self.group.saved = step;
        let Some(worker) = self.group.members.first().cloned() else { return };
        let committed = Timestamp(super::BEGIN_MS + i64::try_from(self.now_ms).unwrap_or(0));
        let checkpoint = Checkpoint {
            step,
            bytes: 0,
            seconds: 0.0,
            stall_ms: 0.0,
            why: why.to_owned(),
            state_digest: digest(step),
            committed,
        };
        self.say(Event::CheckpointCommitted { worker, checkpoint });
    }

    fn finish(&mut self) {
        let step = self.workload.steps;
        self.stand_still();
        self.group.base = step;
        self.commit(step, "final");
        for worker in self.group.members.clone() {
            let (loss, evaluation) = (None, None);
            self.say(Event::WorkerFinished { worker, step, loss, evaluation, state_digest: digest(step) });
        }
    }
}

/// Equal bits, whoever computed them.
fn digest(step: u64) -> String {
    format!("virtual@{step}")
}
