//! `diff`: two runs side by side: what they were made from, how they ended, and their curves as far as they are
//! recorded: evaluations, and the training loss of checkpoints that are still there.

use super::reproduce::{end, record};
use crate::cli::Session;
use crate::failure::{Class, Failure};
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
use crate::table::{Rows, Tone, plain, toned};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use trainctl_checkpoint::{Digest, RunRecord};

/// Rows of the table of curves.
const ROWS_MAX: usize = 12;

/// Arguments of `diff`.
#[derive(Args, Debug)]
#[command(after_help = "\
RUN is a job's name or its run's folder, as for `trainctl ckpt`. Exit code 0: pins and final states are equal, whatever \
the names; 1: they differ.

Example:
  trainctl diff digits digits-2
  trainctl diff digits s3://bucket/runs/digits --all")]
pub(crate) struct DiffArgs {
    /// A job's name, or a run's folder: a path, file://, s3:// or gs://
    #[arg(value_name = "RUN")]
    first: String,
    /// The other
    #[arg(value_name = "RUN")]
    second: String,
    /// List what is equal as well
    #[arg(long)]
    all: bool,
}

/// Two runs.
#[derive(Serialize)]
struct Report {
    a: String,
    b: String,
    equal: bool,
    pins: Vec<Pin>,
    curves: [Curve; 2],
}

#[derive(Serialize)]
struct Pin {
    pin: String,
    equal: bool,
    a: Option<Value>,
    b: Option<Value>,
}

/// What is recorded, by step.
#[derive(Serialize, Default)]
struct Curve(BTreeMap<u64, Point>);

#[derive(Serialize, Default, Clone, Copy)]
struct Point {
    train_loss: Option<f64>,
    loss: Option<f64>,
    accuracy: Option<f64>,
}

/// Compares; exit code 1 if the runs differ.
pub(crate) async fn run(session: &Session, args: DiffArgs) -> Result<(), Failure> {
    let (first, second) = (Place::find(session, &args.first).await?, Place::find(session, &args.second).await?);
    let (ours, theirs) = tokio::try_join!(record(&first), record(&second))?;
    let curves = tokio::try_join!(curve(&first, &ours), curve(&second, &theirs))?;
    let ends = tokio::try_join!(end(&first, &ours), end(&second, &theirs))?;
    let pins = pins((&ours, ends.0), (&theirs, ends.1));
    let equal = pins.iter().all(|pin| pin.equal || pin.pin == "job.name");
    let report = Report { a: first.shown, b: second.shown, equal, pins, curves: curves.into() };
    session.printer.emit(&report, |printer| text(printer, &report, args.all))?;
    if equal { Ok(()) } else { Err(Failure::silent(Class::Differs)) }
}

/// Step and digest of a run's final state.
type End = Option<(u64, Digest)>;

/// All that decides the bits, and the bits.
fn pins(ours: (&RunRecord, End), theirs: (&RunRecord, End)) -> Vec<Pin> {
    let all = |(record, end): (&RunRecord, End)| {
        let mut pins = record.pins();
        let mut put = |name: &str, value: Option<Value>| value.and_then(|value| pins.insert(name.to_owned(), value));
        put("fingerprint_detail", Some(record.fingerprint_detail.clone().into()).filter(|text| *text != ""));
        put("final.step", end.map(|(step, _)| step.into()));
        put("final.state", end.map(|(_, state)| state.to_string().into()));
        pins
    };
    let (mut ours, mut theirs) = (all(ours), all(theirs));
    let names: BTreeSet<String> = ours.keys().chain(theirs.keys()).cloned().collect();
    let pin = |name: String| {
        let (a, b) = (ours.remove(&name), theirs.remove(&name));
        Pin { equal: a == b, pin: name, a, b }
    };
    names.into_iter().map(pin).collect()
}

async fn curve(place: &Place, record: &RunRecord) -> Result<Curve, Failure> {
    let mut curve = Curve::default();
    for listed in place.folder.list().await.map_err(|error| failure(&error))? {
        if let Ok(manifest) = listed.manifest {
            curve.0.entry(manifest.step).or_default().train_loss = manifest.loss;
        }
    }
    for evaluation in record.evaluations() {
        let point = curve.0.entry(evaluation.step).or_default();
        point.train_loss = evaluation.train_loss.or(point.train_loss);
        (point.loss, point.accuracy) = (Some(evaluation.loss), evaluation.accuracy);
    }
    Ok(curve)
}

fn text(printer: &Printer, report: &Report, all: bool) -> String {
    let mut text = format!("{} {}\n{} {}\n", printer.faint("A"), report.a, printer.faint("B"), report.b);
    let shown: Vec<&Pin> = report.pins.iter().filter(|pin| all || !pin.equal).collect();
    if !shown.is_empty() {
        let mut rows = Rows::new(printer, &["PIN", "A", "B"]);
        for pin in shown {
            let tone = |value: &Option<Value>| match pin.equal {
                true => plain(said(value)),
                false => toned(said(value), Tone::Busy),
            };
            rows.push([plain(&pin.pin), tone(&pin.a), tone(&pin.b)]);
        }
        text.push_str(&format!("\n{}", rows.render()));
    }
    text.push_str(&format!("\n{}", curves(printer, &report.curves)));
    text.push_str(match report.equal {
        true => "\nthe same pins and the same final state, bit for bit\n",
        false => "\nthe runs differ\n",
    });
    text
}

fn said(value: &Option<Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => format::short_digest(text).to_owned(),
        Some(value) => value.to_string(),
    }
}

fn curves(printer: &Printer, curves: &[Curve; 2]) -> String {
    let mut text = String::new();
    for (label, curve) in ["A", "B"].into_iter().zip(curves) {
        let losses: Vec<f64> = curve.0.values().filter_map(|point| point.loss.or(point.train_loss)).collect();
        if let (Some(first), Some(last)) = (losses.first(), losses.last()) {
            let line = format!("{}  {} to {}", sparkline(&losses), format::figure(*first), format::figure(*last));
            text.push_str(&format!("{} loss  {line}\n", printer.faint(label)));
        }
    }
    let steps: BTreeSet<u64> = curves.iter().flat_map(|curve| curve.0.keys().copied()).collect();
    if steps.is_empty() {
        return "no losses are recorded: neither evaluations nor checkpoints\n".to_owned();
    }
    let mut rows =
        Rows::new(printer, &[">STEP", ">TRAIN A", ">TRAIN B", ">EVAL A", ">EVAL B", ">ACCURACY A", ">ACCURACY B"]);
    for step in spread(&steps.into_iter().collect::<Vec<_>>()) {
        let [a, b] = [0, 1].map(|side: usize| curves[side].0.get(&step).copied().unwrap_or_default());
        let figure = |value: Option<f64>| plain(value.map_or_else(|| "-".to_owned(), format::figure));
        let percent =
            |value: Option<f64>| plain(value.map_or_else(|| "-".to_owned(), |v| format!("{:.2} %", v * 100.0)));
        rows.push([
            plain(step),
            figure(a.train_loss),
            figure(b.train_loss),
            figure(a.loss),
            figure(b.loss),
            percent(a.accuracy),
            percent(b.accuracy),
        ]);
    }
    text + &rows.render()
}

/// So many that a table holds them, the first and the last among them.
fn spread(steps: &[u64]) -> Vec<u64> {
    let count = steps.len().min(ROWS_MAX);
    (0..count).map(|at| steps[if count < 2 { 0 } else { at * (steps.len() - 1) / (count - 1) }]).collect()
}

/// Eight heights, from the least to the most.
fn sparkline(values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const WIDTH_MAX: usize = 40;
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (least, most) = finite().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    let count = values.len().min(WIDTH_MAX);
    let height = |at: usize| {
        let value = values[at * values.len() / count];
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        if value.is_finite() { HEIGHTS[(share * 7.0).round() as usize] } else { '×' }
    };
    (0..count).map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_the_first_and_the_last_step() {
        let steps: Vec<u64> = (0..=1000).collect();
        let rows = spread(&steps);
        assert_eq!((rows.len(), rows[0], rows[11]), (12, 0, 1000));
        assert_eq!(spread(&[7]), [7]);
        assert_eq!(spread(&[]), [] as [u64; 0]);
    }

    #[test]
    fn a_sparkline_falls_as_the_loss_does() {
        assert_eq!(sparkline(&[8.0, 4.5, 1.0]), "█▅▁");
        assert_eq!(sparkline(&[2.0, f64::NAN, 2.0]), "▁×▁");
        assert_eq!(sparkline(&[]), "");
    }
}
