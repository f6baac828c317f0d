//! `ckpt ls`: what manifests say, with no file of a checkpoint read.

use super::row::Row;
use crate::failure::{Failure, chain};
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
use crate::table::{Rows, Tone, plain, toned};
use std::time::SystemTime;
use trainctl_checkpoint::Listed;

/// Lists the committed checkpoints, oldest first.
pub(super) async fn list(printer: &Printer, place: &Place) -> Result<(), Failure> {
    let spinner = printer.spinner(&format!("listing {}", place.shown));
    let listed = place.folder.list().await;
    spinner.finish_and_clear();
    let listed = listed.map_err(|error| failure(&error))?;
    if listed.is_empty() && !printer.json() {
        printer.note(&format!("no checkpoints in {}", place.shown));
        return Ok(());
    }
    let rows: Vec<Row> = listed.iter().map(Row::from).collect();
    printer.emit(&rows, |printer| table(printer, &listed, SystemTime::now()))
}

fn table(printer: &Printer, listed: &[Listed], now: SystemTime) -> String {
    let mut rows = Rows::new(printer, &[">STEP", ">AGE", ">SIZE", ">ADDED", ">LOSS", ">WORKERS", "WHY"]);
    for Listed { step, manifest } in listed {
        match manifest {
            Ok(manifest) => rows.push([
                plain(step),
                plain(format::age(manifest.created_ms, now)),
                plain(format::bytes(manifest.bytes())),
                plain(format::bytes(manifest.added_bytes())),
                plain(manifest.loss.map_or_else(|| "-".to_owned(), format::figure)),
                plain(manifest.world_size),
                plain(&manifest.why),
            ]),
            Err(error) => rows.push([
                plain(step),
                plain("-"),
                plain("-"),
                plain("-"),
                plain("-"),
                plain("-"),
                toned(format!("can't be read: {}", chain(error)), Tone::Bad),
            ]),
        }
    }
    rows.render()
}
