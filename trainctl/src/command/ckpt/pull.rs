//! `ckpt pull`: a checkpoint copied out, verified on the way.

use super::failure;
use super::place::Place;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::PathBuf;

/// What `pull` did.
#[derive(Serialize)]
struct Pulled {
    step: u64,
    bytes: u64,
    state_digest: String,
    folder: PathBuf,
}

/// Copies, with a bar.
pub(super) async fn pull(printer: &Printer, place: &Place, step: u64, dest: PathBuf) -> Result<(), Failure> {
    let style = "pulling step {msg}  {wide_bar}  {bytes}/{total_bytes}  {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = printer.live().add(ProgressBar::no_length().with_style(style).with_message(step.to_string()));
    let pulled = place.folder.pull(step, &dest, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    });
    let pulled = pulled.await;
    bar.finish_and_clear();
    let manifest = pulled.map_err(|error| failure(&error))?;
    let pulled =
        Pulled { step, bytes: manifest.bytes(), state_digest: manifest.state_digest.to_string(), folder: dest };
    printer.emit(&pulled, |_| {
        format!("step {step} ({}), verified, is in {}\n", format::bytes(pulled.bytes), pulled.folder.display())
    })
}
