//! The training thread: idle until there is an assignment, then in a group until the group ends, and so on. What it
//! holds between two groups is a state and its place in the sequence of rounds, nothing else.

use crate::control::Control;
use crate::faults::Faults;
use crate::follow::Following;
use crate::gpus::Gpus;
use crate::group::Next;
use crate::replicas::Disputes;
use crate::saver::Saver;
use crate::setup::Failure;
use crate::slow::Slowness;
use anyhow::Context;
use std::time::{Duration, Instant};
use trainctl_checkpoint::{Digest, RunFolder, RunRecord, state_digest};
use trainctl_proto::v1::Heartbeat;
use trainer_collective::{Buffers, Donor, Inbox, Mesh, Numerics, Poller};
use trainer_core::audit::Schedule;
use trainer_core::catch_up::Position;
use trainer_core::saving::{Every, Saving};
use trainer_core::shard_time::ShardTime;
use trainer_core::{Assignment, Phase, Round, Rounds};
use trainer_engine::{Engine, EngineError};

/// A worker's planned end.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Why, in words.
    pub(crate) why: String,
}

/// What a trainer is made of.
pub(crate) struct Parts {
    pub(crate) rounds: Rounds,
    pub(crate) numerics: Numerics,
    pub(crate) global_batch: u32,
    pub(crate) orphan_after: Duration,
    pub(crate) every: Every,
    /// Which steps are audited.
    pub(crate) audits: Schedule,
    pub(crate) engine: Engine,
    /// Where gradients may stay on GPUs.
    pub(crate) gpus: Option<Gpus>,
    /// Makes the engine anew, in the job's first state.
    pub(crate) make_engine: Box<dyn Fn() -> Result<Engine, Failure>>,
    pub(crate) folder: RunFolder,
    pub(crate) record: RunRecord,
    pub(crate) origins: Origins,
    pub(crate) saver: Saver,
    pub(crate) poller: Poller,
    pub(crate) inbox: Inbox,
    pub(crate) control: Control,
    pub(crate) faults: Faults,
    pub(crate) slowness: Slowness,
}

/// What the job was made from, which the run's folder keeps.
pub(crate) struct Origins {
    /// The data manifest, byte for byte.
    pub(crate) manifest_json: String,
    /// Where the job's own module is, and its digest.
    pub(crate) module: Option<(String, String)>,
}

/// The training thread's state.
pub(crate) struct Trainer {
    pub(crate) parts: Parts,
    pub(crate) began: Instant,
    /// Of the job's first state.
    pub(crate) first_digest: Digest,
    /// The round that comes next; `None` without a state.
    pub(crate) position: Option<Round>,
    pub(crate) train: Buffers,
    pub(crate) evaluate: Buffers,
    pub(crate) loss: Option<f64>,
    pub(crate) evaluation: Option<trainctl_proto::v1::Evaluated>,
    pub(crate) saving: Saving,
    pub(crate) save_asked: bool,
    pub(crate) donor: Donor,
    pub(crate) following: Option<Following>,
    /// The last generation's connections, kept until the next is entered: closing them earlier would look like a
    /// death to peers that don't know yet.
    pub(crate) last_mesh: Option<Mesh>,
    /// The last generation, if it ended without an agreement.
    pub(crate) broken: Option<Assignment>,
    /// It is out of its group, for this reason, and waits until it may go.
    pub(crate) aside: Option<String>,
    pub(crate) pace: Pace,
    pub(crate) disputes: Disputes,
    /// Of the whole run, as far as this worker knows.
    pub(crate) audits_passed: u64,
}

/// What is measured of the rounds.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the last round was done.
    pub(crate) last_done: Option<Instant>,
    /// A training round that was begun and not finished.
    pub(crate) begun: Option<Round>,
    /// Rounds computed again since the last report.
    pub(crate) repeated: u64,
    /// The generation whose first training round is still to come, and the pause before its first round of any kind.
    pub(crate) unreported: Option<(u64, Option<Duration>)>,
    /// Smoothed samples a second, of the whole group.
    pub(crate) samples_per_s: f64,
    /// Of the logical shards that this worker computes in training steps.
    pub(crate) shard_time: ShardTime,
    /// When the state was last digested, and how long that took.
    pub(crate) digested: Option<(Instant, Duration)>,
}

impl Trainer {
    /// # Errors
    /// When there is no memory for a round's vectors.
    pub(crate) fn new(parts: Parts) -> Result<Self, Failure> {
        let buffers = |length| {
            let made = Buffers::new(length, parts.numerics).context("make a round's vectors");
            made.map_err(|e| Failure::of_worker(&e))
        };
        let train = buffers(parts.engine.train_len())?;
        let evaluate = buffers(parts.engine.eval_len())?;
        let first_digest = state_digest(parts.engine.tensors(), parts.engine.state(), 0);
        let saving = Saving::new(parts.every, 0, Duration::ZERO);
        Ok(Self {
            parts,
            began: Instant::now(),
            first_digest,
            position: None,
            train,
            evaluate,
            loss: None,
            evaluation: None,
            saving,
            save_asked: false,
            donor: Donor::default(),
            following: None,
            last_mesh: None,
            broken: None,
            aside: None,
            pace: Pace::default(),
            disputes: Disputes::default(),
            audits_passed: 0,
        })
    }

    /// Trains until there is nothing left to do for this worker.
    ///
    /// # Errors
    /// When it can't go on.
    pub(crate) fn run(mut self) -> Result<Ended, Failure> {
        let mut next = Next::Idle;
        loop {
            next = match next {
                Next::Idle => self.idle()?,
                Next::Enter(assignment) => self.group(&assignment)?,
                Next::End(why) => return Ok(Ended { why }),
            };
        }
    }

    fn idle(&mut self) -> Result<Next, Failure> {
        let idle_since = Instant::now();
        loop {
            if let Some(reason) = self.parts.control.exit() {
                return Ok(Next::End(self.aside.take().unwrap_or(reason)));
            }
            if let Some(assignment) = self.parts.control.enter_newest() {
                return Ok(Next::Enter(assignment));
            }
            if let Some((donors, rollbacks)) = self.parts.control.take_join() {
                self.roll_back(rollbacks);
                self.follow(donors);
            }
            let again = self.advance_following()?;
            if again == Some(Duration::ZERO) {
                continue;
            }
            let mut wait = again;
            if let Some(alone_since) = self.parts.control.alone_since() {
                let left = self.parts.orphan_after.saturating_sub(alone_since.max(idle_since).elapsed());
                if left.is_zero() {
                    return Ok(self.orphaned());
                }
                wait = Some(wait.map_or(left, |w| w.min(left)));
            }
            self.wait(wait)?;
        }
    }

    /// Waits for the bell, a followed donor, or the time.
    pub(crate) fn wait(&mut self, at_most: Option<Duration>) -> Result<(), Failure> {
        self.parts.poller.wait(at_most).context("wait").map_err(|e| Failure::of_worker(&e))
    }

    /// Where this worker stands, for its peers.
    pub(crate) fn standing(&self) -> Position {
        let leads_to = |next| move |sum_of: Round| self.parts.rounds.after(sum_of) == next;
        let holds_sum = self.position.is_some_and(|next| {
            [&self.train, &self.evaluate].into_iter().filter_map(Buffers::sum_of).any(leads_to(next))
        });
        Position { next: self.position, holds_sum }
    }

    /// Takes a place in the sequence of rounds, with the state for it in the engine.
    pub(crate) fn stand_at(&mut self, round: Round) {
        self.position = Some(round);
        let (step, skipped_steps) = (round.step, self.parts.engine.skipped());
        self.parts.control.progress(|p: &mut Heartbeat| {
            p.has_state = true;
            p.step = step;
            p.skipped_steps = skipped_steps;
        });
    }

    /// Turns the sum of the round that comes next, which is in its buffers, into the state after it.
    pub(crate) fn absorb(&mut self, round: Round) -> Result<(), Failure> {
        match round.phase {
            Phase::Train => {
                let stats = self.parts.engine.apply(round.step, self.train.sum())?;
                match stats.skipped {
                    None => self.loss = Some(f64::from(stats.loss)),
                    Some(what) => tracing::warn!(step = round.step, "skipped: {what} is not finite"),
                }
            }
            Phase::Evaluate => {
                let engine = &self.parts.engine;
                let evaluation = match engine.evaluation(self.evaluate.sum()) {
                    Err(error @ EngineError::EvaluationNotFinite { .. }) if engine.skips_nonfinite() => {
                        tracing::warn!(step = round.step, "skipped: {error}");
                        None
                    }
                    other => other?,
                };
                self.evaluation = evaluation.map(|e| trainctl_proto::v1::Evaluated {
                    step: round.step,
                    loss: e.loss,
                    accuracy: e.accuracy,
                });
            }
            Phase::Done => {}
        }
        self.buffers(round.phase).sum_is(round);
        self.stand_at(self.parts.rounds.after(round));
        Ok(())
    }

    /// The buffers of a phase.
    pub(crate) fn buffers(&mut self, phase: Phase) -> &mut Buffers {
        if phase == Phase::Evaluate { &mut self.evaluate } else { &mut self.train }
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.began.elapsed()
    }

    /// Enters the running group's place in time: from now on pauses are counted to this generation.
    pub(crate) fn entered(&mut self, generation: u64) {
        self.pace.unreported = Some((generation, None));
        self.pace.shard_time.begin();
        self.parts.control.progress(|p| {
            p.generation = generation;
            // The last generation's figure says nothing of this one.
            p.shard_seconds = 0.0;
        });
    }
}
