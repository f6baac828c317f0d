//! `ckpt diff`: two checkpoints tensor by tensor. Tensors of equal digests are equal and are not read; of the others
//! both values stream by.

use super::progress;
use super::show::shape;
use crate::failure::{Class, Failure};
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
use crate::table::{Rows, Tone, plain, toned};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use std::collections::BTreeMap;
use trainctl_checkpoint::{CheckpointError, Difference, FileEntry, Group, Manifest, TensorEntry, compare};

/// Pairs of tensors read at a time, each with four requests of 4 MiB under way.
const PAIRS_AT_A_TIME: usize = 4;

/// What was compared, and what came of it.
#[derive(Serialize)]
struct Report {
    a: Side,
    b: Side,
    equal: bool,
    tensors: Vec<Compared>,
}

#[derive(Serialize)]
struct Side {
    run: String,
    step: u64,
    state_digest: String,
}

#[derive(Serialize)]
struct Compared {
    group: Group,
    name: String,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum Verdict {
    Equal,
    /// Values differ. An infinite figure is `null` in JSON.
    Differs {
        values_differing: u64,
        values: u64,
        max_abs: f64,
        relative_norm: f64,
    },
    Shapes {
        a: Vec<usize>,
        b: Vec<usize>,
    },
    OnlyInA,
    OnlyInB,
}

type Tensors<'a> = BTreeMap<(Group, &'a str), (&'a FileEntry, &'a TensorEntry)>;

/// Compares; equal checkpoints end with exit code 0, others with 1.
pub(super) async fn diff(printer: &Printer, first: &Place, second: &Place, all: bool) -> Result<(), Failure> {
    let (a, b) = (manifest(first).await?, manifest(second).await?);
    let (ours, theirs) = (tensors(&a), tensors(&b));
    let mut names: Vec<_> = ours.keys().chain(theirs.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();

    let differing = |name: &(Group, &str)| match (ours.get(name), theirs.get(name)) {
        (Some((_, a)), Some((_, b))) if a.digest != b.digest && a.shape == b.shape => elements(a) * 8,
        _ => 0,
    };
    let bar = progress::bytes(printer, "comparing".to_owned(), names.iter().map(differing).sum());
    let compared = names.iter().map(|name| {
        let (pair, bar, work) = ((ours.get(name), theirs.get(name)), bar.clone(), differing(name));
        let readers = || {
            let ((a_file, a_tensor), (b_file, b_tensor)) = (pair.0?, pair.1?);
            Some((first.folder.tensor(&a, a_file, a_tensor), second.folder.tensor(&b, b_file, b_tensor)))
        };
        let readers = if work > 0 { readers() } else { None };
        async move {
            let difference = match readers {
                Some((a, b)) => Some(compare(a, b).await?),
                None => None,
            };
            bar.inc(work);
            let verdict = verdict(pair.0.map(|(_, tensor)| *tensor), pair.1.map(|(_, tensor)| *tensor), difference);
            Ok(Compared { group: name.0, name: name.1.to_owned(), verdict })
        }
    });
    let compared = futures::stream::iter(compared.collect::<Vec<_>>()).buffered(PAIRS_AT_A_TIME);
    let compared: Result<Vec<Compared>, CheckpointError> = compared.try_collect().await;
    bar.finish_and_clear();
    let tensors = compared.map_err(|error| failure(&error))?;

    let equal = tensors.iter().all(|tensor| matches!(tensor.verdict, Verdict::Equal));
    let report = Report { a: side(first, &a), b: side(second, &b), equal, tensors };
    printer.emit(&report, |printer| text(printer, &report, all))?;
    if equal { Ok(()) } else { Err(Failure::silent(Class::Differs)) }
}

async fn manifest(place: &Place) -> Result<Manifest, Failure> {
    place.folder.read_manifest(place.step(None).await?).await.map_err(|error| failure(&error))
}

fn tensors(manifest: &Manifest) -> Tensors<'_> {
    let mut tensors = Tensors::new();
    for file in &manifest.files {
        tensors.extend(file.tensors.iter().map(|tensor| ((file.group, tensor.name.as_str()), (file, tensor))));
    }
    tensors
}

fn elements(tensor: &TensorEntry) -> u64 {
    tensor.shape.iter().product::<usize>() as u64
}

fn verdict(a: Option<&TensorEntry>, b: Option<&TensorEntry>, difference: Option<Difference>) -> Verdict {
    match (a, b, difference) {
        (Some(_), None, _) => Verdict::OnlyInA,
        (None, _, _) => Verdict::OnlyInB,
        (Some(a), Some(b), _) if a.shape != b.shape => Verdict::Shapes { a: a.shape.clone(), b: b.shape.clone() },
        (Some(a), _, Some(difference)) => Verdict::Differs {
            values_differing: difference.values,
            values: elements(a),
            max_abs: difference.max_abs,
            relative_norm: difference.relative_norm,
        },
        (Some(_), Some(_), None) => Verdict::Equal,
    }
}

fn side(place: &Place, manifest: &Manifest) -> Side {
    Side { run: place.shown.clone(), step: manifest.step, state_digest: manifest.state_digest.to_string() }
}

fn text(printer: &Printer, report: &Report, all: bool) -> String {
    let name = |label: &str, side: &Side| format!("{} {}@{}\n", printer.faint(label), side.run, side.step);
    let mut text = name("A", &report.a) + &name("B", &report.b);
    let mut rows = Rows::new(printer, &["GROUP", "TENSOR", ">VALUES", ">MAX ABS", ">RELATIVE"]);
    let mut equal = 0;
    for tensor in &report.tensors {
        let [values, max_abs, relative] = match &tensor.verdict {
            Verdict::Equal => {
                equal += 1;
                if !all {
                    continue;
                }
                [toned("equal", Tone::Good), plain("0"), plain("0")]
            }
            Verdict::Differs { values_differing, values, max_abs, relative_norm } => [
                plain(format!("{values_differing} of {values}")),
                plain(format::figure(*max_abs)),
                plain(format::figure(*relative_norm)),
            ],
            Verdict::Shapes { a, b } => {
                [toned(format!("{} and {}", shape(a), shape(b)), Tone::Bad), plain("-"), plain("-")]
            }
            Verdict::OnlyInA => [toned("only in A", Tone::Bad), plain("-"), plain("-")],
            Verdict::OnlyInB => [toned("only in B", Tone::Bad), plain("-"), plain("-")],
        };
        rows.push([plain(tensor.group), plain(&tensor.name), values, max_abs, relative]);
    }
    if all || !report.equal {
        text.push('\n');
        text.push_str(&rows.render());
        text.push('\n');
    }
    let others = report.tensors.len() - equal;
    text.push_str(&match others {
        0 => format!(
            "{}: all {}, bit for bit\n",
            printer.tone("equal", Tone::Good),
            format::count(equal as u64, "tensor")
        ),
        others => format!("{} differ, {equal} equal\n", format::count(others as u64, "tensor")),
    });
    text
}
