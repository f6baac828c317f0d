//! `ckpt pull`: a checkpoint copied out, verified on the way.

use super::progress;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
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
    let bar = progress::bytes(printer, format!("pulling step {step}"), 0);
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
