//! `model pin`: a model of the user's own as jobs name it, a file and its digest.

use crate::cli::Session;
use crate::failure::{Class, Failure};
use crate::printer::Printer;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Arguments of `model`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl model pin jobs/models/digits.pt")]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand, Debug)]
enum ModelCommand {
    /// Read a TorchScript file and print what to put into the job
    #[command(after_help = "Example:\n  trainctl model pin jobs/models/digits.pt")]
    Pin {
        /// What torch.jit.script(module).save(FILE) wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// As `pin` prints it.
#[derive(Debug, Serialize)]
struct Pinned {
    kind: &'static str,
    path: PathBuf,
    digest: String,
    size: u64,
}

/// How every zip archive begins, and so every TorchScript file.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Pins.
pub(crate) async fn run(session: &Session, args: ModelArgs) -> Result<(), Failure> {
    let ModelCommand::Pin { file } = args.command;
    let work = tokio::task::spawn_blocking(move || pin(file));
    let pinned = work.await.map_err(|error| Failure::new(Class::Local, format!("pin the model: {error}")))??;
    show(&session.printer, &pinned)
}

fn pin(path: PathBuf) -> Result<Pinned, Failure> {
    let size = std::fs::metadata(&path).map_err(|error| unread(&path, &error))?.len();
    let mut begin = [0; ZIP.len()];
    let is_zip = File::open(&path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == ZIP;
    if !is_zip {
        let message = format!("{}: expected a TorchScript file, found one that is no zip archive", path.display());
        return Err(Failure::new(Class::Usage, message).hint("torch.jit.script(module).save(FILE) writes one"));
    }
    Ok(Pinned { kind: "torchscript", digest: digest(&path)?, path, size })
}

fn show(printer: &Printer, pinned: &Pinned) -> Result<(), Failure> {
    printer.emit(pinned, |_| {
        let quoted = serde_json::Value::from(pinned.path.display().to_string());
        format!("kind = \"{}\"\npath = {quoted}\ndigest = \"{}\"\n", pinned.kind, pinned.digest)
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
