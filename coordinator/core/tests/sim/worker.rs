//! A worker in virtual time: it follows the protocol and computes nothing; its state is the number of updates applied.

use crate::mesh::SHARD_MS;
use crate::replicas::Replica;
use crate::setup::digest;
use crate::world::{Happening, World};
use coordinator_core::{
    Checkpoint, Evaluation, Event, Generation, Holding, InstanceId, JobId, Member, Progress, ShardTime, Timestamp,
    ToWorker, WorkerId,
};

#[derive(Clone, Debug)]
pub(crate) struct SimWorker {
    pub(crate) id: WorkerId,
    pub(crate) instance: InstanceId,
    pub(crate) job: JobId,
    pub(crate) pid: u32,
    pub(crate) fingerprint: &'static str,
    /// Open stream; each has its number.
    pub(crate) stream: Option<u64>,
    streams: u64,
    inbound: i64,
    outbound: i64,
    pub(crate) welcomed: bool,
    /// The newest assignment that it has heard of.
    pub(crate) heard: Generation,
    pub(crate) assigned: Option<Assigned>,
    /// The generation that it meets or trains in.
    pub(crate) at: Option<Generation>,
    /// Updates applied.
    pub(crate) step: Option<u64>,
    /// Whose updates it follows.
    pub(crate) donor: Option<WorkerId>,
    /// It is out of its group since this generation, and waits until it may go.
    pub(crate) aside: Option<Generation>,
    /// It dropped a step that it must compute again.
    pub(crate) dropped: bool,
    pub(crate) finished: bool,
    pub(crate) leaving: bool,
    /// Frozen: it says and does nothing, its connections stay open.
    pub(crate) hung: bool,
    pub(crate) notice: Option<Timestamp>,
    pub(crate) last_step_at: i64,
    pub(crate) replica: Replica,
    /// It takes so many times as long as others.
    pub(crate) slowness: f64,
    /// Logical shards that it has timed.
    pub(crate) timed: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub(crate) generation: Generation,
    pub(crate) members: Vec<Member>,
    pub(crate) rollbacks: u64,
}

impl Assigned {
    pub(crate) fn has(&self, worker: &WorkerId) -> bool {
        self.members.iter().any(|member| member.worker == *worker)
    }
}

impl SimWorker {
    /// Logical shards that it computes in a step.
    pub(crate) fn shards(&self) -> u64 {
        let members = self.assigned.iter().flat_map(|assigned| &assigned.members);
        let own = members.filter(|member| member.worker == self.id);
        own.map(|member| u64::from(member.end_shard - member.first_shard)).sum()
    }

    pub(crate) fn new(id: WorkerId, instance: InstanceId, job: JobId, pid: u32) -> Self {
        Self {
            id,
            instance,
            job,
            pid,
            fingerprint: "a",
            stream: None,
            streams: 0,
            inbound: 0,
            outbound: 0,
            welcomed: false,
            heard: Generation::default(),
            assigned: None,
            at: None,
            step: None,
            donor: None,
            aside: None,
            dropped: false,
            finished: false,
            leaving: false,
            hung: false,
            notice: None,
            last_step_at: 0,
            replica: Replica::default(),
            slowness: 1.0,
            timed: 0,
        }
    }

    pub(crate) fn break_stream(&mut self) {
        self.stream = None;
    }

    /// Milliseconds from now at which what is sent to it now arrives: never before what was sent earlier.
    pub(crate) fn inbound_at(&mut self, now: i64, delay_ms: u64) -> u64 {
        self.inbound = self.inbound.max(now + delay_ms as i64);
        (self.inbound - now) as u64
    }

    pub(crate) fn outbound_at(&mut self, now: i64, delay_ms: u64) -> u64 {
        self.outbound = self.outbound.max(now + delay_ms as i64);
        (self.outbound - now) as u64
    }
}

impl World {
    pub(crate) fn attach(&mut self, worker: &WorkerId) {
        let again_ms = self.random.range(200, 1_000);
        let up = self.core.is_some();
        let Some(entry) = self.workers.get_mut(worker) else { return };
        if entry.stream.is_some() {
            return;
        }
        if !up || entry.hung {
            return self.after(again_ms, Happening::Attach { worker: worker.clone() });
        }
        entry.streams += 1;
        entry.stream = Some(entry.streams);
        let holding = entry.welcomed.then(|| Holding {
            job: entry.job.clone(),
            generation: entry.heard,
            step: entry.step,
            finished: entry.finished,
        });
        let hello = Event::WorkerAttached {
            worker: worker.clone(),
            instance: entry.instance.clone(),
            pid: entry.pid,
            address: format!("10.0.0.1:{}", entry.pid),
            fingerprint: entry.fingerprint.to_owned(),
            fingerprint_detail: format!("libtorch, kernels {}", entry.fingerprint),
            holding,
        };
        let finished = entry.finished;
        self.say(worker, hello);
        // What the coordinator may have missed is said again.
        self.say_notice(worker);
        if finished {
            self.say_finished(worker);
        }
        self.say_disputes(worker);
        self.say_aside(worker);
        self.accuse_the_dead(worker);
    }

    pub(crate) fn detach(&mut self, worker: &WorkerId) {
        let Some(entry) = self.workers.get_mut(worker) else { return };
        if entry.stream.is_none() {
            return;
        }
        entry.break_stream();
        let (seen_ms, back_ms) = (self.random.range(1, 50), self.random.range(60, 3_000));
        self.after(seen_ms, Happening::FromCloud(Event::WorkerDetached { worker: worker.clone() }));
        self.after(back_ms, Happening::Attach { worker: worker.clone() });
    }

    pub(crate) fn heartbeat(&mut self, worker: &WorkerId) {
        // Measures are off by up to 5 % either way.
        let noise = self.random.range(950, 1_050) as f64 / 1e3;
        let Some(entry) = self.workers.get(worker) else { return };
        if !entry.hung {
            let seconds = SHARD_MS / 1e3 * entry.slowness * noise;
            let progress = Progress {
                generation: entry.at.unwrap_or_default(),
                step: entry.step,
                loss: entry.step.map(|step| 1.0 / (1.0 + step as f64)),
                samples_per_s: 640.0,
                state_digest: None,
                shard_time: (entry.timed > 0).then_some(ShardTime { seconds, timed: entry.timed }),
                skipped_steps: 0,
                audits_passed: entry.replica.audits,
            };
            self.say(worker, Event::Heartbeat { worker: worker.clone(), progress });
        }
        self.after(self.heartbeat_ms(), Happening::Heartbeat { worker: worker.clone() });
    }

    pub(crate) fn say_notice(&mut self, worker: &WorkerId) {
        let Some(entry) = self.workers.get(worker) else { return };
        if let Some(deadline) = entry.notice {
            let notice = Event::EvictionNotice { instance: entry.instance.clone(), deadline };
            self.say(worker, notice);
        }
    }

    pub(crate) fn say_aside(&mut self, worker: &WorkerId) {
        let Some(entry) = self.workers.get(worker) else { return };
        if let Some(generation) = entry.aside {
            let step = entry.step.unwrap_or_default();
            self.say(worker, Event::WorkerAside { worker: worker.clone(), generation, step });
        }
    }

    pub(crate) fn say_finished(&mut self, worker: &WorkerId) {
        let Some(entry) = self.workers.get(worker) else { return };
        let (state, step) = (entry.digest(), entry.step.unwrap_or_default());
        let evaluation = Evaluation { step, loss: 0.1, accuracy: Some(0.98) };
        let finished = Event::WorkerFinished {
            worker: worker.clone(),
            step,
            loss: Some(0.1),
            evaluation: Some(evaluation),
            state_digest: state,
        };
        self.say(worker, finished);
    }

    /// The checkpoint of `job` is committed, and `worker` says so.
    pub(crate) fn commit(&mut self, worker: &WorkerId, job: &JobId, step: u64, why: &str) {
        self.check_committed(worker);
        self.checkpoints.insert(job.clone(), step);
        let checkpoint = Checkpoint {
            step,
            bytes: 1_000,
            seconds: 0.1,
            stall_ms: 1.0,
            why: why.to_owned(),
            state_digest: digest(job, step),
            committed: self.time(),
        };
        self.say(worker, Event::CheckpointCommitted { worker: worker.clone(), checkpoint });
    }

    /// What the coordinator says.
    pub(crate) fn hear(&mut self, worker: &WorkerId, message: ToWorker) {
        let Some(entry) = self.workers.get_mut(worker) else { return };
        if entry.hung || entry.leaving {
            return;
        }
        match message {
            ToWorker::Welcome { .. } => entry.welcomed = true,
            ToWorker::Assign { generation, immediate, members, rollback, .. } => {
                if generation > entry.heard {
                    entry.heard = generation;
                    let rollbacks = rollback.map_or(0, |corruption| corruption.number);
                    entry.assigned = Some(Assigned { generation, members, rollbacks });
                    self.assigned(worker, immediate);
                }
            }
            ToWorker::Join { donor, rollbacks, .. } => {
                entry.roll_back(rollbacks);
                entry.donor = None;
                let ms = self.random.range(50, 1_500);
                self.after(ms, Happening::Fetched { worker: worker.clone(), donor: donor.worker });
            }
            ToWorker::Exit { .. } => self.leave(worker, 0),
        }
    }

    pub(crate) fn leave(&mut self, worker: &WorkerId, status: i32) {
        let ms = self.random.range(5, 200);
        if let Some(entry) = self.workers.get_mut(worker) {
            entry.leaving = true;
            self.after(ms, Happening::Exit { worker: worker.clone(), status });
        }
    }

    /// The state of the donor, if that still has one to give.
    pub(crate) fn fetched(&mut self, worker: &WorkerId, donor: &WorkerId) {
        let given = self.workers.get(donor).filter(|donor| !donor.hung);
        let given = given.and_then(|donor| Some((donor.step?, donor.replica.taint, donor.replica.audits)));
        let Some(entry) = self.workers.get_mut(worker) else { return };
        let (Some((step, taint, audits)), None, false) = (given, entry.at, entry.hung) else { return };
        entry.step = Some(step);
        (entry.replica.taint, entry.replica.audits) = (taint, audits);
        entry.donor = Some(donor.clone());
        self.say(worker, Event::JoinerReady { worker: worker.clone(), step });
    }
}
