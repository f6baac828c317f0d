//! `check-module`: a module of the user's, tried before anything is bought. Decides what is read for it; the engine
//! decides whether it can be trained.

use crate::find;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainctl_data::{Base, Dataset, Manifest};
use trainctl_jobs::{JobSpec, ModuleCheck, ModuleContents};
use trainer_engine::{EngineError, Wanted};

#[derive(clap::Args)]
pub(crate) struct CheckModule {
    /// The module
    #[arg(long, value_name = "FILE")]
    module: String,
    /// Of its bytes
    #[arg(long)]
    digest: String,
    /// The resolved job that is to train it, as JSON; one micro-batch of it is computed
    #[arg(long, value_name = "FILE", requires = "manifest")]
    job: Option<PathBuf>,
    /// Of the data to try it on, which lies where the job's own manifest says
    #[arg(long, value_name = "FILE", requires = "job")]
    manifest: Option<PathBuf>,
    /// What to compute on, as of `run`; a GPU may be in use by a worker, so the processor unless told otherwise
    #[arg(long, value_name = "DEVICE", env = "TRAINCTL_DEVICE", default_value = "cpu")]
    device: Wanted,
}

/// Checks, and prints a [`ModuleCheck`].
///
/// # Errors
/// When there is no check: a file of this command line's can't be read.
#[allow(clippy::print_stdout, reason = "the answer")]
pub(crate) fn run(check: &CheckModule) -> anyhow::Result<ExitCode> {
    let outcome = match (&check.job, &check.manifest) {
        (Some(job), Some(manifest)) => {
            let job: JobSpec = serde_json::from_slice(&read(job)?).context("read the job")?;
            attempt(check, &job, &read(manifest)?)?
        }
        _ => trainer_engine::check_module(&check.module, &check.digest),
    };
    let (check, code) = match outcome {
        Ok(contents) => (ModuleCheck::Accepted(contents), ExitCode::SUCCESS),
        Err(error) => (ModuleCheck::Refused(error.refusal()), ExitCode::FAILURE),
    };
    println!("{}", serde_json::to_string(&check).context("write the outcome")?);
    Ok(code)
}

fn attempt(check: &CheckModule, job: &JobSpec, manifest: &[u8]) -> anyhow::Result<Result<ModuleContents, EngineError>> {
    let device = find(check.device)?;
    let open = || {
        let manifest = Manifest::parse(manifest, &job.data.manifest)?;
        Dataset::open(&manifest, Base::of_manifest(&job.data.manifest))
    };
    Ok(open().map_err(EngineError::from).and_then(|data| trainer_engine::try_module(job, data, device)))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}
