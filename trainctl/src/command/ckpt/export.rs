//! `ckpt export`: the model of a checkpoint as one file for serving.

use super::progress;
use crate::failure::{Class, Failure};
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure, origins};
use crate::worker_program;
use serde::Serialize;
use std::path::{Path, PathBuf};
use trainctl_checkpoint::Manifest;
use trainctl_jobs::{JobSpec, ModelSpec};

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// All tensors of the model.
    #[default]
    Safetensors,
    /// The job's TorchScript module with them in it.
    Torchscript,
}

/// What `export` did.
#[derive(Serialize)]
struct Exported {
    step: u64,
    format: Format,
    bytes: u64,
    state_digest: String,
    file: PathBuf,
}

/// Writes the file.
pub(super) async fn export(
    printer: &Printer,
    place: &Place,
    step: u64,
    dest: PathBuf,
    format: Format,
) -> Result<(), Failure> {
    let manifest = match format {
        Format::Safetensors => model(printer, place, step, &dest).await?,
        Format::Torchscript => torchscript(printer, place, step, &dest).await?,
    };
    let bytes = std::fs::metadata(&dest).map_err(|error| Failure::file("look at", &dest, &error))?.len();
    let exported = Exported { step, format, bytes, state_digest: manifest.state_digest.to_string(), file: dest };
    printer.emit(&exported, |_| {
        format!("the model of step {step} ({}), verified, is in {}\n", format::bytes(bytes), exported.file.display())
    })
}

async fn model(printer: &Printer, place: &Place, step: u64, dest: &Path) -> Result<Manifest, Failure> {
    let bar = progress::bytes(printer, format!("exporting step {step}"), 0);
    let exported = place.folder.export_model(step, dest, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    });
    let exported = exported.await;
    bar.finish_and_clear();
    exported.map_err(|error| failure(&error))
}

/// The worker does it: it has libtorch.
async fn torchscript(printer: &Printer, place: &Place, step: u64, dest: &Path) -> Result<Manifest, Failure> {
    let record = place.folder.read_run().await.map_err(|error| failure(&error))?.ok_or_else(|| {
        let message = format!("{}: expected run.json, which names the job's module, found none", place.shown);
        Failure::new(Class::Refused, message).hint("--format safetensors needs no module")
    })?;
    let mut spec: JobSpec = serde_json::from_value(record.job)
        .map_err(|error| Failure::new(Class::Damaged, format!("{}/run.json: job: {error}", place.shown)))?;
    let folder =
        tempfile::tempdir().map_err(|error| Failure::file("make a folder in", &std::env::temp_dir(), &error))?;
    origins::bring_module(place, &mut spec.model, folder.path()).await?;
    let ModelSpec::Torchscript { path, digest, .. } = spec.model else {
        let message = format!(
            "{}: expected a job whose model is a TorchScript module, found a built-in {} model",
            place.shown,
            spec.model.kind()
        );
        return Err(Failure::new(Class::Refused, message).hint(
            "write the tensors with --format safetensors; a module of your own is trained with kind = \"torchscript\"",
        ));
    };
    let weights = folder.path().join("model.safetensors");
    let manifest = model(printer, place, step, &weights).await?;
    let args = [
        "export".as_ref(),
        "--module".as_ref(),
        path.as_ref(),
        "--digest".as_ref(),
        digest.as_ref(),
        "--weights".as_ref(),
        weights.as_os_str(),
        "--output".as_ref(),
        dest.as_os_str(),
    ];
    worker_program::run(&args).await?;
    Ok(manifest)
}
