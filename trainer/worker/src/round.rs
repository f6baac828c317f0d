//! One round: this worker's logical shards, the exchange, the update; and what happens at the boundary after it.

use crate::faults::Moment;
use crate::saver::Order;
use crate::setup::Failure;
use crate::trainer::Trainer;
use std::time::{Duration, Instant};
use trainctl_checkpoint::state_digest;
use trainctl_proto::v1::Resumed;
use trainctl_proto::v1::worker_message::Body;
use trainer_collective::{Mesh, MeshError, Point};
use trainer_core::membership::{Agreement, Header, Why};
use trainer_core::{Phase, Round};

/// A state is digested for the record at most this often, and so rarely that it costs less than one part in
/// [`DIGEST_SHARE`] of the time.
const DIGEST_EVERY: Duration = Duration::from_secs(1);
const DIGEST_SHARE: u32 = 500;
/// Weight of the newest step in the smoothed pace.
const NEWEST: f64 = 0.1;

/// Why a round did not end.
#[derive(Debug)]
pub(crate) enum RoundError {
    /// The mesh ended; the round's result is not known here.
    Mesh(MeshError),
    /// This worker can't go on.
    Failure(Failure),
}

impl From<MeshError> for RoundError {
    fn from(error: MeshError) -> Self {
        Self::Mesh(error)
    }
}

impl From<Failure> for RoundError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Trainer {
    /// Computes, exchanges and applies a round.
    ///
    /// # Errors
    /// See [`RoundError`].
    pub(crate) fn round(&mut self, mesh: &mut Mesh, round: Round) -> Result<Agreement, RoundError> {
        let step = round.step;
        let shards = mesh.shards();
        self.repeat(round);
        let logical_shards = self.parts.logical_shards;
        self.buffers(round.phase).begin(logical_shards, &shards);
        for shard in shards {
            self.parts.faults.at(step, Moment::Compute);
            if self.parts.control.attention() && self.parts.control.interrupts() {
                return Err(MeshError::Interrupted.into());
            }
            let engine = &mut self.parts.engine;
            if round.phase == Phase::Evaluate {
                engine.eval_shard(shard, self.evaluate.next_vector()).map_err(Failure::from)?;
                self.parts.faults.at(step, Moment::Evaluate);
                self.evaluate.push(shard);
            } else {
                engine.train_shard(step, shard, self.train.next_vector()).map_err(Failure::from)?;
                self.train.push(shard);
            }
        }
        let header = self.header(mesh, round);
        let control = self.parts.control.clone();
        let interrupted = || control.interrupts();
        let faults = &self.parts.faults;
        let mut at = |point| {
            faults.at(step, if point == Point::Reduce { Moment::Reduce } else { Moment::Gather });
        };
        let buffers = if round.phase == Phase::Evaluate { &mut self.evaluate } else { &mut self.train };
        let poller = &mut self.parts.poller;
        let headers = mesh.exchange(poller, round, header, buffers, &interrupted, &mut at)?;
        self.parts.faults.at(step, Moment::Apply);
        self.absorb(round)?;
        self.publish(round);
        self.done(round);
        Ok(self.parts.control.agree(&headers))
    }

    /// Passes a round's sum on to the joiners that follow this worker.
    pub(crate) fn publish(&mut self, round: Round) {
        let sum = if round.phase == Phase::Evaluate { self.evaluate.sum() } else { self.train.sum() };
        self.donor.publish(round, sum);
    }

    fn header(&mut self, mesh: &Mesh, round: Round) -> Header {
        self.save_asked |= self.parts.control.take_save().is_some();
        if let Some(took) = self.parts.saver.took() {
            self.saving.took(took);
        }
        let step = self.parts.rounds.after(round).step;
        // The last state is saved when the job is done, with its evaluation.
        let last = step >= self.parts.rounds.steps;
        Header {
            newest_generation: self.parts.control.newest_generation(),
            save_due: mesh.rank() == 0 && !last && self.saving.due(step, self.since_start()),
            save_asked: self.save_asked && !last,
            saving: self.parts.saver.busy(),
            ..Header::default()
        }
    }

    /// Counts a training round that was begun before and is computed again.
    fn repeat(&mut self, round: Round) {
        if round.phase == Phase::Train {
            if self.pace.begun == Some(round) {
                self.pace.repeated += 1;
            }
            self.pace.begun = Some(round);
        }
    }

    /// Measures and reports a round that is done.
    fn done(&mut self, round: Round) {
        let now = Instant::now();
        let since_last = self.pace.last_done.map(|last| now - last);
        if let Some((generation, pause)) = self.pace.unreported.take() {
            let pause = pause.or(since_last).unwrap_or_default();
            if round.phase == Phase::Train {
                let steps_repeated = std::mem::take(&mut self.pace.repeated);
                let (step, pause_ms) = (round.step + 1, pause.as_secs_f64() * 1e3);
                self.parts.control.tell(Body::Resumed(Resumed { generation, step, pause_ms, steps_repeated }));
            } else {
                self.pace.unreported = Some((generation, Some(pause)));
            }
        } else if let (Phase::Train, Some(since_last)) = (round.phase, since_last) {
            let rate = f64::from(self.parts.global_batch) / since_last.as_secs_f64().max(1e-9);
            let smoothed = &mut self.pace.samples_per_s;
            *smoothed = if *smoothed == 0.0 { rate } else { *smoothed + NEWEST * (rate - *smoothed) };
        }
        self.pace.last_done = Some(now);
        if round.phase == Phase::Evaluate {
            if let Some(evaluation) = self.evaluation {
                self.parts.control.tell(Body::Evaluated(evaluation));
            }
            return;
        }
        self.pace.begun = None;
        let digest = self.digest_if_cheap(now);
        let (loss, samples_per_s) = (self.loss, self.pace.samples_per_s);
        self.parts.control.progress(|p| {
            p.loss = loss;
            p.samples_per_s = samples_per_s;
            if let Some((digest, step)) = digest {
                p.state_digest = digest;
                p.state_digest_step = step;
            }
        });
    }

    fn digest_if_cheap(&mut self, now: Instant) -> Option<(String, u64)> {
        if let Some((at, cost)) = self.pace.digested
            && now - at < (cost * DIGEST_SHARE).max(DIGEST_EVERY)
        {
            return None;
        }
        let step = self.position?.step;
        let digest = state_digest(self.parts.engine.tensors(), self.parts.engine.state(), step).to_string();
        self.pace.digested = Some((now, now.elapsed()));
        Some((digest, step))
    }

    /// Between two rounds: joiners get the state, and a checkpoint that all agreed on begins.
    pub(crate) fn at_boundary(&mut self, mesh: &Mesh, save: Option<Why>) {
        let Some(position) = self.position else { return };
        let length = self.parts.engine.train_len();
        let faults = &self.parts.faults;
        let state = self.parts.engine.state();
        self.donor.admit(&self.parts.inbox, position, state, length, &mut || {
            faults.at(position.step, Moment::ServeState);
        });
        if let Some(why) = save {
            let why = if why == Why::Asked { "asked for".to_owned() } else { self.saving.rule() };
            self.save_asked = false;
            self.saving.begun(position.step, self.since_start());
            let order = self.order(mesh, why);
            // How it ends is told to the coordinator by the writer.
            drop(self.parts.saver.begin(order, self.parts.engine.state(), None));
        }
    }

    /// This worker's part of a checkpoint of the current state.
    pub(crate) fn order(&self, mesh: &Mesh, why: String) -> Order {
        Order {
            step: self.position.map_or(0, |p| p.step),
            part: u32::try_from(mesh.rank()).unwrap_or(u32::MAX),
            parts: u32::try_from(mesh.world_size()).unwrap_or(u32::MAX),
            generation: mesh.assignment().generation,
            loss: self.loss,
            why,
        }
    }
}
