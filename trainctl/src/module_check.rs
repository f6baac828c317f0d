//! A TorchScript module, tried before a job is submitted: its file is looked at here, and the worker program, which has
//! libtorch, loads it and trains it on one micro-batch. Where there is no worker program, the look is all.

use crate::failure::{Class, Failure, Report};
use crate::format;
use crate::worker_program::{self, Answer};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use trainctl_data::Manifest;
use trainctl_jobs::{
    JobSpec, ModuleCheck, ModuleContents, ModuleFile, ModuleTrial, Refusal, RefusalCause, TensorCount,
};

/// A micro-batch is drawn from so many times its samples.
const DRAWN_FROM: f64 = 4.0;

/// What to try a module on.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// The job that is to train it, resolved.
    pub(crate) spec: &'a JobSpec,
    /// The job's data, or [`enough`] of them.
    pub(crate) data: &'a Manifest,
}

/// How far it was tried.
pub(crate) enum Outcome {
    /// All that was asked for.
    Accepted(ModuleContents),
    /// It can't be trained.
    Refused(Refusal),
    /// It was not loaded: here is no worker program.
    NoWorker(PathBuf),
}

/// Looks at the file, then has the worker program load it and, where there is a trial, compute it.
pub(crate) async fn check(path: &Path, digest: &str, trial: Option<Trial<'_>>) -> Result<Outcome, Failure> {
    let unread = |error: std::io::Error| Failure { class: Class::Usage, ..Failure::file("read model", path, &error) };
    let file = ModuleFile::look(File::open(path).map_err(unread)?).map_err(unread)?;
    if let Some(found) = file.found() {
        return Ok(Outcome::Refused(Refusal {
            cause: RefusalCause::Job,
            field: Some("model.path".to_owned()),
            message: format!("expected a TorchScript file, found {found}"),
            hint: Some(file.hint().to_owned()),
        }));
    }
    let folder =
        tempfile::tempdir().map_err(|error| Failure::file("make a folder in", &std::env::temp_dir(), &error))?;
    let (job, manifest) = (folder.path().join("job.json"), folder.path().join("manifest.json"));
    let mut args: Vec<&OsStr> = ["check-module", "--digest", digest, "--module"].map(OsStr::new).into();
    args.push(path.as_os_str());
    if let Some(Trial { spec, data }) = trial {
        let spec = serde_json::to_vec(spec)
            .map_err(|error| Failure::new(Class::Local, format!("write the job as JSON: {error}")))?;
        for (path, bytes) in [(&job, spec), (&manifest, data.to_bytes())] {
            std::fs::write(path, bytes).map_err(|error| Failure::file("write", path, &error))?;
        }
        args.extend(["--job".as_ref(), job.as_os_str(), "--manifest".as_ref(), manifest.as_os_str()]);
    }
    match worker_program::ask(&args).await? {
        Answer::NoProgram(program) => Ok(Outcome::NoWorker(program)),
        Answer::Json(ModuleCheck::Accepted(contents)) => Ok(Outcome::Accepted(contents)),
        Answer::Json(ModuleCheck::Refused(refusal)) => Ok(Outcome::Refused(refusal)),
    }
}

/// The first objects of a job's data that hold enough samples to draw its micro-batch from.
pub(crate) fn enough(spec: &JobSpec, data: Manifest) -> Manifest {
    let micro_batch = spec.train.global_batch / spec.train.logical_shards.max(1);
    let samples = f64::from(micro_batch) * DRAWN_FROM / (1.0 - spec.data.held_out).max(f64::EPSILON);
    let rows_each = f64::from(spec.model.context().unwrap_or(1));
    // One byte more than the windows of a text: the last is to be predicted. What is too large is all of the data.
    data.prefix((samples * rows_each).ceil() as u64 + 1)
}

/// A refusal as the command fails with it; `place` names a key of the job for the user.
pub(crate) fn refused(refusal: Refusal, place: impl Fn(Option<&str>) -> String) -> Failure {
    let Refusal { cause, field, message, hint } = refusal;
    let class = match cause {
        RefusalCause::Job => Class::Usage,
        RefusalCause::Data => Class::Damaged,
        RefusalCause::Machine => Class::Local,
    };
    let message = format!("{}: {message}", place(field.as_deref()));
    Failure { class, reports: vec![Report { message, hint }] }
}

/// What the user is told where there is no worker program.
pub(crate) fn not_loaded(program: &Path) -> String {
    format!(
        "the module was not tried: there is no worker program at {}\n\
         hint: build it with `cargo build -p trainctl-worker`, or name it in TRAINCTL_WORKER",
        program.display()
    )
}

/// What the module holds, in one line, and what a trial showed, in another.
pub(crate) fn summary(contents: &ModuleContents) -> String {
    let ModuleContents { trained, frozen, buffers, trial } = contents;
    let size = |count: &TensorCount| {
        let tensors = format::count(count.tensors, "tensor");
        format!("{tensors}, {}", format::grouped(count.elements, "parameter"))
    };
    let mut text = format!("trained: {}", size(trained));
    if frozen.tensors > 0 {
        text.push_str(&format!("; frozen: {}", size(frozen)));
    }
    if buffers.tensors > 0 {
        text.push_str(&format!("; buffers: {}", roles(buffers.tensors, trial.as_ref())));
    }
    let Some(trial) = trial else { return text };
    let samples = format::count(trial.samples.into(), "sample");
    format!("{text}\ntried on {samples}: loss {}", format::figure(trial.loss))
}

/// How many buffers training changes and how many it leaves alone, where that was tried.
fn roles(buffers: u64, trial: Option<&ModuleTrial>) -> String {
    let Some(trial) = trial else { return buffers.to_string() };
    let moving = trial.moving_buffers.len() as u64;
    let verb = |n, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    match (moving, buffers - moving) {
        (0, still) => verb(still, "stays", "stay"),
        (moving, 0) => verb(moving, "moves", "move"),
        (moving, still) => format!("{}, {}", verb(moving, "moves", "move"), verb(still, "stays", "stay")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_is_trained_what_moves_and_what_stays() {
        let count = |tensors, elements| TensorCount { tensors, elements };
        let untried =
            ModuleContents { trained: count(8, 25_450), frozen: count(0, 0), buffers: count(1, 4), trial: None };
        assert_eq!(summary(&untried), "trained: 8 tensors, 25,450 parameters; buffers: 1");
        let trial = ModuleTrial { samples: 32, loss: 2.302_9, moving_buffers: vec!["a".into(), "b".into()] };
        let tried = ModuleContents {
            trained: count(1, 1),
            frozen: count(2, 1_048_576),
            buffers: count(3, 9),
            trial: Some(trial),
        };
        assert_eq!(
            summary(&tried),
            "trained: 1 tensor, 1 parameter; frozen: 2 tensors, 1,048,576 parameters; buffers: 2 move, 1 stays\n\
             tried on 32 samples: loss 2.303"
        );
    }
}
