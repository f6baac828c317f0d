//! Checks a submission once more on this side: what is taken in is run, perhaps days later, with nobody there to ask.

use crate::refusal::Refusal;
use coordinator_core::{Event, JobId, PoolName};
use coordinator_provider::UnknownPool;
use std::collections::BTreeSet;
use std::path::Path;
use trainctl_data::{Manifest, manifest_digest};
use trainctl_jobs::JobSpec;
use trainctl_proto::v1::SubmitRequest;

/// The job and the event that takes it in. A job that names no checkpoint root gets `runs`.
pub(super) fn check(
    request: SubmitRequest,
    runs: &Path,
    pools: &BTreeSet<PoolName>,
) -> Result<(JobId, Event), Refusal> {
    let mut spec: JobSpec = serde_json::from_str(&request.spec_json).map_err(Refusal::SpecJson)?;
    spec.check()?;
    let job = spec.name.clone();
    if spec.train.steps.is_none() {
        return Err(Refusal::Unresolved { job });
    }
    check_manifest(&spec, &request.manifest_json)?;
    let mut listed = spec.resources.pools.iter().map(|name| PoolName(name.clone()));
    if let Some(missing) = listed.find(|name| !pools.contains(name)) {
        return Err(Refusal::JobPool { job, source: UnknownPool::new(&missing, pools) });
    }
    spec.checkpoint.root.get_or_insert_with(|| format!("file://{}", runs.display()));
    let job = JobId(job);
    let event = Event::JobSubmitted { job: job.clone(), spec: Box::new(spec), manifest_json: request.manifest_json };
    Ok((job, event))
}

fn check_manifest(spec: &JobSpec, manifest_json: &str) -> Result<(), Refusal> {
    let found = manifest_digest(manifest_json.as_bytes());
    if found != spec.data.digest {
        return Err(Refusal::ManifestDigest { job: spec.name.clone(), expected: spec.data.digest.clone(), found });
    }
    Manifest::parse(manifest_json.as_bytes(), &spec.data.manifest)
        .map(drop)
        .map_err(|error| Refusal::Manifest { job: spec.name.clone(), reason: error.to_string() })
}
