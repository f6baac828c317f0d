//! From a welcome to a trainer: reads the job, the pinned data and the run's folder. What is wrong with any of them is
//! wrong on every worker, so it fails the job.

use crate::control::Control;
use crate::faults::Faults;
use crate::gpus::Gpus;
use crate::saver::{Saver, chain};
use crate::slow::Slowness;
use crate::trainer::{Ended, Origins, Parts, Trainer};
use anyhow::{Context, anyhow};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use trainctl_checkpoint::{RUN_FORMAT_VERSION, Retention, RunFolder, RunRecord};
use trainctl_data::{Base, DataError, Dataset, Manifest};
use trainctl_jobs::{AuditSpec, CheckpointEvery, JobSpec, ModelSpec, NumericsSpec};
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::{Failed, Welcome};
use trainer_collective::{Inbox, Numerics, Poller};
use trainer_core::Rounds;
use trainer_core::audit::{self, Schedule};
use trainer_core::saving::Every;
use trainer_engine::{Device, Engine, EngineError, Fingerprint};

/// Without a welcome for so long, there is no coordinator to work for.
const WELCOME_PATIENCE: Duration = Duration::from_secs(120);

/// Why a worker can't go on.
#[derive(Debug)]
pub(crate) struct Failure {
    /// No other worker could do better.
    pub(crate) job: bool,
    /// One line: place, expected, found.
    pub(crate) reason: String,
    /// What the user can do.
    pub(crate) hint: String,
}

impl Failure {
    /// One that fails the job.
    pub(crate) fn of_job(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self { job: true, reason: chain(error), hint: hint.unwrap_or_default() }
    }

    /// One that only this worker has.
    pub(crate) fn of_worker(error: &anyhow::Error) -> Self {
        Self { job: false, reason: format!("{error:#}"), hint: String::new() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let hint = error.hint().map(std::borrow::Cow::into_owned);
        Self::of_job(&error, hint)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let hint = error.hint();
        Self::of_job(&error, hint)
    }
}

impl From<trainctl_checkpoint::CheckpointError> for Failure {
    fn from(error: trainctl_checkpoint::CheckpointError) -> Self {
        let hint = error.hint();
        Self::of_job(&error, hint)
    }
}

/// Waits for the welcome, sets up, trains to the end of this worker's part.
pub(crate) fn train(
    mut poller: Poller,
    control: &Control,
    faults: Faults,
    fingerprint: &Fingerprint,
    device: Device,
) -> ExitCode {
    let (welcome, inbox) = match wait_for_welcome(&mut poller, control) {
        Ok(welcomed) => welcomed,
        Err(code) => return code,
    };
    let outcome = set_up(poller, control, faults, (fingerprint, device), &welcome, inbox).and_then(Trainer::run);
    match outcome {
        Ok(Ended { why }) => {
            tracing::info!("ends: {why}");
            ExitCode::SUCCESS
        }
        Err(Failure { job, reason, hint }) => {
            tracing::error!("{reason}");
            if !hint.is_empty() {
                tracing::error!("hint: {hint}");
            }
            control.tell(Body::Failed(Failed { job, reason, hint }));
            ExitCode::FAILURE
        }
    }
}

fn wait_for_welcome(poller: &mut Poller, control: &Control) -> Result<(Welcome, Inbox), ExitCode> {
    let began = std::time::Instant::now();
    loop {
        if let Some(welcome) = control.welcome() {
            return Ok(welcome);
        }
        if let Some(reason) = control.exit() {
            tracing::info!("ends before it began: {reason}");
            return Err(ExitCode::SUCCESS);
        }
        let left = WELCOME_PATIENCE.saturating_sub(began.elapsed());
        if left.is_zero() || poller.wait(Some(left)).is_err() {
            tracing::error!("no coordinator answered within {} s", WELCOME_PATIENCE.as_secs());
            return Err(ExitCode::FAILURE);
        }
    }
}

fn set_up(
    poller: Poller,
    control: &Control,
    faults: Faults,
    (fingerprint, device): (&Fingerprint, Device),
    welcome: &Welcome,
    inbox: Inbox,
) -> Result<Trainer, Failure> {
    let worker = |error: anyhow::Error| Failure::of_worker(&error);
    let spec: JobSpec = serde_json::from_str(&welcome.spec_json).context("read the job spec").map_err(worker)?;
    let steps = spec.train.steps.context("the job spec has no train.steps").map_err(worker)?;
    let root = spec.checkpoint.root.as_deref().context("the job spec has no checkpoint.root").map_err(worker)?;
    let make_engine = {
        let (spec, manifest_json) = (spec.clone(), welcome.manifest_json.clone());
        move || -> Result<Engine, Failure> {
            let manifest = Manifest::parse(manifest_json.as_bytes(), &spec.data.manifest)?;
            let data = Dataset::open(&manifest, Base::of_manifest(&spec.data.manifest))?;
            Ok(Engine::new(&spec, data, device)?)
        }
    };
    let slowness = Slowness::from_environment(&inbox.me().worker).map_err(worker)?;
    let engine = make_engine()?;
    let folder = RunFolder::open(root, &spec.name)?;
    let record = RunRecord {
        format_version: RUN_FORMAT_VERSION,
        job: serde_json::to_value(&spec).map_err(|e| worker(anyhow!(e)))?,
        data_digest: spec.data.digest.clone(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        libtorch_version: trainer_engine::libtorch_version(),
        reproducible: spec.train.numerics == NumericsSpec::Exact,
        fingerprint: fingerprint.digest.clone(),
        fingerprint_detail: fingerprint.detail.clone(),
        seed: spec.train.seed,
        submitted_ms: crate::attachment::unix_ms(SystemTime::now()),
        events: Vec::new(),
    };
    let saver = Saver::start(
        RunFolder::open(root, &spec.name)?,
        engine.tensors().to_vec(),
        engine.state().len(),
        Retention {
            keep_last: spec.checkpoint.keep_last,
            keep_every: spec.checkpoint.keep_every,
            ..Retention::default()
        },
        control.clone(),
        faults.clone(),
    );
    let every = match spec.checkpoint.every {
        CheckpointEvery::Auto => Every::Auto,
        CheckpointEvery::Steps(steps) => Every::Steps(steps),
        CheckpointEvery::Seconds(seconds) => Every::Time(Duration::from_secs(seconds)),
    };
    Trainer::new(Parts {
        rounds: Rounds { steps, eval_every: spec.train.eval_every },
        numerics: match spec.train.numerics {
            NumericsSpec::Exact => Numerics::Exact,
            NumericsSpec::Fast => Numerics::Fast,
        },
        global_batch: spec.train.global_batch,
        orphan_after: Duration::from_secs(u64::from(welcome.orphan_s.max(1))),
        every,
        audits: Schedule { every: audits(&spec), logical_shards: spec.train.logical_shards },
        engine,
        gpus: Gpus::wanted(&spec.resources, device, control.clone()),
        make_engine: Box::new(make_engine),
        folder,
        record,
        origins: Origins {
            manifest_json: welcome.manifest_json.clone(),
            module: match &spec.model {
                ModelSpec::Torchscript { path, digest, .. } => Some((path.clone(), digest.clone())),
                ModelSpec::Mlp { .. } | ModelSpec::Convnet { .. } | ModelSpec::Gpt { .. } => None,
            },
        },
        saver: saver.map_err(|e| worker(anyhow!(e).context("start the writer of checkpoints")))?,
        poller,
        inbox,
        control: control.clone(),
        faults,
        slowness,
    })
}

fn audits(spec: &JobSpec) -> audit::Every {
    match spec.train.audits() {
        AuditSpec::Off => audit::Every::Off,
        AuditSpec::Auto => audit::Every::Auto,
        AuditSpec::Steps(steps) => audit::Every::Steps(steps),
    }
}
