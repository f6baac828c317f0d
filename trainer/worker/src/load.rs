//! How a group in which nobody holds a state gets one. Rank 0 says which checkpoint to try; each member reads its share of
//! it from storage and gives that to the others, so that it is read once however many they are. What one of them can't
//! read, or finds damaged, none of them goes on from: the next older one is tried. Where there is none that all can
//! read, rank 0 loads or begins alone and gives its state to all.

use crate::faults::Moment;
use crate::round::RoundError;
use crate::saver::chain;
use crate::setup::Failure;
use crate::trainer::Trainer;
use anyhow::{Context as _, ensure};
use std::time::Duration;
use tokio::runtime::Runtime;
use trainctl_checkpoint::{CheckpointError, Claim, Digest, RunInput, Shares, state_digest};
use trainer_collective::{Mesh, MeshError};
use trainer_core::{Phase, Round};

/// Between two looks whether something else matters more than what is being read.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Length of an offer on the wire.
const OFFER: usize = 49;
/// Before there is a state.
const NOWHERE: Round = Round { step: 0, phase: Phase::Train };

/// What rank 0 says is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offer {
    /// Each reads its share of this step's checkpoint, which makes the state of this digest.
    Load(u64, [u8; 32]),
    /// All take rank 0's state; this round comes next.
    Take(Round),
}

impl Offer {
    fn to_bytes(self) -> [u8; OFFER] {
        let mut bytes = [0; OFFER];
        match self {
            Self::Load(step, digest) => {
                bytes[0] = 1;
                bytes[1..9].copy_from_slice(&step.to_le_bytes());
                bytes[17..].copy_from_slice(&digest);
            }
            Self::Take(round) => bytes[1..17].copy_from_slice(&round.to_bytes()),
        }
        bytes
    }

    /// `None` when these are not such bytes.
    fn from_bytes(bytes: &[u8; OFFER]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (place, digest) = rest.split_first_chunk::<16>()?;
        match kind {
            0 => Round::from_bytes(place).map(Self::Take),
            1 => Some(Self::Load(u64::from_le_bytes(*place.first_chunk()?), *digest.first_chunk()?)),
            _ => None,
        }
    }
}

impl Trainer {
    /// Gets all members to one first state.
    ///
    /// # Errors
    /// When this worker can't go on: the run's folder belongs to another run, or none of its checkpoints is whole. When
    /// the mesh ends.
    pub(crate) fn start(&mut self, mesh: &mut Mesh) -> Result<(), RoundError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::of_worker(&e.into()))?;
        let leads = mesh.rank() == 0;
        let resumes = leads && self.claim(&runtime)?;
        let mut steps = Vec::new();
        if resumes && mesh.world_size() > 1 {
            steps = runtime.block_on(self.parts.folder.steps()).map_err(Failure::from)?;
        }
        let control = self.parts.control.clone();
        let interrupted = || control.interrupts();
        let begins = loop {
            let offer = if leads { self.offer(&runtime, &mut steps, resumes)? } else { Offer::Take(NOWHERE) };
            let notes = mesh.notes(&mut self.parts.poller, NOWHERE, offer.to_bytes(), &interrupted)?;
            match Offer::from_bytes(&notes[0]) {
                Some(Offer::Load(step, digest)) => {
                    if self.load_shares(mesh, &runtime, step, &digest)? {
                        break self.parts.rounds.at_step(step);
                    }
                }
                Some(Offer::Take(round)) => {
                    let others: Vec<usize> = (1..mesh.world_size()).collect();
                    let (poller, state) = (&mut self.parts.poller, self.parts.engine.state_mut());
                    mesh.spread(poller, round, (&[0], &others), state, &interrupted)?;
                    break round;
                }
                None => {
                    let worker = mesh.assignment().members[0].worker.clone();
                    return Err(MeshError::Lost { worker, detail: "sent an offer that is none".to_owned() }.into());
                }
            }
        };
        self.stand_at(begins);
        if leads {
            self.note_corruption(mesh, Some(begins.step));
        }
        self.saving.begun(begins.step, self.since_start());
        Ok(())
    }

    /// Takes the run's folder; whether there may be something to go on from.
    fn claim(&self, runtime: &Runtime) -> Result<bool, Failure> {
        let claim = runtime.block_on(self.parts.folder.claim_run(&self.parts.record))?;
        if let Err(error) = runtime.block_on(self.keep_origins()) {
            tracing::warn!("to run this again will take more than the run's folder: {error:#}");
        }
        Ok(matches!(claim, Claim::Resumed(_)))
    }

    /// Puts into the run's folder what the job was made from.
    async fn keep_origins(&self) -> anyhow::Result<()> {
        let (folder, origins) = (&self.parts.folder, &self.parts.origins);
        folder.write_input(RunInput::DataManifest, origins.manifest_json.as_bytes()).await?;
        let Some((path, digest)) = &origins.module else { return Ok(()) };
        let bytes = std::fs::read(path).with_context(|| format!("read {path}"))?;
        let found = Digest::of(&bytes).to_string();
        ensure!(found == *digest, "{path}: expected {digest}, found {found}");
        Ok(folder.write_input(RunInput::Module, &bytes).await?)
    }

    /// The newest of the steps left that has a manifest to go by, else what this worker loads or begins alone.
    fn offer(&mut self, runtime: &Runtime, steps: &mut Vec<u64>, resumes: bool) -> Result<Offer, Failure> {
        while let Some(step) = steps.pop() {
            match runtime.block_on(self.parts.folder.read_manifest(step)) {
                Ok(manifest) => return Ok(Offer::Load(step, *manifest.state_digest.as_bytes())),
                Err(reason) => skipped(step, &reason),
            }
        }
        let round = self.load_or_begin(runtime, resumes)?;
        // What this worker holds counts in the next generation, should this one end before the others have it.
        self.stand_at(round);
        Ok(Offer::Take(round))
    }

    /// Each member reads its share of a checkpoint and gives it to the others. Whether all could.
    fn load_shares(
        &mut self,
        mesh: &mut Mesh,
        runtime: &Runtime,
        step: u64,
        digest: &[u8; 32],
    ) -> Result<bool, RoundError> {
        let control = self.parts.control.clone();
        let interrupted = || control.interrupts();
        let shares = self.read_share(mesh, runtime, step, digest)?;
        self.parts.faults.at(step, Moment::Load);
        let round = self.parts.rounds.at_step(step);
        let could = mesh.notes(&mut self.parts.poller, round, [u8::from(shares.is_some())], &interrupted)?;
        let members = mesh.assignment().members.iter();
        let failed: Vec<&str> =
            members.zip(&could).filter(|(_, could)| **could != [1]).map(|(member, _)| member.worker.as_str()).collect();
        let Some(shares) = shares.filter(|_| failed.is_empty()) else {
            tracing::warn!(step, "skips a checkpoint that {} could not read", failed.join(", "));
            return Ok(false);
        };
        let ranges: Vec<_> =
            (0..mesh.world_size()).map(|rank| shares.ranges(rank, self.parts.engine.tensors())).collect();
        let (poller, state) = (&mut self.parts.poller, self.parts.engine.state_mut());
        mesh.gather(poller, round, &ranges, state, &interrupted)?;
        self.loss = shares.manifest.loss;
        self.audits_passed = self.audits_passed.max(shares.manifest.audits_passed);
        let (files, bytes) = (shares.files(mesh.rank()), shares.bytes(mesh.rank()));
        tracing::info!(step, files, bytes, of_bytes = shares.manifest.bytes(), "goes on from a checkpoint");
        Ok(true)
    }

    /// Reads this worker's share into the state; `None` where it can't be had.
    fn read_share(
        &mut self,
        mesh: &Mesh,
        runtime: &Runtime,
        step: u64,
        digest: &[u8; 32],
    ) -> Result<Option<Shares>, RoundError> {
        let (reader, readers) = (mesh.rank(), mesh.world_size());
        let tensors = self.parts.engine.tensors().to_vec();
        let (folder, state) = (&self.parts.folder, self.parts.engine.state_mut());
        let read = async {
            let shares = folder.shares(step, &tensors, readers).await?;
            if shares.manifest.state_digest.as_bytes() == digest {
                folder.load_share(&shares, reader, &tensors, state).await?;
                return Ok::<_, CheckpointError>(Some(shares));
            }
            tracing::warn!(step, found = %shares.manifest.state_digest, "skips a checkpoint that was replaced meanwhile");
            Ok(None)
        };
        let control = &self.parts.control;
        let wanted_elsewhere = async {
            while !control.interrupts() && mesh.check().is_ok() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let read = runtime.block_on(async {
            tokio::select! {
                read = read => Some(read),
                () = wanted_elsewhere => None,
            }
        });
        match read {
            Some(Ok(shares)) => Ok(shares),
            Some(Err(reason)) => {
                skipped(step, &reason);
                Ok(None)
            }
            None => {
                mesh.check()?;
                Err(MeshError::Interrupted.into())
            }
        }
    }

    /// The newest whole checkpoint of this run, or its first state.
    fn load_or_begin(&mut self, runtime: &Runtime, resumes: bool) -> Result<Round, Failure> {
        let tensors = self.parts.engine.tensors().to_vec();
        let mut step = 0;
        if resumes {
            let state = self.parts.engine.state_mut();
            if let Some(loaded) = runtime.block_on(self.parts.folder.load_newest(&tensors, state))? {
                for earlier in &loaded.skipped {
                    skipped(earlier.step, &earlier.reason);
                }
                step = loaded.manifest.step;
                self.loss = loaded.manifest.loss;
                self.audits_passed = self.audits_passed.max(loaded.manifest.audits_passed);
                tracing::info!(step, "goes on from a checkpoint");
            }
        }
        if step == 0 && state_digest(&tensors, self.parts.engine.state(), 0) != self.first_digest {
            // What came of following a peer, or of a transfer that broke.
            self.parts.engine = (self.parts.make_engine)()?;
        }
        Ok(self.parts.rounds.at_step(step))
    }
}

fn skipped(step: u64, reason: &CheckpointError) {
    tracing::warn!(step, "skipped a checkpoint: {}", chain(reason));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_survive_the_wire() {
        let offers = [Offer::Load(1 << 40, [7; 32]), Offer::Take(Round { step: 12, phase: Phase::Evaluate })];
        for offer in offers {
            assert_eq!(Offer::from_bytes(&offer.to_bytes()), Some(offer));
        }
        assert_eq!(Offer::from_bytes(&[9; OFFER]), None);
    }
}
