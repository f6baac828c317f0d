//! What goes wrong, and when.

use crate::random::Random;
use crate::setup::LOGICAL_SHARDS;
use crate::world::{Happening, World};
use coordinator_core::{Event, Generation, InstanceId, WorkerId};

const START: i64 = 1_700_000_000_000;

/// One fault.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// `kill -9` of a worker.
    Kill,
    /// Every worker at once.
    KillAll,
    /// The pool takes an instance.
    Evict { notice_ms: u64 },
    /// The pool takes every instance at once.
    EvictAll { notice_ms: u64 },
    /// Someone asks a worker to leave.
    Drain,
    /// A stream breaks and comes back.
    Detach,
    /// A worker takes so many times as long as others from now on.
    Slow { factor: f64 },
    /// A bit flips in a worker's memory.
    Flip,
    /// A worker computes a logical shard wrong, without a flipped bit in what it holds.
    Miscompute,
    /// A worker can't save.
    FullDisk,
    /// A worker has no GPU that works.
    NoGpu,
    /// A worker freezes for good.
    Hang,
    /// A worker accuses a living peer.
    Slander,
    /// A message of a generation that is over, or never was.
    Stray,
    /// The coordinator crashes at this action from now.
    Crash { after_actions: u64 },
    /// Someone cancels the last job.
    Cancel,
    /// A drill through the coordinator.
    Drill { notice_ms: u64 },
    /// The coordinator stops and keeps the jobs; it starts again later.
    Suspend,
    /// All get a notice but one of several members, which is gone without a word at about the same time.
    Crossfire { notice_ms: u64 },
}

/// What may go wrong in a run.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    until_ms: i64,
    count: u64,
    kinds: Vec<Fault>,
    launches: bool,
    breaks_starts: bool,
    fingerprints: bool,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self { until_ms: 0, count: 0, kinds: Vec::new(), launches: false, breaks_starts: false, fingerprints: false }
    }

    /// Everything but crashes of the coordinator.
    pub(crate) fn all(seed: u64) -> Self {
        let kinds = vec![
            Fault::Kill,
            Fault::Kill,
            Fault::KillAll,
            Fault::Evict { notice_ms: 5_000 },
            Fault::Evict { notice_ms: 5_000 },
            Fault::Evict { notice_ms: 300 },
            Fault::Evict { notice_ms: 0 },
            Fault::EvictAll { notice_ms: 5_000 },
            Fault::EvictAll { notice_ms: 400 },
            Fault::Drain,
            Fault::Detach,
            Fault::Slow { factor: 8.0 },
            Fault::Slow { factor: 1.0 },
            Fault::Flip,
            Fault::Flip,
            Fault::Miscompute,
            Fault::FullDisk,
            Fault::NoGpu,
            Fault::Hang,
            Fault::Slander,
            Fault::Stray,
            Fault::Cancel,
            Fault::Drill { notice_ms: 3_000 },
            Fault::Suspend,
        ];
        let (launches, fingerprints) = (seed.is_multiple_of(2), seed.is_multiple_of(5));
        Self { until_ms: START + 120_000, count: 12, kinds, launches, breaks_starts: launches, fingerprints }
    }

    /// Only what comes with notice enough, and breaks no process.
    pub(crate) fn planned_only() -> Self {
        let kinds = vec![
            Fault::Evict { notice_ms: 5_000 },
            Fault::EvictAll { notice_ms: 8_000 },
            Fault::Drain,
            Fault::Slow { factor: 8.0 },
            Fault::Detach,
            Fault::Stray,
            Fault::Drill { notice_ms: 5_000 },
            Fault::Suspend,
        ];
        Self { until_ms: START + 120_000, count: 12, kinds, launches: true, breaks_starts: false, fingerprints: false }
    }

    /// There is always someone left with time to hand over.
    pub(crate) fn crossfire() -> Self {
        let kinds = vec![Fault::Crossfire { notice_ms: 5_000 }];
        let none = Self::none();
        Self { until_ms: START + 100_000, count: 4, kinds, ..none }
    }

    pub(crate) fn with_restarts(mut self) -> Self {
        let crashes = [0, 1, 2, 3, 5, 8, 13].map(|after_actions| Fault::Crash { after_actions });
        self.kinds.extend(crashes);
        self.count += 6;
        self
    }

    pub(crate) fn schedule(&self, random: &mut Random) -> Vec<(u64, Fault)> {
        let window_ms = (self.until_ms - START).max(1) as u64;
        let one = |_| Some((random.range(0, window_ms), random.pick(&self.kinds)?.clone()));
        (0..self.count).filter_map(one).collect()
    }

    pub(crate) fn over(&self, now: i64) -> bool {
        now > self.until_ms
    }

    pub(crate) fn launch_fails(&self, now: i64, random: &mut Random) -> bool {
        self.launches && !self.over(now) && random.one_in(4)
    }

    pub(crate) fn start_fails(&self, now: i64, random: &mut Random) -> bool {
        self.launches && self.breaks_starts && !self.over(now) && random.one_in(10)
    }

    pub(crate) fn fingerprint(&self, now: i64, random: &mut Random) -> &'static str {
        if self.fingerprints && !self.over(now) && random.one_in(8) { "b" } else { "a" }
    }
}

impl World {
    pub(crate) fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => {
                if let Some(instance) = self.some_instance() {
                    self.kill(&instance);
                }
            }
            Fault::KillAll => {
                for instance in self.all_instances() {
                    self.kill(&instance);
                }
            }
            Fault::Evict { notice_ms } => {
                if let Some(instance) = self.some_instance() {
                    self.evict(&instance, notice_ms);
                }
            }
            Fault::EvictAll { notice_ms } => {
                for instance in self.all_instances() {
                    self.evict(&instance, notice_ms);
                }
            }
            Fault::Drain => {
                if let Some(worker) = self.some_worker() {
                    self.tell(Event::DrainRequested { worker });
                }
            }
            Fault::Detach => {
                if let Some(worker) = self.some_worker() {
                    self.detach(&worker);
                }
            }
            Fault::Slow { factor } => {
                let worker = self.some_worker();
                if let Some(entry) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
                    entry.slowness = factor;
                }
            }
            Fault::Flip => {
                let worker = self.some_worker();
                if let Some(entry) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
                    entry.replica.flips = true;
                }
            }
            Fault::Miscompute => {
                let worker = self.some_worker();
                if let Some(entry) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
                    entry.replica.miscomputes = true;
                }
            }
            Fault::FullDisk => {
                if let Some(worker) = self.some_worker() {
                    self.tell(Event::SaveFailed { worker, step: 50, reason: "no space left".to_owned() });
                }
            }
            Fault::NoGpu => {
                let worker = self.some_worker();
                if let Some((worker, at)) =
                    worker.and_then(|worker| Some((worker.clone(), self.workers.get(&worker)?.at?)))
                {
                    self.tell(Event::NcclFailed { worker, generation: at, reason: "no CUDA device 0".to_owned() });
                }
            }
            Fault::Hang => {
                let worker = self.some_worker();
                if let Some(entry) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
                    entry.hung = true;
                }
            }
            Fault::Slander => self.slander(),
            Fault::Stray => self.stray(),
            Fault::Crash { after_actions } => self.crash_after(after_actions),
            Fault::Drill { notice_ms } => {
                if let Some(worker) = self.some_worker() {
                    self.tell(Event::EvictRequested { worker, notice_ms });
                }
            }
            Fault::Suspend => self.suspend(),
            Fault::Crossfire { notice_ms } => self.crossfire(notice_ms),
            Fault::Cancel => {
                if let Some((job, _)) = self.jobs.last().cloned() {
                    self.tell(Event::CancelRequested { job });
                }
            }
        }
    }

    fn crossfire(&mut self, notice_ms: u64) {
        let members = self.workers.values().filter(|worker| worker.at.is_some());
        let members: Vec<InstanceId> = members.map(|worker| worker.instance.clone()).collect();
        let warned = self.workers.values().any(|worker| worker.notice.is_some());
        let Some(victim) = self.random.pick(&members).cloned().filter(|_| members.len() > 1 && !warned) else { return };
        for instance in self.all_instances().iter().filter(|instance| **instance != victim) {
            self.evict(instance, notice_ms);
        }
        let ms = self.random.range(0, 100);
        self.after(ms, Happening::Deadline { instance: victim, evicted: true });
    }

    fn all_instances(&self) -> Vec<InstanceId> {
        self.cloud.running.keys().cloned().collect()
    }

    fn some_instance(&mut self) -> Option<InstanceId> {
        let all = self.all_instances();
        self.random.pick(&all).cloned()
    }

    fn some_worker(&mut self) -> Option<WorkerId> {
        let all: Vec<WorkerId> = self.workers.keys().cloned().collect();
        self.random.pick(&all).cloned()
    }

    fn slander(&mut self) {
        let (Some(worker), Some(peer)) = (self.some_worker(), self.some_worker()) else { return };
        let generation = self.workers.get(&worker).and_then(|worker| worker.at).unwrap_or_default();
        self.tell(Event::PeerLost { worker, generation, peer, detail: "timed out".to_owned(), unsure: false });
    }

    fn stray(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        let generation = Generation(self.random.range(0, 60));
        let heard = self.workers.get(&worker).map_or(Generation::default(), |worker| worker.heard);
        if generation < heard {
            // It is over for everyone, or the worker has trained in it: both must do no harm.
            let (generation, peer, detail) = (Generation(0), "w1".into(), String::new());
            self.tell(Event::PeerLost { worker, generation, peer, detail, unsure: false });
            return;
        }
        let step = u64::from(LOGICAL_SHARDS);
        let future = Generation(generation.0 + 1_000);
        self.tell(Event::Resumed { worker, generation: future, step, pause_ms: 0.0, steps_repeated: 0 });
    }
}
