//! A provider in virtual time: pools whose capacity comes and goes, processes that start, get notices and are killed.

use crate::trace::Row;
use crate::worker::SimWorker;
use crate::world::{Happening, World};
use coordinator_core::{
    DownCause, Event, InstanceId, JobId, LaunchError, LaunchErrorKind, PoolName, PoolSpec, ProviderName, Scope,
    Timestamp, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Cloud {
    pub(crate) pools: BTreeMap<PoolName, PoolSpec>,
    /// Processes, from their launch to their end.
    pub(crate) running: BTreeMap<InstanceId, Process>,
    /// Nodes of the replayed fleet, and the instance on each.
    nodes: BTreeMap<String, Option<InstanceId>>,
    next_pid: u32,
    pub(crate) outages: Vec<Outage>,
    /// They have ended, and the scheduler will be told.
    ending: BTreeSet<InstanceId>,
}

/// Launches from some pools fail for a while, all alike.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    /// What their names begin with.
    pub(crate) pools: &'static str,
    pub(crate) until: i64,
    pub(crate) kind: LaunchErrorKind,
    pub(crate) scope: Scope,
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

impl Cloud {
    /// Whether or not a scheduler was there to hear it.
    pub(crate) fn told_down(&mut self, instance: &InstanceId) {
        self.ending.remove(instance);
    }

    /// What each provider runs.
    pub(crate) fn listed(&self) -> BTreeMap<ProviderName, Vec<(InstanceId, Option<u32>)>> {
        let mut listed: BTreeMap<ProviderName, Vec<_>> = BTreeMap::new();
        for pool in self.pools.values() {
            listed.entry(pool.place.provider.clone()).or_default();
        }
        for (id, process) in &self.running {
            if let Some(pool) = self.pools.get(&process.pool) {
                listed.entry(pool.place.provider.clone()).or_default().push((id.clone(), process.pid));
            }
        }
        listed
    }
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
        let outage = self.cloud.outages.iter().find(|one| self.now < one.until && pool.0.starts_with(one.pools));
        if let Some(Outage { kind, scope, .. }) = outage {
            let error = LaunchError { kind: *kind, scope: *scope, message: "an outage".to_owned() };
            return self.after(delay_ms, Happening::FromCloud(Event::LaunchFailed { instance, error }));
        }
        if used >= capacity as usize || self.faults.launch_fails(self.now, &mut self.random) {
            let error = LaunchError {
                kind: LaunchErrorKind::NoCapacity,
                scope: Scope::Zone,
                message: "no capacity".to_owned(),
            };
            let event = Event::LaunchFailed { instance, error };
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
        let up = Event::InstanceUp { instance: instance.clone(), pid: Some(pid), machine: None };
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
        self.cloud.ending.insert(instance.clone());
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
            if self.cloud.ending.contains(instance) {
                return;
            }
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

    /// The zone takes all that it gave, at once, and has nothing until `back_ms` from now.
    pub(crate) fn reclaim(&mut self, pool: &str, back_ms: u64) {
        let name = PoolName::from(pool);
        let here = self.cloud.running.iter().filter(|(_, process)| process.pool == name);
        let taken: Vec<InstanceId> = here.map(|(instance, _)| instance.clone()).collect();
        let capacity = self.cloud.pools.get(&name).map_or(0, |pool| pool.capacity);
        self.capacity(pool, -i64::from(capacity));
        self.after(back_ms, Happening::Capacity { pool: pool.to_owned(), more: i64::from(capacity) });
        for instance in taken {
            self.after(0, Happening::Deadline { instance, evicted: true });
        }
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
