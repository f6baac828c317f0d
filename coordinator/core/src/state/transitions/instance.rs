//! Changes of an instance, from its launch to its end.

use crate::event::DownCause;
use crate::ids::{InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::state::pairs::names;
use crate::state::{Gone, Instance, InstanceState, Link, Speed, Standing, State, Worker};

impl State {
    /// A new instance and its worker, of the next number.
    ///
    /// # Panics
    /// When the pool has nothing free: the plan accounts for it.
    pub(crate) fn launch(
        &mut self,
        now: Timestamp,
        job: &JobId,
        pool: &PoolName,
        replaces: Option<WorkerId>,
    ) -> (InstanceId, WorkerId) {
        let capacity = self.pools.get(pool).map_or(0, |pool| pool.spec.capacity);
        assert!(self.in_use(pool) < capacity, "{pool} holds {capacity} and all are in use");
        self.watch(now, pool);
        self.changes.pools.insert(pool.clone());
        let number = self.next_number;
        self.next_number += 1;
        self.changes.next_number = true;
        let (id, worker) = names(number);
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
        let entry = Worker {
            id: worker.clone(),
            instance: id.clone(),
            job: job.clone(),
            number,
            link: Link::Never { since: now },
            standing: Standing::Waiting,
            departure: None,
            replaces,
            at_risk: false,
            hello: None,
            progress: None,
            speed: Speed::default(),
            suspicion: None,
            failure: None,
            last_lines: None,
        };
        self.insert_pair(entry, instance);
        self.marks.touch(job);
        self.changes.instances.insert(id.clone());
        (id, worker)
    }

    /// An instance and its worker, with what is kept of where they are.
    pub(super) fn insert_pair(&mut self, worker: Worker, instance: Instance) {
        self.teams.entry(worker.job.clone()).or_default().insert(worker.number);
        if let Some(pool) = self.pools.get_mut(&instance.pool) {
            pool.in_use += 1;
        }
        self.pairs.insert(instance, worker);
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

    fn forget_pair(&mut self, worker: &Worker, instance: &Instance) {
        if let Some(team) = self.teams.get_mut(&worker.job) {
            team.remove(&worker.number);
            if team.is_empty() {
                self.teams.remove(&worker.job);
            }
        }
        if let Some(pool) = self.pools.get_mut(&instance.pool) {
            // Beyond its capacity it has as little to give as before.
            if pool.in_use == pool.spec.capacity {
                self.marks.touch_offers();
            }
            pool.in_use = pool.in_use.saturating_sub(1);
        }
        self.marks.touch(&worker.job);
        self.marks.pools = true;
    }

    /// Its pool takes it, or it was killed from outside. False when that was known.
    pub(crate) fn taken(&mut self, instance: &InstanceId) -> bool {
        !std::mem::replace(&mut self.instance_mut(instance).taken, true)
    }

    /// Takes the instance and its worker out. What its group makes of it is decided here, as for any loss.
    pub(crate) fn down(&mut self, now: Timestamp, instance: &InstanceId, cause: &DownCause) -> Gone {
        let pool = self.pairs.instance(instance).map(|instance| instance.pool.clone());
        if let Some(pool) = pool {
            self.watch(now, &pool);
            self.changes.pools.insert(pool);
        }
        let Some((entry, worker)) = self.pairs.remove(instance) else { panic!("instance {instance} is not known") };
        self.forget_pair(&worker, &entry);
        self.changes.instances.insert(instance.clone());
        self.to_adopt.remove(&worker.id);
        if !worker.left_well(cause) {
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
