//! A worker: whether it holds the state, and what it says and hears.

use super::{Happening, World};
use coordinator_core::{Event, InstanceId, Progress, ShardTime, ToWorker, WorkerId};

#[derive(Debug)]
pub(super) struct VirtualWorker {
    pub(super) instance: InstanceId,
    /// It has the state, at the group's step.
    pub(super) holds: bool,
    /// Counts what it was told to fetch: what was overtaken is dropped.
    fetches: u64,
    /// Logical shards that it has timed.
    timed: u64,
}

impl VirtualWorker {
    pub(super) fn new(instance: InstanceId) -> Self {
        Self { instance, holds: false, fetches: 0, timed: 0 }
    }
}

impl World<'_> {
    pub(super) fn heartbeat(&mut self, worker: &WorkerId) {
        let (step, shards) = (self.group_step(), self.group_shards(worker));
        let rate = self.samples_per_s();
        let shard_seconds = self.shard_seconds();
        let (generation, trains) = (self.group.generation(), self.group.trains(worker));
        let Some(entry) = self.workers.get_mut(worker) else { return };
        entry.timed += if trains { shards } else { 0 };
        let shard_time = trains.then_some(ShardTime { seconds: shard_seconds, timed: entry.timed });
        let progress = Progress {
            generation: if trains { generation } else { Default::default() },
            step: entry.holds.then_some(step),
            loss: None,
            samples_per_s: if trains { rate } else { 0.0 },
            state_digest: None,
            shard_time,
            skipped_steps: 0,
            audits_passed: 0,
        };
        self.tell(Event::Heartbeat { worker: worker.clone(), progress });
        self.after(self.conditions.heartbeat_ms, Happening::Heartbeat(worker.clone()));
    }

    pub(super) fn hear(&mut self, worker: &WorkerId, message: ToWorker) {
        match message {
            ToWorker::Welcome { .. } => {}
            ToWorker::Assign { generation, immediate, members, .. } => {
                let members = members.into_iter().map(|member| member.worker).collect();
                self.assigned(generation, immediate, members);
            }
            ToWorker::Join { .. } => {
                let Some(entry) = self.workers.get_mut(worker) else { return };
                entry.fetches += 1;
                let turn = entry.fetches;
                self.after(self.conditions.transfer_ms, Happening::Fetched { worker: worker.clone(), turn });
            }
            ToWorker::Exit { .. } => self.leave(worker),
        }
    }

    /// The state of the group, if anybody has it still.
    pub(super) fn fetched(&mut self, worker: &WorkerId, turn: u64) {
        let (step, held) = (self.group_step(), self.group_holds());
        let Some(entry) = self.workers.get_mut(worker) else { return };
        if entry.fetches == turn && held {
            entry.holds = true;
            self.tell(Event::JoinerReady { worker: worker.clone(), step });
        }
    }
}
