//! `ckpt verify`: every byte of a checkpoint against the digests of its manifest.

use crate::failure::{Class, Failure, chain};
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
use crate::table::{Rows, Tone, plain, toned};
use serde::Serialize;
use trainctl_checkpoint::CheckpointError;

/// What `verify` found of one step.
#[derive(Serialize)]
struct Verdict {
    step: u64,
    whole: bool,
    damage: Option<String>,
}

/// Verifies one step or all; fails if one is damaged.
pub(super) async fn verify(printer: &Printer, place: &Place, step: Option<u64>) -> Result<(), Failure> {
    let steps = match step {
        Some(step) => vec![step],
        None => place.folder.steps().await.map_err(|error| failure(&error))?,
    };
    if steps.is_empty() && !printer.json() {
        printer.note(&format!("no checkpoints in {}", place.shown));
    }
    let mut verdicts = Vec::new();
    for (at, &step) in steps.iter().enumerate() {
        let spinner = printer.spinner(&format!("verifying step {step}, {} of {}", at + 1, steps.len()));
        let verified = place.folder.verify(step).await;
        spinner.finish_and_clear();
        let damage = match verified {
            Ok(_) => None,
            Err(error @ (CheckpointError::Damaged(_) | CheckpointError::FormatVersion { .. })) => Some(chain(&error)),
            Err(error) => return Err(failure(&error)),
        };
        verdicts.push(Verdict { step, whole: damage.is_none(), damage });
    }
    printer.emit(&verdicts, |printer| {
        let mut rows = Rows::new(printer, &[">STEP", "VERDICT"]);
        for verdict in &verdicts {
            let text = verdict.damage.as_deref().unwrap_or("whole");
            rows.push([plain(verdict.step), toned(text, if verdict.whole { Tone::Good } else { Tone::Bad })]);
        }
        if verdicts.is_empty() { String::new() } else { rows.render() }
    })?;
    let damaged = verdicts.iter().filter(|verdict| !verdict.whole).count();
    if damaged == 0 {
        return Ok(());
    }
    let all = format::count(verdicts.len() as u64, "checkpoint");
    let hint = match (verdicts.iter().rfind(|verdict| verdict.whole), step) {
        (Some(whole), _) => format!("a job that resumes falls back to step {}, the newest whole one", whole.step),
        (None, Some(_)) => "without a step all are verified, and the newest whole one is named".to_owned(),
        (None, None) => "nothing is left to go on from: bring a copy back, or submit under another name".to_owned(),
    };
    Err(Failure::new(Class::Damaged, format!("{}: {damaged} of {all} can't be trusted", place.shown)).hint(hint))
}
