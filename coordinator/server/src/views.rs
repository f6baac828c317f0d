//! What people see: the scheduler's views as messages of the wire.

mod cost;

pub(crate) use cost::report as cost;

use coordinator_core::{
    Checkpoint, Core, Corruption, Decision, Differing, Evaluation, InstanceId, JobId, JobView, Market, NcclFailure,
    SaveFailure, Share, WorkerView,
};
use coordinator_provider::PoolView;
use trainctl_jobs::NumericsSpec;
use trainctl_proto::v1;

/// All of a job but its spec.
pub(crate) fn job(core: &Core, view: JobView) -> v1::JobStatus {
    let spec = core.spec(&view.job);
    let (state_digest, state_digest_step) = view.state_digest.unwrap_or_default();
    v1::JobStatus {
        state: view.state.to_owned(),
        step: view.step,
        steps: view.steps,
        world_size: view.world_size,
        generation: view.generation.0,
        loss: view.loss,
        eval: view.evaluation.as_ref().map(evaluation),
        state_digest,
        state_digest_step,
        evictions: view.evictions,
        skipped_steps: view.skipped_steps,
        audits_passed: view.audits_passed,
        steps_repeated: view.steps_repeated,
        longest_pause_ms: view.longest_pause_ms,
        checkpoints: view.checkpoints.into_iter().map(checkpoint).collect(),
        submitted_ms: view.submitted.0,
        started_ms: view.started.unwrap_or_default().0,
        ended_ms: view.ended.unwrap_or_default().0,
        reason: view.reason,
        samples_per_s: view.samples_per_s,
        workers_min: view.workers_min,
        workers_max: view.workers_max,
        checkpoint_root: spec.and_then(|spec| spec.checkpoint.root.clone()).unwrap_or_default(),
        data_digest: spec.map(|spec| spec.data.digest.clone()).unwrap_or_default(),
        spec_json: String::new(),
        eta_s: view.eta_s.unwrap_or_default(),
        fingerprint: view.fingerprint.map(|(digest, _)| digest).unwrap_or_default(),
        shares: view.shares.into_iter().map(share).collect(),
        numerics: numerics(view.numerics).to_owned(),
        corruptions: view.corruptions.into_iter().map(corruption).collect(),
        save_failure: view.save_failure.map(save_failure),
        nccl_failures: view.nccl_failures.into_iter().map(nccl_failure).collect(),
        cost: view.cost.map(cost::total),
        job: view.job.0,
    }
}

/// A job with its spec. `None`: it is not known.
pub(crate) fn job_with_spec(core: &Core, id: &JobId) -> Option<v1::JobStatus> {
    let status = job(core, core.job(id)?);
    let spec_json = core.spec(id).and_then(|spec| serde_json::to_string(spec).ok()).unwrap_or_default();
    Some(v1::JobStatus { spec_json, ..status })
}

pub(crate) fn worker(view: WorkerView) -> v1::WorkerStatus {
    let (first_shard, end_shard) = view.shards.unwrap_or_default();
    v1::WorkerStatus {
        worker: view.worker.0,
        job: view.job.0,
        pool: view.pool.0,
        instance: view.instance.0,
        state: view.state.to_owned(),
        rank: view.rank.unwrap_or_default(),
        has_rank: view.rank.is_some(),
        first_shard,
        end_shard,
        generation: view.generation.0,
        step: view.progress.as_ref().and_then(|progress| progress.step).unwrap_or_default(),
        shard_seconds: view.progress.and_then(|progress| progress.shard_time).map_or(0.0, |time| time.seconds),
        pid: view.pid.unwrap_or_default(),
        address: view.address,
        launched_ms: view.launched.0,
        fingerprint: view.fingerprint,
        notice_deadline_ms: view.notice_deadline.unwrap_or_default().0,
    }
}

/// A pool as its provider runs it, with the evictions that outlive a restart.
pub(crate) fn pool(core: &Core, view: PoolView, unowned: Vec<InstanceId>) -> v1::PoolStatus {
    let known = core.pools().into_iter().find(|pool| pool.spec.name == view.spec.name);
    v1::PoolStatus {
        pool: view.spec.name.0,
        of: view.spec.of.0,
        kind: view.spec.place.provider.0,
        region: view.spec.place.region.unwrap_or_default(),
        zone: view.spec.place.zone.unwrap_or_default(),
        market: market(view.spec.market).to_owned(),
        usd_per_hour: view.spec.price.map(|price| price.usd_per_hour).unwrap_or_default(),
        on_demand_usd_per_hour: view.spec.price.map(|price| price.on_demand_usd_per_hour).unwrap_or_default(),
        unowned: unowned.into_iter().map(|instance| instance.0).collect(),
        spot: view.spec.market == Market::Spot,
        capacity: view.spec.capacity,
        in_use: view.in_use,
        notice_ms: view.spec.notice_ms,
        evictions: known.map_or(0, |pool| pool.evictions),
        note: view.note,
    }
}

fn market(market: Market) -> &'static str {
    match market {
        Market::Own => "own",
        Market::Spot => "spot",
        Market::OnDemand => "on-demand",
    }
}

pub(crate) fn decision(decision: &Decision) -> v1::Decision {
    v1::Decision {
        at_ms: decision.at.0,
        generation: decision.generation.0,
        step: decision.step,
        kind: decision.kind().to_owned(),
        what: decision.what(),
        why: decision.why(),
    }
}

fn numerics(numerics: NumericsSpec) -> &'static str {
    match numerics {
        NumericsSpec::Exact => "exact",
        NumericsSpec::Fast => "fast",
    }
}

fn share(share: Share) -> v1::Share {
    v1::Share { worker: share.worker.0, shards: share.shards, shard_seconds: share.shard_seconds.unwrap_or_default() }
}

fn evaluation(evaluation: &Evaluation) -> v1::Evaluation {
    v1::Evaluation { step: evaluation.step, loss: evaluation.loss, accuracy: evaluation.accuracy }
}

fn corruption(corruption: Corruption) -> v1::Corruption {
    let steps_repeated = corruption.steps_repeated().unwrap_or_default();
    let Differing { step, subject, shard, digests, right } = corruption.differing;
    v1::Corruption {
        step,
        subject: subject.name().to_owned(),
        digests: digests.into_iter().map(|(worker, digest)| (worker.0, digest)).collect(),
        quarantined: corruption.quarantined.into_iter().map(|worker| worker.0).collect(),
        at_ms: corruption.at.0,
        back_to: corruption.back_to,
        steps_repeated,
        shard,
        right: right.unwrap_or_default(),
    }
}

fn save_failure(failure: SaveFailure) -> v1::SaveFailure {
    let SaveFailure { step, worker, reason, at } = failure;
    v1::SaveFailure { step, worker: worker.0, reason, at_ms: at.0 }
}

fn nccl_failure(failure: NcclFailure) -> v1::NcclFailure {
    let NcclFailure { worker, reason, at } = failure;
    v1::NcclFailure { worker: worker.0, reason, at_ms: at.0 }
}

fn checkpoint(checkpoint: Checkpoint) -> v1::Checkpoint {
    v1::Checkpoint {
        step: checkpoint.step,
        bytes: checkpoint.bytes,
        seconds: checkpoint.seconds,
        stall_ms: checkpoint.stall_ms,
        why: checkpoint.why,
        state_digest: checkpoint.state_digest,
        committed_ms: checkpoint.committed.0,
    }
}
