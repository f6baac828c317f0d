//! `model pin`: a model of the user's own as jobs name it, a file and its digest, once it was tried.

use crate::cli::Session;
use crate::command::{data, submit};
use crate::failure::{Class, Failure};
use crate::module_check::{self, Outcome, Trial};
use crate::printer::Printer;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use trainctl_data::{Manifest, Target, manifest_digest};
use trainctl_jobs::{JobSpec, ModuleContents};

/// Arguments of `model`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl model pin jobs/models/digits.pt")]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand, Debug)]
enum ModelCommand {
    /// Try a TorchScript file as a worker would and print what to put into the job
    Pin(PinArgs),
}

/// Arguments of `model pin`.
#[derive(Args, Debug)]
#[command(after_help = "\
The worker program loads the file, and refuses what can't be trained. With --data it also trains the module for one step \
on a micro-batch, with the loss that the data's target asks for, and throws the result away.

Example:
  trainctl model pin jobs/models/digits.pt --data jobs/data/digits.manifest.json")]
struct PinArgs {
    /// What torch.jit.script(module).save(FILE) wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Data to try it on: a manifest that `trainctl data pin` wrote
    #[arg(long, value_name = "MANIFEST")]
    data: Option<String>,
    /// Bytes of text that it sees at a time, as model.context of the job; for text only
    #[arg(long, value_name = "BYTES", requires = "data", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    context: Option<u32>,
    /// Samples to try it on, as train.global_batch / train.logical_shards of the job
    #[arg(long, value_name = "SAMPLES", requires = "data", default_value = "32",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    micro_batch: u32,
}

/// As `pin` prints it.
#[derive(Debug, Serialize)]
struct Pinned {
    kind: &'static str,
    path: PathBuf,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<u32>,
    size: u64,
    /// What the worker program found; `null` where there is none.
    module: Option<ModuleContents>,
}

/// Pins.
pub(crate) async fn run(session: &Session, args: ModelArgs) -> Result<(), Failure> {
    let ModelCommand::Pin(args) = args.command;
    let printer = &session.printer;
    let size = std::fs::metadata(&args.file).map_err(|error| unread(&args.file, &error))?.len();
    let file = args.file.clone();
    let work = tokio::task::spawn_blocking(move || digest(&file));
    let digest = work.await.map_err(|error| Failure::new(Class::Local, format!("pin the model: {error}")))??;
    let module = match attempt(printer, &args, &digest).await? {
        Outcome::Accepted(module) => Some(module),
        Outcome::NoWorker(program) => {
            printer.note(&module_check::not_loaded(&program));
            None
        }
        Outcome::Refused(refusal) => {
            let file = args.file.display();
            return Err(module_check::refused(refusal, |field| match field {
                None | Some("model.path") => file.to_string(),
                Some(field) => format!("{file}: {field}"),
            }));
        }
    };
    let PinArgs { file: path, context, .. } = args;
    show(printer, &Pinned { kind: "torchscript", path, digest, context, size, module })
}

/// Tries the file, on data where some are named.
async fn attempt(printer: &Printer, args: &PinArgs, digest: &str) -> Result<Outcome, Failure> {
    let Some(place) = &args.data else { return module_check::check(&args.file, digest, None).await };
    let bytes = data::fetch(place)?;
    let manifest = Manifest::parse(&bytes, place).map_err(data::failure)?;
    let spec = job(args, place, digest, &manifest, &manifest_digest(&bytes))?;
    let checked = submit::check_recorded(spec, &args.file.display().to_string(), None).await?;
    let spec = checked.spec();
    let spinner = printer.spinner("trying the module");
    let data = module_check::enough(spec, manifest);
    let outcome = module_check::check(&args.file, digest, Some(Trial { spec, data: &data })).await;
    spinner.finish_and_clear();
    outcome
}

/// The job of one step that the module is tried as.
fn job(
    args: &PinArgs,
    place: &str,
    digest: &str,
    manifest: &Manifest,
    manifest_digest: &str,
) -> Result<JobSpec, Failure> {
    let usage = |message: String, hint: &str| Err(Failure::new(Class::Usage, message).hint(hint));
    match (&manifest.target, args.context) {
        (Target::NextByte, None) => {
            let message = "--context: expected how many bytes of text the module sees at a time, found none";
            return usage(message.to_owned(), "such as --context 64");
        }
        (Target::Class { .. } | Target::Number { .. }, Some(context)) => {
            let message = format!("--context: expected none for {place}, which is no text, found {context}");
            return usage(message, "leave --context away");
        }
        _ => {}
    }
    let loss = if matches!(manifest.target, Target::Number { .. }) { "mse" } else { "cross-entropy" };
    let mut model = serde_json::json!({ "kind": "torchscript", "path": args.file, "digest": digest });
    if let Some(context) = args.context {
        model["context"] = context.into();
    }
    let spec = serde_json::json!({
        "name": "pin",
        "data": { "manifest": place, "digest": manifest_digest },
        "model": model,
        "train": { "steps": 1, "global_batch": args.micro_batch, "logical_shards": 1, "loss": loss },
    });
    serde_json::from_value(spec).map_err(|error| Failure::new(Class::Local, format!("make a job: {error}")))
}

fn show(printer: &Printer, pinned: &Pinned) -> Result<(), Failure> {
    if let Some(module) = pinned.module.as_ref().filter(|_| !printer.json()) {
        printer.note(&format!("{}\n\nput this under [model] in the job:", module_check::summary(module)));
    }
    printer.emit(pinned, |_| {
        let quoted = serde_json::Value::from(pinned.path.display().to_string());
        let context = pinned.context.map_or_else(String::new, |context| format!("context = {context}\n"));
        format!("kind = \"{}\"\npath = {quoted}\ndigest = \"{}\"\n{context}", pinned.kind, pinned.digest)
    })
}

/// Of a file's bytes, as jobs write it.
pub(super) fn digest(path: &Path) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(File::open(path).map_err(|error| unread(path, &error))?)
        .map_err(|error| unread(path, &error))?;
    Ok(format!("blake3:{}", hasher.finalize().to_hex()))
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    Failure { class: Class::Usage, ..Failure::file("read model", path, error) }
}
