//! `ckpt ls` and `ckpt show`: what manifests say, with no file of a checkpoint read.

use super::failure;
use super::place::Place;
use crate::failure::{Failure, chain};
use crate::format;
use crate::printer::Printer;
use crate::table::{self, Rows, Tone, plain, toned};
use serde::Serialize;
use std::time::SystemTime;
use trainctl_checkpoint::{FileEntry, Listed, Manifest};

/// One checkpoint as `ls` has it.
#[derive(Serialize)]
struct Row {
    step: u64,
    bytes: Option<u64>,
    loss: Option<f64>,
    world_size: Option<u32>,
    generation: Option<u64>,
    why: Option<String>,
    state_digest: Option<String>,
    /// RFC 3339.
    committed: Option<String>,
    /// Why its manifest can't be read.
    damage: Option<String>,
}

/// One checkpoint as `show` has it.
#[derive(Serialize)]
struct Shown {
    run: String,
    #[serde(flatten)]
    row: Row,
    files: Vec<FileEntry>,
}

/// Lists the committed checkpoints, oldest first.
pub(super) async fn list(printer: &Printer, place: &Place) -> Result<(), Failure> {
    let listed = place.folder.list().await.map_err(|error| failure(&error))?;
    if listed.is_empty() && !printer.json() {
        printer.note(&format!("no checkpoints in {}", place.shown));
        return Ok(());
    }
    let views: Vec<Row> = listed.iter().map(row).collect();
    printer.emit(&views, |printer| table(printer, &listed, SystemTime::now()))
}

fn row(listed: &Listed) -> Row {
    match &listed.manifest {
        Ok(manifest) => row_of(manifest),
        Err(error) => Row {
            step: listed.step,
            bytes: None,
            loss: None,
            world_size: None,
            generation: None,
            why: None,
            state_digest: None,
            committed: None,
            damage: Some(chain(error)),
        },
    }
}

fn row_of(manifest: &Manifest) -> Row {
    Row {
        step: manifest.step,
        bytes: Some(manifest.bytes()),
        loss: manifest.loss,
        world_size: Some(manifest.world_size),
        generation: Some(manifest.generation),
        why: Some(manifest.why.clone()),
        state_digest: Some(manifest.state_digest.to_string()),
        committed: format::rfc3339(manifest.created_ms),
        damage: None,
    }
}

fn table(printer: &Printer, listed: &[Listed], now: SystemTime) -> String {
    let mut rows = Rows::new(printer, &[">STEP", ">SIZE", ">LOSS", ">WORKERS", "SAVED", "WHY", "STATE"]);
    for Listed { step, manifest } in listed {
        match manifest {
            Ok(manifest) => rows.push([
                plain(step),
                plain(format::bytes(manifest.bytes())),
                plain(manifest.loss.map_or_else(|| "-".to_owned(), format::figure)),
                plain(manifest.world_size),
                plain(format::ago(manifest.created_ms, now)),
                plain(&manifest.why),
                toned(format::short_digest(&manifest.state_digest.to_string()), Tone::Faint),
            ]),
            Err(error) => rows.push([
                plain(step),
                plain("-"),
                plain("-"),
                plain("-"),
                plain("-"),
                toned("damaged", Tone::Bad),
                plain(chain(error)),
            ]),
        }
    }
    rows.render()
}

/// Shows one.
pub(super) async fn show(printer: &Printer, place: &Place, step: u64) -> Result<(), Failure> {
    let manifest = place.folder.read_manifest(step).await.map_err(|error| failure(&error))?;
    let shown = Shown { run: place.shown.clone(), row: row_of(&manifest), files: manifest.files.clone() };
    printer.emit(&shown, |printer| {
        let saved = format::rfc3339(manifest.created_ms).unwrap_or_else(|| "-".to_owned());
        let mut rows = vec![
            ("run", place.shown.clone()),
            ("step", step.to_string()),
            ("why", manifest.why.clone()),
            ("saved", format!("{saved} by {}", format::count(manifest.world_size.into(), "worker"))),
            ("size", format::bytes(manifest.bytes())),
            ("state", manifest.state_digest.to_string()),
        ];
        if let Some(loss) = manifest.loss {
            rows.insert(3, ("loss", format::figure(loss)));
        }
        let mut files = Rows::new(printer, &["FILE", ">TENSORS", ">SIZE", "DIGEST"]);
        for file in &manifest.files {
            files.push([
                plain(&file.name),
                plain(file.tensors.len()),
                plain(format::bytes(file.bytes)),
                toned(format::short_digest(&file.digest.to_string()), Tone::Faint),
            ]);
        }
        format!("{}\n{}", table::pairs(printer, &rows), files.render())
    })
}
