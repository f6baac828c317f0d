//! This worker's part in audits: it computes the audited shard as its owner or a second time, shows checksums of what it got,
//! and where these differ computes it once more to find out with the others whose fault that is.

use crate::faults::Faults;
use crate::gpus::{GpuError, GpuGroup};
use crate::replicas::hex;
use crate::round::RoundError;
use crate::setup::Failure;
use crate::trainer::Trainer;
use std::cell::Cell;
use trainer_collective::{Mesh, MeshError};
use trainer_core::audit::{Audit, Recomputed, Verdict, verdict};
use trainer_core::membership::Header;
use trainer_core::replicas::{Audited, Checksum, Dispute, Subject};
use trainer_core::{Phase, Round};
use trainer_engine::{Engine, EngineError};

/// Floats of a vector that are summed up at a time.
const CHUNK: usize = 4096;

/// What this worker does for a round's audit, and what it found.
#[derive(Debug)]
pub(crate) struct Part {
    step: u64,
    audit: Audit,
    is_owner: bool,
    is_auditor: bool,
    faults: Faults,
    /// Checksums of the vector for the sum and of the second one, once they are computed.
    vector: u64,
    vector_again: u64,
}

impl Part {
    /// Whether the audit has this worker compute something before or in place of the plain computation of its shard.
    pub(crate) fn concerns(&self, shard: u32) -> bool {
        (self.is_auditor && self.vector_again == 0) || (self.is_owner && shard == self.audit.shard)
    }

    /// Computes this worker's shard into `out`; as auditor the audited one before it, and as owner with a checksum before
    /// anything of it is told ready.
    pub(crate) fn shard(
        &mut self,
        engine: &mut Engine,
        shard: u32,
        out: &[Cell<f32>],
        ready: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError> {
        if self.is_auditor && self.vector_again == 0 {
            engine.audit_shard(self.step, self.audit.shard, out)?;
            if !self.is_owner {
                self.faults.flip_gradient(self.step, out);
            }
            self.vector_again = checksum(out);
        }
        if !self.is_owner || shard != self.audit.shard {
            return engine.train_shard(self.step, shard, out, ready);
        }
        engine.train_shard(self.step, shard, out, &mut |_| {})?;
        self.faults.flip_gradient(self.step, out);
        self.vector = checksum(out);
        ready(0);
        Ok(())
    }

    /// The same into a vector on the device that passes are computed on.
    pub(crate) fn shard_into(&mut self, engine: &mut Engine, shard: u32, out: &tch::Tensor) -> Result<(), EngineError> {
        if self.is_auditor && self.vector_again == 0 {
            engine.audit_shard_into(self.step, self.audit.shard, out)?;
            let mut values = engine.values(out)?;
            let cells = cells(&mut values);
            if !self.is_owner {
                self.faults.flip_gradient(self.step, cells);
            }
            self.vector_again = checksum(cells);
        }
        engine.train_shard_into(self.step, shard, out)?;
        if self.is_owner && shard == self.audit.shard {
            let mut values = engine.values(out)?;
            let cells = cells(&mut values);
            self.faults.flip_gradient(self.step, cells);
            self.vector = checksum(cells);
        }
        Ok(())
    }

    pub(crate) fn show(&self, header: &mut Header) {
        (header.vector, header.vector_again) = (self.vector, self.vector_again);
    }
}

fn cells(values: &mut [f32]) -> &[Cell<f32>] {
    Cell::from_mut(values).as_slice_of_cells()
}

fn checksum(values: &[Cell<f32>]) -> u64 {
    let mut checksum = Checksum::default();
    let mut chunk = [0.0; CHUNK];
    for cells in values.chunks(CHUNK) {
        chunk.iter_mut().zip(cells).for_each(|(value, cell)| *value = cell.get());
        checksum.add(&chunk[..cells.len()]);
    }
    checksum.value()
}

impl Trainer {
    /// This worker's part in the audit of a round; `None` where the round has none.
    pub(crate) fn audit_part(&self, mesh: &Mesh, round: Round) -> Option<Part> {
        let audit = self.audit_of(mesh, round)?;
        Some(Part {
            step: round.step,
            audit,
            is_owner: audit.owner == mesh.rank(),
            is_auditor: audit.auditor == mesh.rank(),
            faults: self.parts.faults.clone(),
            vector: 0,
            vector_again: 0,
        })
    }

    /// The audit of a round, if it has one.
    fn audit_of(&self, mesh: &Mesh, round: Round) -> Option<Audit> {
        if round.phase != Phase::Train || !self.parts.audits.is_due(round.step, mesh.world_size()) {
            return None;
        }
        let shard = self.parts.engine.audited_shard(round.step);
        let owner = mesh.assignment().members.iter().position(|member| member.shards.contains(&shard))?;
        Some(Audit::of(shard, owner, mesh.world_size()))
    }

    /// Compares what owner and auditor show in a round's headers.
    ///
    /// # Errors
    /// They differ: the round's sum must not be applied. The job's failure where its program is at fault.
    pub(crate) fn compare_audit(
        &mut self,
        mesh: &mut Mesh,
        round: Round,
        headers: &[Header],
    ) -> Result<(), RoundError> {
        self.audits_passed = headers.iter().map(|header| header.audits_passed).fold(self.audits_passed, u64::max);
        let Some(audit) = self.audit_of(mesh, round) else { return Ok(()) };
        let shown = audit.shown(headers);
        if shown[0] == shown[1] {
            self.audits_passed += 1;
            let passed = self.audits_passed;
            self.parts.control.progress(|p| p.audits_passed = passed);
            return Ok(());
        }
        let (step, shard) = (round.step, audit.shard);
        let name = |rank: usize| mesh.assignment().members[rank].worker.clone();
        let (owner, auditor) = (name(audit.owner), name(audit.auditor));
        tracing::warn!(
            step,
            shard,
            "an audit failed: {owner} got {}, {auditor} {}; computes the shard again",
            hex(shown[0]),
            hex(shown[1])
        );
        let recomputed = self.recompute(mesh, round, shard)?;
        match verdict(&audit, shown, &recomputed) {
            Verdict::Members { shown, right } => {
                let digests = shown.into_iter().map(Some).collect();
                let audited = Some(Audited { shard, right });
                Err(Dispute { step, subject: Subject::Gradient, digests, audited }.into())
            }
            Verdict::Program => Err(Failure {
                job: true,
                reason: program_fault(step, shard, (&owner, &auditor), shown),
                hint: "a pass may depend on nothing but parameters, buffers, its batch and torch's random numbers: look for \
                       counters and caches in attributes, values kept from earlier passes, the time, files. If there is \
                       nothing of that kind, one of these machines computes wrongly"
                    .to_owned(),
            }
            .into()),
        }
    }

    /// Computes the shard once more with both instances of the model, as all members do, and gives what each got.
    fn recompute(&mut self, mesh: &mut Mesh, round: Round, shard: u32) -> Result<Vec<Recomputed>, RoundError> {
        let engine = &mut self.parts.engine;
        let mut vector = vec![0.0; engine.train_len()];
        let cells = cells(&mut vector);
        engine.train_shard(round.step, shard, cells, &mut |_| {}).map_err(Failure::from)?;
        let training = checksum(cells);
        engine.audit_shard(round.step, shard, cells).map_err(Failure::from)?;
        let audit = checksum(cells);
        let mine = Recomputed { training, audit, constants_kept: engine.check_constants().is_ok() };
        let control = self.parts.control.clone();
        let all = mesh.notes(&mut self.parts.poller, round, mine.to_bytes(), &|| control.interrupts())?;
        let parse = |(rank, bytes): (usize, &[u8; Recomputed::BYTES])| {
            Recomputed::from_bytes(bytes).ok_or_else(|| MeshError::Lost {
                worker: mesh.assignment().members[rank].worker.clone(),
                detail: "sent a recomputation that is none".to_owned(),
            })
        };
        Ok(all.iter().enumerate().map(parse).collect::<Result<_, _>>()?)
    }

    /// A shard of this worker's where gradients stay on GPUs.
    pub(crate) fn shard_on_gpus(
        &mut self,
        gpus: &mut GpuGroup,
        part: Option<&mut Part>,
        (step, shard): (u64, u32),
    ) -> Result<(), GpuError> {
        let engine = &mut self.parts.engine;
        gpus.shard(shard, |vector| match part {
            Some(part) => part.shard_into(engine, shard, vector),
            None => engine.train_shard_into(step, shard, vector),
        })
    }
}

fn program_fault(step: u64, shard: u32, (owner, auditor): (&str, &str), [first, again]: [u64; 2]) -> String {
    let who = if owner == auditor { "then" } else { auditor };
    format!(
        "shard {shard} of step {step} gave other bits when computed again: expected the same vector each time, found {} by \
         {owner}, {} by {who}, and no majority for either when all computed it once more",
        hex(first),
        hex(again)
    )
}
