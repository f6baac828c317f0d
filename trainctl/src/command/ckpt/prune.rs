//! `ckpt prune`: what newer checkpoints have made superfluous goes.

use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
use crate::table;
use serde::Serialize;
use trainctl_checkpoint::Retention;

/// What `prune` did, or would do.
#[derive(Serialize)]
struct Report {
    run: String,
    dry_run: bool,
    removed: Vec<u64>,
    /// Abandoned saves.
    cleared: Vec<u64>,
    kept: Vec<u64>,
}

/// Removes, or with `dry_run` says what would go.
pub(super) async fn prune(
    printer: &Printer,
    place: &Place,
    keep_last: u32,
    keep_every: Option<u64>,
    dry_run: bool,
) -> Result<(), Failure> {
    let spinner = printer.spinner("reading the newest checkpoint whole");
    let retention = Retention { keep_last, keep_every, just_saved: None };
    let pruned = match dry_run {
        true => place.folder.would_prune(retention).await,
        false => place.folder.prune(retention).await,
    };
    spinner.finish_and_clear();
    let pruned = pruned.map_err(|error| failure(&error))?;
    let report = Report {
        run: place.shown.clone(),
        dry_run,
        removed: pruned.removed,
        cleared: pruned.cleared,
        kept: pruned.kept,
    };
    printer.emit(&report, |printer| text(printer, &report))
}

fn text(printer: &Printer, report: &Report) -> String {
    let verb = if report.dry_run { "would remove" } else { "removed" };
    let mut rows = vec![(verb, steps(&report.removed)), ("kept", steps(&report.kept))];
    if !report.cleared.is_empty() {
        let verb = if report.dry_run { "would clear away" } else { "cleared away" };
        rows.push((verb, format!("{}, never finished", steps(&report.cleared))));
    }
    table::pairs(printer, &rows)
}

fn steps(steps: &[u64]) -> String {
    let names: Vec<String> = steps.iter().map(u64::to_string).collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        _ => format!("{}: {}", format::count(names.len() as u64, "checkpoint"), names.join(", ")),
    }
}
