//! One round: this worker's logical shards, the exchange, the update; and what happens at the boundary after it.

use crate::audit::Part;
use crate::faults::Moment;
use crate::gpus::{GpuError, GpuGroup};
use crate::saver::Order;
use crate::setup::Failure;
use crate::trainer::Trainer;
use anyhow::anyhow;
use std::time::{Duration, Instant};
use trainctl_checkpoint::state_digest;
use trainctl_proto::v1::Resumed;
use trainctl_proto::v1::worker_message::Body;
use trainer_collective::{Context, Exchange, Mesh, MeshError, Point};
use trainer_core::membership::{Agreement, Header, Why};
use trainer_core::replicas::Dispute;
use trainer_core::{Phase, Round};
use trainer_nccl::NcclError;

/// A state is digested for the record at most this often, and so rarely that it costs less than one part in
/// [`DIGEST_SHARE`] of the time.
const DIGEST_EVERY: Duration = Duration::from_secs(1);
const DIGEST_SHARE: u32 = 500;
/// Beyond the bound of silence, what the pulse may take to say that a peer is lost.
const NOTICED: Duration = Duration::from_secs(1);
/// Weight of the newest step in the smoothed pace.
const NEWEST: f64 = 0.1;

/// Why a round did not end.
#[derive(Debug)]
pub(crate) enum RoundError {
    /// The mesh ended; the round's result is not known here.
    Mesh(MeshError),
    /// Members hold different states.
    Differ(Dispute),
    /// This worker can't go on.
    Failure(Failure),
}

impl From<Dispute> for RoundError {
    fn from(dispute: Dispute) -> Self {
        Self::Differ(dispute)
    }
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
    pub(crate) fn round(
        &mut self,
        mesh: &mut Mesh,
        gpus: Option<&mut GpuGroup>,
        round: Round,
    ) -> Result<Agreement, RoundError> {
        let step = round.step;
        self.repeat(round);
        if round.phase == Phase::Train {
            self.flip_a_bit(step);
        }
        let headers = match gpus.filter(|_| round.phase == Phase::Train) {
            Some(gpus) => self.sum_on_gpus(mesh, gpus, round)?,
            None => self.sum(mesh, round)?,
        };
        self.compare_shown(mesh, round, &headers)?;
        self.compare_audit(mesh, round, &headers)?;
        self.parts.faults.at(step, Moment::Apply);
        self.absorb(round)?;
        self.publish(round);
        self.give(&headers);
        self.done(round);
        Ok(self.parts.control.agree(&headers))
    }

    /// Computes this worker's shards and exchanges what they give, the last while it is being computed.
    fn sum(&mut self, mesh: &mut Mesh, round: Round) -> Result<Vec<Header>, RoundError> {
        let step = round.step;
        let evaluates = round.phase == Phase::Evaluate;
        let (control, faults) = (self.parts.control.clone(), self.parts.faults.clone());
        let interrupted = || control.interrupts();
        let mut at = |point| {
            faults.at(step, if point == Point::Reduce { Moment::Reduce } else { Moment::Gather });
        };
        let shards = mesh.shards();
        let mut audit = self.audit_part(mesh, round);
        let mut cx = Context {
            mesh,
            poller: &mut self.parts.poller,
            buffers: if evaluates { &mut self.evaluate } else { &mut self.train },
            interrupted: &interrupted,
            at: &mut at,
        };
        let mut exchange = Exchange::begin(&mut cx, round)?;
        for shard in shards {
            faults.at(step, Moment::Compute);
            if control.attention() && control.interrupts() {
                return Err(MeshError::Interrupted.into());
            }
            cx.mesh.check()?;
            let engine = &mut self.parts.engine;
            if evaluates {
                exchange.shard(&mut cx, shard, |vector, _| engine.eval_shard(shard, vector)).map_err(Failure::from)?;
                faults.at(step, Moment::Evaluate);
            } else {
                let (began, spent) = (Instant::now(), exchange.spent());
                let part = audit.as_mut().filter(|part| part.concerns(shard));
                let audited = part.is_some();
                exchange
                    .shard(&mut cx, shard, |vector, ready| match part {
                        Some(part) => part.shard(engine, shard, vector, ready),
                        None => engine.train_shard(step, shard, vector, ready),
                    })
                    .map_err(Failure::from)?;
                self.parts.slowness.stretch(step, began);
                if !audited {
                    let took = began.elapsed().saturating_sub(exchange.spent() - spent);
                    self.pace.shard_time.took(took.as_secs_f64());
                }
            }
        }
        let header = self.header(mesh, round, audit.as_ref());
        let mut cx = Context {
            mesh,
            poller: &mut self.parts.poller,
            buffers: if evaluates { &mut self.evaluate } else { &mut self.train },
            interrupted: &interrupted,
            at: &mut at,
        };
        Ok(exchange.finish(&mut cx, header)?)
    }

    /// The same where gradients stay on the members' GPUs. The headers go over the mesh, while the devices still compute,
    /// and the sum comes to where the others' is.
    fn sum_on_gpus(&mut self, mesh: &mut Mesh, gpus: &mut GpuGroup, round: Round) -> Result<Vec<Header>, RoundError> {
        let step = round.step;
        let (control, faults) = (self.parts.control.clone(), self.parts.faults.clone());
        let interrupted = || control.interrupts();
        let mut audit = self.audit_part(mesh, round);
        gpus.begin();
        for shard in mesh.shards() {
            faults.at(step, Moment::Compute);
            if control.attention() && control.interrupts() {
                return Err(MeshError::Interrupted.into());
            }
            mesh.check()?;
            let began = Instant::now();
            let part = audit.as_mut().filter(|part| part.concerns(shard));
            let audited = part.is_some();
            let computed = self.shard_on_gpus(gpus, part, (step, shard));
            computed.map_err(|error| self.gpus_ended(mesh, error))?;
            self.parts.slowness.stretch(step, began);
            if !audited {
                self.pace.shard_time.took(began.elapsed().as_secs_f64());
            }
        }
        let header = self.header(mesh, round, audit.as_ref()).to_bytes();
        let headers = mesh.notes(&mut self.parts.poller, round, header, &interrupted)?;
        let headers = mesh.headers(&headers)?;
        faults.at(step, Moment::Reduce);
        let exchanged = gpus.exchange((mesh, &mut self.parts.poller, round), &interrupted);
        exchanged.map_err(|error| self.gpus_ended(mesh, error))?;
        faults.at(step, Moment::Gather);
        // Until here a peer may still ask for the last sum.
        gpus.read(self.train.sum_mut()).map_err(|error| self.gpus_ended(mesh, error))?;
        Ok(headers)
    }

    /// What ended a sum between GPUs. NCCL says that a peer is lost, not which one, and may know it before the pulse does.
    fn gpus_ended(&mut self, mesh: &Mesh, error: GpuError) -> RoundError {
        let error = match error {
            GpuError::Mesh(error) => return error.into(),
            GpuError::Failure(failure) => return failure.into(),
            GpuError::Nccl(error) => error,
        };
        let silence = self.parts.gpus.as_ref().map_or(Duration::ZERO, |gpus| gpus.silence);
        let deadline = Instant::now() + silence + NOTICED;
        loop {
            if let Err(lost) = mesh.check() {
                return lost.into();
            }
            if error == NcclError::Interrupted || self.parts.control.interrupts() {
                return MeshError::Interrupted.into();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !matches!(error, NcclError::PeerLost { .. }) {
                return Failure::of_worker(&anyhow!(error)).into();
            }
            if let Err(failure) = self.wait(Some(left)) {
                return failure.into();
            }
        }
    }

    /// Passes a round's sum on to the joiners that follow this worker.
    pub(crate) fn publish(&mut self, round: Round) {
        let sum = if round.phase == Phase::Evaluate { self.evaluate.sum() } else { self.train.sum() };
        self.donor.publish(round, sum);
    }

    /// Joiners get this worker's share of the state, if all their donors showed in these headers that they are ready.
    fn give(&mut self, headers: &[Header]) {
        let Some(next) = self.position else { return };
        let (state, length) = (self.parts.engine.state(), self.parts.engine.train_len());
        let faults = &self.parts.faults;
        self.donor.admit(headers, next, state, length, &mut || faults.at(next.step, Moment::ServeState));
    }

    fn header(&mut self, mesh: &Mesh, round: Round, audit: Option<&Part>) -> Header {
        self.save_asked |= self.parts.control.take_save().is_some();
        if let Some(took) = self.parts.saver.took() {
            self.saving.took(took);
        }
        let step = self.parts.rounds.after(round).step;
        // The last state is saved when the job is done, with its evaluation.
        let last = step >= self.parts.rounds.steps;
        let mut header = Header {
            newest_generation: self.parts.control.newest_generation(),
            save_due: mesh.rank() == 0 && !last && self.saving.due(step, self.since_start()),
            save_asked: self.save_asked && !last,
            saving: self.parts.saver.busy(),
            joiner: self.donor.offer(&self.parts.inbox, self.parts.engine.state().len()),
            audits_passed: self.audits_passed,
            ..Header::default()
        };
        if let Some(part) = audit {
            part.show(&mut header);
        }
        self.show_state(mesh, &mut header);
        header
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
        let (shard_seconds, shards_timed) = (self.pace.shard_time.seconds(), self.pace.shard_time.timed());
        self.parts.control.progress(|p| {
            p.loss = loss;
            p.samples_per_s = samples_per_s;
            if let Some(seconds) = shard_seconds {
                (p.shard_seconds, p.shards_timed) = (seconds, shards_timed);
            }
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

    /// Between two rounds: a checkpoint that all agreed on begins.
    ///
    /// # Errors
    /// The model changed what is not part of its state, and would be saved without it.
    pub(crate) fn at_boundary(&mut self, mesh: &Mesh, save: Option<Why>) -> Result<(), Failure> {
        let Some(position) = self.position else { return Ok(()) };
        if let Some(why) = save {
            self.parts.engine.check_constants()?;
            let why = if why == Why::Asked { "asked for".to_owned() } else { self.saving.rule() };
            self.save_asked = false;
            self.saving.begun(position.step, self.since_start());
            let order = self.order(mesh, why);
            // How it ends is told to the coordinator by the writer.
            drop(self.parts.saver.begin(order, self.parts.engine.state(), None));
        }
        Ok(())
    }

    /// This worker's part of a checkpoint of the current state.
    pub(crate) fn order(&self, mesh: &Mesh, why: String) -> Order {
        Order {
            step: self.position.map_or(0, |p| p.step),
            part: u32::try_from(mesh.rank()).unwrap_or(u32::MAX),
            parts: u32::try_from(mesh.world_size()).unwrap_or(u32::MAX),
            generation: mesh.assignment().generation,
            loss: self.loss,
            audits_passed: self.audits_passed,
            why,
        }
    }
}
