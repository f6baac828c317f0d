//! How a worker comes to its end, or to the job's: with everything saved, and nothing that a peer still needs lost
//! with its process.

use crate::group::Next;
use crate::round::RoundError;
use crate::saver::{FINAL, Order, Outcome, Pending};
use crate::setup::Failure;
use crate::trainer::Trainer;
use std::time::Duration;
use trainctl_checkpoint::state_digest;
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::{Aside, Finished, Left};
use trainer_collective::Mesh;
use trainer_core::Assignment;

/// How long a save that is waited for may wait for other workers' parts.
const PARTS_PATIENCE: Duration = Duration::from_secs(20);
/// How long a leaver's process stays for peers that still read from it.
const READERS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a leaver's process stays for its own part of a save under way; without it nobody could commit that save.
const WRITER_PATIENCE: Duration = Duration::from_secs(20);

impl Trainer {
    /// After a round in which all members agreed to switch.
    ///
    /// # Errors
    /// When this worker can't go on.
    pub(crate) fn switch(&mut self, mut mesh: Mesh, generation: u64, assignment: &Assignment) -> Result<Next, Failure> {
        let Some(next) = self.parts.control.switch_to(generation) else { return Ok(Next::Idle) };
        if next.members.is_empty() {
            let order = self.order(&mesh, next.reason.clone());
            if order.step > 0 {
                let pending = self.begin(&order)?;
                match self.compare_saved(&mut mesh, order.step, &pending) {
                    Ok(()) | Err(RoundError::Mesh(_)) => {}
                    Err(error) => {
                        drop(pending);
                        return self.end_of_mesh(error, assignment, Some(mesh));
                    }
                }
                // Nobody reads from this worker any more once all parts are there.
                self.complete(pending, order, true)?;
            }
            return Ok(self.left(generation, &next.reason));
        }
        if next.rank_of(&self.parts.inbox.me().worker).is_none() {
            mesh.close_after_peers(&mut self.parts.poller, READERS_PATIENCE);
            return Ok(self.step_aside(&next));
        }
        self.last_mesh = Some(mesh);
        Ok(Next::Enter(next))
    }

    /// Out of the group as planned. Whether those who stay get as far as to train without this worker isn't known yet:
    /// it keeps its state until the coordinator, which knows, sends it home, or calls it back.
    pub(crate) fn step_aside(&mut self, next: &Assignment) -> Next {
        self.donor.close();
        self.parts.inbox.forget_before(next.generation);
        self.parts.saver.rest(WRITER_PATIENCE);
        let step = self.position.map_or(0, |p| p.step);
        let (generation, why) = (next.generation, next.reason.clone());
        self.aside = Some(format!("left at step {step}: {why}"));
        self.parts.control.tell(Body::Aside(Aside { generation, step, why }));
        Next::Idle
    }

    /// Says goodbye, once this worker's part of a save under way is written.
    pub(crate) fn left(&mut self, generation: u64, why: &str) -> Next {
        self.parts.saver.settle(WRITER_PATIENCE);
        let step = self.position.map_or(0, |p| p.step);
        self.parts.control.tell(Body::Left(Left { generation, step, why: why.to_owned() }));
        Next::End(format!("left at step {step}: {why}"))
    }

    /// Everyone is to save and leave, and there is no group to do it with.
    ///
    /// # Errors
    /// When saving fails.
    pub(crate) fn save_alone_and_leave(&mut self, assignment: &Assignment) -> Result<Next, Failure> {
        self.save_alone(assignment.generation, assignment.reason.clone())?;
        Ok(self.left(assignment.generation, &assignment.reason))
    }

    /// No coordinator and no work: saves and ends.
    pub(crate) fn orphaned(&mut self) -> Next {
        let why = format!("no coordinator for {} s", self.parts.orphan_after.as_secs());
        if let Err(failure) = self.save_alone(self.parts.control.newest_generation(), why.clone()) {
            tracing::error!("can't save: {}", failure.reason);
        }
        Next::End(why)
    }

    fn save_alone(&mut self, generation: u64, why: String) -> Result<(), Failure> {
        let Some(position) = self.position.filter(|p| p.step > 0) else { return Ok(()) };
        let (step, loss, audits_passed) = (position.step, self.loss, self.audits_passed);
        let order = Order { step, part: 0, parts: 1, generation, loss, audits_passed, why };
        tracing::info!(step = order.step, "saves alone: there is no other state to compare this one with");
        let pending = self.begin(&order)?;
        self.complete(pending, order, false)
    }

    fn begin(&self, order: &Order) -> Result<Pending, Failure> {
        self.parts.engine.check_constants()?;
        Ok(self.parts.saver.begin(order.clone(), self.parts.engine.state(), Some(PARTS_PATIENCE)))
    }

    /// Waits until the checkpoint is committed, with the others' parts or, when they don't come, alone. Nothing
    /// interrupts a save alone: it may be of the last copy of the state.
    fn complete(&mut self, pending: Pending, order: Order, with_others: bool) -> Result<(), Failure> {
        let control = self.parts.control.clone();
        let interrupted = || with_others && control.interrupts();
        match pending.wait(&interrupted) {
            Some(Ok(Outcome::Committed)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None | Some(Ok(Outcome::Incomplete)) if with_others => self.save_alone(order.generation, order.why),
            None | Some(Ok(Outcome::Incomplete)) => Ok(()),
        }
    }

    /// The job is done: saves the last state with the others and reports it.
    ///
    /// # Errors
    /// When the result can't be saved.
    pub(crate) fn finish(&mut self, mut mesh: Mesh, assignment: &Assignment) -> Result<Next, Failure> {
        let order = self.order(&mesh, FINAL.to_owned());
        let (step, generation) = (order.step, order.generation);
        let control = self.parts.control.clone();
        let pending = self.begin(&order)?;
        if let Err(error) = self.compare_saved(&mut mesh, step, &pending) {
            // Or the roll-back would wait for parts that never come.
            drop(pending);
            return self.end_of_mesh(error, assignment, Some(mesh));
        }
        self.last_mesh = Some(mesh);
        match pending.wait(&|| control.interrupts()) {
            Some(Ok(Outcome::Committed)) => {}
            Some(Err(error)) => return Err(error.into()),
            // A member was lost; the next generation saves.
            None => return Ok(Next::Idle),
            Some(Ok(Outcome::Incomplete)) => {
                tracing::warn!(step, "not all parts of the final checkpoint came; saves it alone");
                self.save_alone(generation, FINAL.to_owned())?;
            }
        }
        let digest = state_digest(self.parts.engine.tensors(), self.parts.engine.state(), step).to_string();
        tracing::info!(step, digest, "done");
        let finished = Finished { step, loss: self.loss, eval: self.evaluation, state_digest: digest };
        self.parts.control.finished(finished);
        Ok(Next::Idle)
    }
}
