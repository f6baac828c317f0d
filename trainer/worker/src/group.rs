//! One generation, from the meeting of its members to its end: by agreement at a step boundary, by a lost peer, by an
//! assignment that can't wait, or because the job is done.

use crate::attachment::unix_ms;
use crate::faults::Moment;
use crate::follow::Following;
use crate::gpus::GpuGroup;
use crate::round::RoundError;
use crate::saver::Share;
use crate::setup::Failure;
use crate::trainer::Trainer;
use anyhow::anyhow;
use std::time::{Duration, Instant, SystemTime};
use trainctl_checkpoint::{Evaluation, GroupBegan, RunEvent};
use trainctl_proto::v1::PeerLost;
use trainctl_proto::v1::worker_message::Body;
use trainer_collective::{Meeting, Mesh, MeshError};
use trainer_core::catch_up::{CatchUp, Need, POSITION, Position, plan};
use trainer_core::{Assignment, Member, Phase, Round};

/// A peer that got the same immediate assignment but doesn't come within this time is reported as lost.
const MEETING_PATIENCE: Duration = Duration::from_secs(10);
/// The same when the others may first have a step to finish.
const PLANNED_PATIENCE: Duration = Duration::from_secs(600);
/// How long a group waits for a joiner to take the last sums from the peer that it follows.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// What a worker does after this.
#[derive(Debug)]
pub(crate) enum Next {
    /// Wait for an assignment.
    Idle,
    /// Be a member of this generation.
    Enter(Assignment),
    /// End, for this reason.
    End(String),
}

impl Trainer {
    /// Takes part in a generation.
    ///
    /// # Errors
    /// When this worker can't go on at all.
    pub(crate) fn group(&mut self, assignment: &Assignment) -> Result<Next, Failure> {
        self.last_mesh = None;
        if let Some(rollbacks) = self.parts.control.rollbacks_at(assignment.generation) {
            self.roll_back(rollbacks);
        }
        if assignment.members.is_empty() {
            return self.save_alone_and_leave(assignment);
        }
        if assignment.rank_of(&self.parts.inbox.me().worker).is_none() {
            return Ok(self.step_aside(assignment));
        }
        self.aside = None;
        self.parts.control.takes_part();
        self.cover_for_the_lost(assignment);
        let mut mesh = match self.meet(assignment) {
            Ok(mesh) => mesh,
            Err(error) => return self.end_of_mesh(error, assignment, None),
        };
        match self.train_in(&mut mesh) {
            Ok(Some(generation)) => self.switch(mesh, generation, assignment),
            Ok(None) => self.finish(mesh, assignment),
            Err(error) => self.end_of_mesh(error, assignment, Some(mesh)),
        }
    }

    /// A save that lost a worker: those that hold a copy of its state are the survivors, and all know who these are.
    fn cover_for_the_lost(&mut self, assignment: &Assignment) {
        let Some(broken) = self.broken.take() else { return };
        let survives = |member: &&Member| broken.rank_of(&member.worker).is_some();
        let survivors: Vec<&Member> = assignment.members.iter().filter(survives).collect();
        let me = survivors.iter().position(|member| member.worker == self.parts.inbox.me().worker);
        if let Some(me) = me.filter(|_| survivors.len() < broken.members.len()) {
            let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
            self.parts.saver.cover(Share { part: number(me), parts: number(survivors.len()) });
        }
    }

    /// Why a generation ended without an agreement.
    ///
    /// # Errors
    /// When this worker can't go on.
    pub(crate) fn end_of_mesh(
        &mut self,
        error: RoundError,
        assignment: &Assignment,
        mesh: Option<Mesh>,
    ) -> Result<Next, Failure> {
        self.last_mesh = mesh;
        self.donor.disagree();
        self.broken = matches!(error, RoundError::Mesh(_)).then(|| assignment.clone());
        match error {
            RoundError::Failure(failure) => return Err(failure),
            RoundError::Differ(dispute) => return Ok(self.differ(assignment, &dispute)),
            RoundError::Mesh(MeshError::Interrupted) => {}
            RoundError::Mesh(MeshError::Lost { worker, detail }) => {
                tracing::info!(generation = assignment.generation, "lost {worker}: {detail}");
                self.saving.lost_member();
                // With a newer planned assignment at hand, a closed connection may be a peer's that is there already;
                // one that can't wait says that the coordinator knows.
                if !self.parts.control.interrupts() {
                    let (generation, unsure) = (assignment.generation, self.parts.control.overtaken());
                    self.parts.control.tell(Body::PeerLost(PeerLost { generation, worker, detail, unsure }));
                }
            }
            RoundError::Mesh(error @ (MeshError::NotAMember { .. } | MeshError::Memory(_) | MeshError::Io(_))) => {
                return Err(Failure::of_worker(&anyhow!(error)));
            }
        }
        Ok(Next::Idle)
    }

    /// Rounds until the members agree to switch (to that generation), or the job is done (`None`).
    fn train_in(&mut self, mesh: &mut Mesh) -> Result<Option<u64>, RoundError> {
        self.catch_up(mesh)?;
        self.following = None;
        let mut gpus = self.meet_gpus(mesh)?;
        let ended = self.rounds(mesh, gpus.as_mut());
        if let (Some(group), Some(gpus)) = (gpus, &mut self.parts.gpus) {
            gpus.part(group, ended.is_ok());
        }
        ended
    }

    /// Finds out whether this generation's gradients stay on its GPUs.
    fn meet_gpus(&mut self, mesh: &mut Mesh) -> Result<Option<GpuGroup>, RoundError> {
        let (Some(gpus), Some(round)) = (&mut self.parts.gpus, self.position) else { return Ok(None) };
        let (control, alarm) = (self.parts.control.clone(), mesh.alarm());
        let interrupted = || control.interrupts();
        let anywhere = {
            let control = control.clone();
            move || control.interrupts() || alarm()
        };
        let vectors = (self.parts.numerics, self.parts.engine.train_len());
        Ok(gpus.meet((mesh, &mut self.parts.poller, round), vectors, &interrupted, anywhere)?)
    }

    fn rounds(&mut self, mesh: &mut Mesh, mut gpus: Option<&mut GpuGroup>) -> Result<Option<u64>, RoundError> {
        self.note_corruption(mesh, None);
        self.entered(mesh.assignment().generation);
        self.remember_group(mesh);
        loop {
            let Some(round) = self.position.filter(|p| p.phase != Phase::Done) else { return Ok(None) };
            let agreement = self.round(mesh, gpus.as_deref_mut(), round)?;
            if round.phase == Phase::Evaluate {
                self.remember_evaluation();
            }
            self.at_boundary(mesh, agreement.save)?;
            if agreement.switch_to.is_some() {
                return Ok(agreement.switch_to);
            }
        }
    }

    /// For the run's record.
    fn remember_group(&self, mesh: &Mesh) {
        let members = mesh.assignment().members.len();
        self.parts.saver.remember(RunEvent::Group(GroupBegan {
            generation: mesh.assignment().generation,
            step: self.position.map_or(0, |position| position.step),
            world_size: u32::try_from(members).unwrap_or(u32::MAX),
            at_ms: unix_ms(SystemTime::now()),
        }));
    }

    /// For the run's record.
    fn remember_evaluation(&self) {
        let Some(evaluation) = &self.evaluation else { return };
        self.parts.saver.remember(RunEvent::Evaluation(Evaluation {
            step: evaluation.step,
            loss: evaluation.loss,
            accuracy: evaluation.accuracy,
            train_loss: self.loss,
        }));
    }

    fn meet(&mut self, assignment: &Assignment) -> Result<Mesh, RoundError> {
        let mut meeting = Meeting::start(&self.parts.inbox, assignment)?;
        let patience = if assignment.immediate { MEETING_PATIENCE } else { PLANNED_PATIENCE };
        let deadline = Instant::now() + patience;
        let step = self.position.map_or(0, |p| p.step);
        while !meeting.advance(&mut self.parts.poller, &self.parts.inbox)? {
            if self.parts.control.overtaken() {
                return Err(MeshError::Interrupted.into());
            }
            let again = self.advance_following()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let worker = meeting.missing().unwrap_or_default().to_owned();
                let detail = format!("did not come to the meeting within {} s", patience.as_secs());
                return Err(MeshError::Lost { worker, detail }.into());
            }
            if again != Some(Duration::ZERO) {
                self.wait(Some(again.map_or(left, |again| again.min(left))))?;
            }
        }
        if assignment.generation > 1 {
            self.parts.faults.at(step, Moment::Rendezvous);
        }
        Ok(meeting.complete())
    }

    /// Gets all members to one state and one place.
    fn catch_up(&mut self, mesh: &mut Mesh) -> Result<(), RoundError> {
        let positions = self.positions(mesh)?;
        if let CatchUp::Reach { goal, needs, .. } = plan(&self.parts.rounds, &positions) {
            if needs.iter().all(|n| *n == Need::Nothing) {
                return Ok(());
            }
            self.drain_following(goal)?;
        }
        // From here on the state comes from this group, and nobody else may write to it.
        self.following = None;
        let positions = self.positions(mesh)?;
        let CatchUp::Reach { goal, holders, source, needs } = plan(&self.parts.rounds, &positions) else {
            return self.start(mesh);
        };
        tracing::info!(step = goal.step, "catches up: {needs:?}");
        let me = mesh.rank();
        let behind =
            |what: fn(&Need) -> bool| -> Vec<usize> { (0..needs.len()).filter(|r| what(&needs[*r])).collect() };
        let control = self.parts.control.clone();
        let interrupted = || control.interrupts();

        let takers = behind(|n| *n == Need::State);
        if !takers.is_empty() {
            let takes = takers.contains(&me);
            if takes {
                self.position = None;
                self.donor.close();
            }
            let (poller, state) = (&mut self.parts.poller, self.parts.engine.state_mut());
            mesh.spread(poller, goal, (&holders, &takers), state, &interrupted)?;
            if takes {
                self.stand_at(goal);
            }
        }

        let takers = behind(|n| matches!(n, Need::Sum(_)));
        let Some(Need::Sum(round)) = takers.first().map(|rank| needs[*rank]) else { return Ok(()) };
        let sums = if round.phase == Phase::Evaluate { &mut self.evaluate } else { &mut self.train };
        let poller = &mut self.parts.poller;
        if takers.contains(&me) {
            mesh.receive_from(poller, source, goal, bytemuck::cast_slice_mut(sums.sum_mut()), &interrupted)?;
            self.absorb(round)?;
            self.publish(round);
        } else {
            let to = if me == source { takers.as_slice() } else { &[] };
            mesh.send_to(poller, to, goal, bytemuck::cast_slice(sums.sum()), &interrupted)?;
        }
        Ok(())
    }

    fn positions(&mut self, mesh: &mut Mesh) -> Result<Vec<Position>, RoundError> {
        let control = self.parts.control.clone();
        let mine: [u8; POSITION] = self.standing().to_bytes();
        // Where the members stand is what this is to find out, so the frame itself can't say it.
        let nowhere = Round { step: 0, phase: Phase::Train };
        let all = mesh.notes(&mut self.parts.poller, nowhere, mine, &|| control.interrupts())?;
        let parse = |(rank, bytes): (usize, &[u8; POSITION])| {
            Position::from_bytes(bytes).ok_or_else(|| MeshError::Lost {
                worker: mesh.assignment().members[rank].worker.clone(),
                detail: "sent a position that is none".to_owned(),
            })
        };
        Ok(all.iter().enumerate().map(parse).collect::<Result<_, _>>()?)
    }

    /// Takes the sums that are still on their way from the followed peer.
    fn drain_following(&mut self, goal: Round) -> Result<(), RoundError> {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while self.position.is_none_or(|p| p < goal) && self.following.as_ref().is_some_and(Following::is_live) {
            let again = self.advance_following()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.parts.control.interrupts() {
                break;
            }
            if again != Some(Duration::ZERO) {
                self.wait(Some(left))?;
            }
        }
        Ok(())
    }
}
