//! What this worker does so that replicas that differ are found, and when they are: it shows digests of what it holds,
//! compares those of all members, and where they differ drops its state and says so. Who was wrong is for the
//! coordinator to find out.

use crate::attachment::unix_ms;
use crate::faults::Moment;
use crate::group::Next;
use crate::round::RoundError;
use crate::saver::Pending;
use crate::trainer::Trainer;
use std::time::{Duration, SystemTime};
use trainctl_checkpoint::{Corruption, Digest, Group, RunEvent, state_digest};
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::{Corrupt, Differing, Rollback, Settled};
use trainer_collective::{Mesh, MeshError};
use trainer_core::membership::Header;
use trainer_core::replicas::{Accord, Audited, Checksum, Dispute, Subject, compare, one};
use trainer_core::{Assignment, Round};

/// How long the save of an earlier, undisputed state may take before the roll-back: it is then what to go on from.
const SAVE_PATIENCE: Duration = Duration::from_secs(20);

/// What this worker remembers of disputes.
#[derive(Debug, Default)]
pub(crate) struct Disputes {
    /// Roll-backs that its state has seen.
    seen: u64,
    /// The newest step and subject that were disputed, until members agree on them.
    open: Option<(u64, Subject)>,
    /// What it noted last in the run's record: which corruption, and whom it blames.
    noted: Option<(u64, Vec<String>)>,
}

/// The part of a digest that travels.
fn short(digest: &Digest) -> u64 {
    u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

pub(crate) fn hex(digest: u64) -> String {
    digest.to_be_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Trainer {
    /// What a round's header says of this worker's state, before the round's sum is applied.
    pub(crate) fn show_state(&self, mesh: &Mesh, header: &mut Header) {
        let (tensors, state) = (self.parts.engine.tensors(), self.parts.engine.state());
        // Alone, there is nobody to compare with.
        if mesh.world_size() > 1 {
            let mut checksum = Checksum::default();
            for tensor in tensors.iter().filter(|tensor| tensor.group == Group::Model) {
                checksum.add(tensor.values(state));
            }
            header.check = checksum.value();
        }
        let shown = match (self.disputes.open, self.position) {
            // A repetition need not save where the first try did.
            (Some((step, Subject::Saved)), Some(position)) if step == position.step => {
                Some((step, state_digest(tensors, state, step)))
            }
            _ => self.parts.saver.digested(),
        };
        if let Some((step, digest)) = shown {
            (header.digest_step, header.digest) = (step, short(&digest));
        }
    }

    /// Compares what all members show in a round's headers.
    ///
    /// # Errors
    /// They differ: the round's sum must not be applied.
    pub(crate) fn compare_shown(
        &mut self,
        mesh: &mut Mesh,
        round: Round,
        headers: &[Header],
    ) -> Result<(), RoundError> {
        let accords = compare(round.step, headers);
        if accords.is_err() && headers.iter().any(|header| header.saving) {
            self.rest_together(mesh, round);
        }
        self.settle(mesh, &accords?);
        Ok(())
    }

    /// Waits until no member writes its part of a save any more, or one is lost. What is told after it may end the one
    /// that is to blame, and with its part unwritten the job would go on from an older state than it need.
    fn rest_together(&mut self, mesh: &mut Mesh, round: Round) {
        self.parts.saver.rest(SAVE_PATIENCE);
        let control = self.parts.control.clone();
        if let Err(error) = mesh.notes(&mut self.parts.poller, round, [], &|| control.interrupts()) {
            tracing::info!("does not wait for the others' saves: {error}");
        }
    }

    /// Compares what all members are about to save, where no round follows to do it.
    ///
    /// # Errors
    /// They differ; or a member was lost, or this worker was interrupted.
    pub(crate) fn compare_saved(&mut self, mesh: &mut Mesh, step: u64, saving: &Pending) -> Result<(), RoundError> {
        let Some(position) = self.position else { return Ok(()) };
        let control = self.parts.control.clone();
        let interrupted = || control.interrupts();
        let Some(digest) = saving.digest(&interrupted) else { return Err(MeshError::Interrupted.into()) };
        let mine = short(&digest).to_le_bytes();
        let all = mesh.notes(&mut self.parts.poller, position, mine, &interrupted)?;
        let digests = all.iter().map(|bytes| Some(u64::from_le_bytes(*bytes))).collect();
        let accord = one(step, Subject::Saved, digests)?;
        self.settle(mesh, accord.as_slice());
        Ok(())
    }

    /// Tells when the members agree on what was disputed before.
    fn settle(&mut self, mesh: &Mesh, accords: &[Accord]) {
        let Some(open) = self.disputes.open else { return };
        let Some(accord) = accords.iter().find(|accord| (accord.step, accord.subject) == open) else { return };
        self.disputes.open = None;
        self.parts.control.tell(Body::Settled(Settled {
            generation: mesh.assignment().generation,
            step: accord.step,
            subject: accord.subject.name().to_owned(),
            digest: hex(accord.digest),
        }));
    }

    /// The members of this generation hold different states: there is nothing here that could be trusted.
    pub(crate) fn differ(&mut self, assignment: &Assignment, dispute: &Dispute) -> Next {
        let shown = assignment.members.iter().zip(&dispute.digests);
        let digests = shown.filter_map(|(member, digest)| Some((member.worker.clone(), hex((*digest)?)))).collect();
        let subject = dispute.subject.name().to_owned();
        let (shard, right) = match dispute.audited {
            Some(Audited { shard, right }) => (Some(shard), hex(right)),
            None => (None, String::new()),
        };
        let differing = Differing { step: dispute.step, subject, digests, shard, right };
        let (step, digests) = (dispute.step, &differing.digests);
        match shard {
            Some(shard) => {
                tracing::error!(step, shard, ?digests, "a worker computes wrongly; goes back to the newest agreement");
            }
            None => tracing::error!(
                step,
                subject = differing.subject,
                ?digests,
                "workers hold different states; goes back to the newest agreement"
            ),
        }
        self.parts.saver.rest(SAVE_PATIENCE);
        self.drop_state();
        // An audit has computed again before it blames anybody.
        if dispute.audited.is_none() {
            self.disputes.open = Some((dispute.step, dispute.subject));
        }
        let generation = assignment.generation;
        self.parts.control.tell(Body::Corrupt(Corrupt { generation, differing: Some(differing) }));
        Next::Idle
    }

    /// A state that this worker gets, or goes on from, has seen so many roll-backs: one that has seen fewer is dropped.
    pub(crate) fn roll_back(&mut self, rollbacks: u64) {
        if self.disputes.seen >= rollbacks {
            return;
        }
        self.disputes.seen = rollbacks;
        if self.position.is_some() || self.following.is_some() {
            tracing::info!("drops its state: workers held different ones");
            self.drop_state();
        }
    }

    fn drop_state(&mut self) {
        self.position = None;
        self.train.forget();
        self.evaluate.forget();
        self.loss = None;
        self.evaluation = None;
        self.following = None;
        self.donor.close();
        self.pace.begun = None;
        self.parts.saver.forget_digest();
        self.parts.control.dropped();
    }

    /// Rank 0 keeps the run's record of the newest roll-back: what it was about, whom it led to, and, where it loaded
    /// the state to go on from, which that is.
    pub(crate) fn note_corruption(&mut self, mesh: &Mesh, back_to: Option<u64>) {
        let Some(Rollback { number, differing: Some(differing), quarantined }) = self.parts.control.rollback() else {
            return;
        };
        let noted = Some((number, quarantined.clone()));
        if mesh.rank() != 0 || (self.disputes.noted == noted && back_to.is_none()) {
            return;
        }
        self.disputes.noted = noted;
        self.parts.saver.note(RunEvent::Corruption(Corruption {
            number,
            at_ms: unix_ms(SystemTime::now()),
            step: differing.step,
            subject: differing.subject,
            shard: differing.shard,
            digests: differing.digests.into_iter().collect(),
            quarantined,
            back_to,
            steps_repeated: back_to.map(|step| differing.step.saturating_sub(step)),
        }));
    }

    /// Flips a bit of the parameters if a drill says so.
    pub(crate) fn flip_a_bit(&mut self, step: u64) {
        let first = self.parts.engine.tensors().iter().find(|tensor| tensor.group == Group::Model);
        let Some(range) = first.map(|tensor| tensor.offset..tensor.offset + tensor.len) else { return };
        self.parts.faults.flip(step, Moment::Flip, &mut self.parts.engine.state_mut()[range]);
    }
}
