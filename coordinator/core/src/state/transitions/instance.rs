//! Changes of an instance, from its launch to its end.

use crate::event::DownCause;
use crate::ids::{InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::state::{Gone, Instance, InstanceState, Link, Speed, Standing, State, Worker};

impl State {
    /// A new instance and its worker, of the next number.
    ///
    /// # Panics
    /// When the pool has nothing free: the plan accounts for it.
    pub(crate) fn launch(&mut self, now: Timestamp, job: &JobId, pool: &PoolName) -> (InstanceId, WorkerId) {
        let capacity = self.pools.get(pool).map_or(0, |pool| pool.spec.capacity);
        assert!(self.in_use(pool) < capacity, "{pool} holds {capacity} and all are in use");
        let number = self.next_number;
        self.next_number += 1;
        self.changes.next_number = true;
        let (id, worker) = (InstanceId(format!("i{number}")), WorkerId(format!("w{number}")));
        let instance = Instance {
            id: id.clone(),
            worker: worker.clone(),
            job: job.clone(),
            pool: pool.clone(),
            launched: now,
            pid: None,
            state: InstanceState::Launching,
            taken: false,
            unlisted: false,
        };
        self.instances.insert(id.clone(), instance);
        let entry = Worker {
            id: worker.clone(),
            instance: id.clone(),
            job: job.clone(),
            number,
            link: Link::Never { since: now },
            standing: Standing::Waiting,
            departure: None,
            hello: None,
            progress: None,
            speed: Speed::default(),
            failure: None,
            last_lines: None,
        };
        self.workers.insert(worker.clone(), entry);
        self.changes.instances.insert(id.clone());
        (id, worker)
    }

    pub(crate) fn up(&mut self, instance: &InstanceId, pid: Option<u32>) {
        let entry = self.instance_mut(instance);
        entry.pid = pid.or(entry.pid);
        entry.unlisted = false;
        if entry.state == InstanceState::Launching {
            entry.state = InstanceState::Up;
        }
    }

    pub(crate) fn terminating(&mut self, instance: &InstanceId, again: Timestamp) {
        self.instance_mut(instance).state = InstanceState::Terminating { again };
    }

    pub(crate) fn unlisted(&mut self, instance: &InstanceId) {
        self.instance_mut(instance).unlisted = true;
    }

    /// Its pool takes it, or it was killed from outside. False when that was known.
    pub(crate) fn taken(&mut self, instance: &InstanceId) -> bool {
        !std::mem::replace(&mut self.instance_mut(instance).taken, true)
    }

    /// Takes the instance and its worker out. What its group makes of it is decided here, as for any loss.
    pub(crate) fn down(&mut self, instance: &InstanceId, cause: &DownCause) -> Gone {
        let Some(entry) = self.instances.remove(instance) else { panic!("instance {instance} is not known") };
        let Some(worker) = self.workers.remove(&entry.worker) else { panic!("{instance} has no worker") };
        self.changes.instances.insert(instance.clone());
        self.to_adopt.remove(&worker.id);
        let left = matches!(worker.standing, Standing::Leaving { .. }) && *cause == DownCause::Exited(0);
        if !left {
            let why = match &worker.failure {
                Some(failure) => format!("{} {}: {failure}", worker.id, cause.words()),
                None => format!("{} {}", worker.id, cause.words()),
            };
            self.break_if_needed(&worker.job, &worker.id, &worker.standing, why);
        }
        let gone = Gone { worker, instance: entry, cause: cause.clone() };
        self.gone.push_back(gone.clone());
        while self.gone.len() > self.settings.gone_max {
            self.gone.pop_front();
        }
        gone
    }
}
