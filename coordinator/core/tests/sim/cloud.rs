//! A provider in virtual time: pools whose capacity comes and goes, processes that start, get notices and are killed.

use crate::trace::Row;
use crate::worker::SimWorker;
use crate::world::{Happening, World};
use coordinator_core::{DownCause, Event, InstanceId, JobId, LaunchError, PoolName, PoolSpec, Timestamp, WorkerId};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Cloud {
    pub(crate) pools: BTreeMap<PoolName, PoolSpec>,
    /// Processes, from their launch to their end.
    pub(crate) running: BTreeMap<InstanceId, Process>,
    /// Nodes of the replayed fleet, and the instance on each.
    nodes: BTreeMap<String, Option<InstanceId>>,
    next_pid: u32,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) worker: WorkerId,
    pub(crate) pool: PoolName,
    pub(crate) job: JobId,
    pub(crate) pid: Option<u32>,
    /// Why the provider will say that it ended, when it has a hand in it.
    pub(crate) cause: Option<DownCause>,
}

impl World {
    /// Twice with one id starts one only.
    pub(crate) fn launch(&mut self, instance: InstanceId, worker: WorkerId, pool: PoolName, job: JobId) {
        if self.cloud.running.contains_key(&instance) {
            return;
        }
        let capacity = self.cloud.pools.get(&pool).map_or(0, |pool| pool.capacity);
        let used = self.cloud.running.values().filter(|process| process.pool == pool).count();
        let delay_ms = self.random.range(5, 200);
        if used >= capacity as usize || self.faults.launch_fails(self.now, &mut self.random) {
            let event = Event::LaunchFailed { instance, error: LaunchError::NoCapacity };
            return self.after(delay_ms, Happening::FromCloud(event));
        }
        if let Some(node) = self.cloud.nodes.values_mut().find(|node| node.is_none()) {
            *node = Some(instance.clone());
        }
        self.cloud.running.insert(instance.clone(), Process { worker, pool, job, pid: None, cause: None });
        self.after(delay_ms, Happening::Started { instance });
    }

    pub(crate) fn started(&mut self, instance: &InstanceId) {
        let Some(process) = self.cloud.running.get_mut(instance) else { return };
        self.cloud.next_pid += 1;
        process.pid = Some(self.cloud.next_pid);
        let (pid, worker, job) = (self.cloud.next_pid, process.worker.clone(), process.job.clone());
        let mut entry = SimWorker::new(worker.clone(), instance.clone(), job, pid);
        entry.fingerprint = self.faults.fingerprint(self.now, &mut self.random);
        entry.slowness = self.slowness.get(&worker).copied().unwrap_or(1.0);
        self.workers.insert(worker.clone(), entry);
        let report_ms = self.random.range(1, 400);
        let up = Event::InstanceUp { instance: instance.clone(), pid: Some(pid) };
        self.after(report_ms, Happening::FromCloud(up));
        if self.faults.start_fails(self.now, &mut self.random) {
            let ms = self.random.range(50, 2_000);
            return self.after(ms, Happening::Exit { worker, status: 3 });
        }
        let attach_ms = self.random.range(300, 3_000);
        self.after(attach_ms, Happening::Attach { worker: worker.clone() });
        self.after(attach_ms + 500, Happening::Heartbeat { worker });
    }

    /// The process is gone; peers and the provider notice, each in its own time.
    pub(crate) fn ended(&mut self, instance: &InstanceId, cause: DownCause) {
        let Some(process) = self.cloud.running.remove(instance) else { return };
        for node in self.cloud.nodes.values_mut().filter(|node| node.as_ref() == Some(instance)) {
            *node = None;
        }
        if let Some(worker) = self.workers.remove(&process.worker) {
            self.peers_see_the_end_of(&worker);
            if worker.stream.is_some() {
                let ms = self.random.range(1, 300);
                self.after(ms, Happening::FromCloud(Event::WorkerDetached { worker: worker.id }));
            }
        }
        let ms = self.random.range(1, 300);
        let event = Event::InstanceDown { instance: instance.clone(), cause: process.cause.unwrap_or(cause) };
        self.after(ms, Happening::FromCloud(event));
    }

    pub(crate) fn exit(&mut self, worker: &WorkerId, status: i32) {
        let instance = self.cloud.running.iter().find(|(_, process)| process.worker == *worker);
        if let Some(instance) = instance.map(|(instance, _)| instance.clone()) {
            self.ended(&instance, DownCause::Exited(status));
        }
    }

    pub(crate) fn kill(&mut self, instance: &InstanceId) {
        self.ended(instance, DownCause::Killed(9));
    }

    pub(crate) fn terminate(&mut self, instance: &InstanceId, grace_ms: u64) {
        let Some(process) = self.cloud.running.get_mut(instance) else {
            // Unknown ones are fine: the scheduler is told that it is gone.
            let down = Event::InstanceDown { instance: instance.clone(), cause: DownCause::Terminated };
            return self.after(1, Happening::FromCloud(down));
        };
        process.cause.get_or_insert(DownCause::Terminated);
        self.after(grace_ms + 1, Happening::Deadline { instance: instance.clone(), evicted: false });
    }

    /// The pool takes the instance and its capacity; the capacity comes back after a while.
    pub(crate) fn evict(&mut self, instance: &InstanceId, notice_ms: u64) {
        let Some(process) = self.cloud.running.get(instance) else { return };
        let (pool, worker) = (process.pool.clone(), process.worker.clone());
        self.capacity(&pool.0, -1);
        let back_ms = notice_ms + self.random.range(500, 20_000);
        self.after(back_ms, Happening::Capacity { pool: pool.0, more: 1 });
        self.give_notice(instance, &worker, notice_ms);
    }

    fn give_notice(&mut self, instance: &InstanceId, worker: &WorkerId, notice_ms: u64) {
        self.after(notice_ms, Happening::Deadline { instance: instance.clone(), evicted: true });
        if notice_ms == 0 {
            return;
        }
        let deadline = Timestamp(self.now + notice_ms as i64);
        let notice = Event::EvictionNotice { instance: instance.clone(), deadline };
        let ms = self.random.range(1, 50);
        self.after(ms, Happening::FromCloud(notice));
        if let Some(entry) = self.workers.get_mut(worker) {
            entry.notice = Some(deadline);
            self.say_notice(worker);
        }
    }

    pub(crate) fn deadline(&mut self, instance: &InstanceId, evicted: bool) {
        if let Some(process) = self.cloud.running.get_mut(instance) {
            if evicted {
                process.cause = Some(DownCause::Evicted);
            }
            self.ended(instance, DownCause::Terminated);
        }
    }

    pub(crate) fn capacity(&mut self, pool: &str, more: i64) {
        let Some(entry) = self.cloud.pools.get_mut(&PoolName::from(pool)) else { return };
        entry.capacity = u32::try_from(i64::from(entry.capacity) + more).unwrap_or(0);
        let pool = entry.clone();
        self.tell(Event::PoolChanged { pool });
    }

    /// Capacity is the nodes that are there, up to `max`; a node that goes takes its instance with the pool's notice.
    pub(crate) fn node(&mut self, row: &Row, pool: &str, max: u32) {
        let taken = if row.added {
            self.cloud.nodes.insert(row.node.clone(), None);
            None
        } else {
            self.cloud.nodes.remove(&row.node).flatten()
        };
        let Some(entry) = self.cloud.pools.get_mut(&PoolName::from(pool)) else { return };
        entry.capacity = u32::try_from(self.cloud.nodes.len()).unwrap_or(max).min(max);
        let (pool, notice_ms) = (entry.clone(), entry.notice_ms);
        self.tell(Event::PoolChanged { pool });
        let worker = taken.as_ref().and_then(|instance| self.cloud.running.get(instance));
        if let (Some(worker), Some(instance)) = (worker.map(|process| process.worker.clone()), taken) {
            self.give_notice(&instance, &worker, notice_ms);
        }
    }
}
