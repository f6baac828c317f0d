//! `ckpt show`: one checkpoint and its tensors. Their values stream by; memory holds some MiB of them.

use super::progress;
use super::row::Row;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::runs::{Place, failure};
use crate::table::{self, Rows, Tone, plain, toned};
use crate::tell;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use trainctl_checkpoint::{Digest, Figures, FileEntry, Group, Manifest, TensorEntry, measure};

/// Tensors read at a time, each with two requests of 4 MiB under way.
const TENSORS_AT_A_TIME: usize = 8;

/// One checkpoint as `show` has it.
#[derive(Serialize)]
struct Shown {
    run: String,
    #[serde(flatten)]
    row: Row,
    files: Vec<File>,
    tensors: Vec<Tensor>,
}

#[derive(Serialize)]
struct File {
    name: String,
    group: Group,
    bytes: u64,
    digest: Digest,
}

/// The figures are of the values that are finite, and absent where none were read.
#[derive(Serialize)]
struct Tensor {
    group: Group,
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    norm: Option<f64>,
    max_abs: Option<f64>,
    nonfinite: Option<u64>,
    digest: Digest,
    file: String,
}

/// Shows the checkpoint of `step`; with `quick` no values are read.
pub(super) async fn show(printer: &Printer, place: &Place, step: u64, quick: bool) -> Result<(), Failure> {
    let manifest = place.folder.read_manifest(step).await.map_err(|error| failure(&error))?;
    let mut entries: Vec<(&FileEntry, &TensorEntry)> =
        manifest.files.iter().flat_map(|file| file.tensors.iter().map(move |tensor| (file, tensor))).collect();
    entries.sort_by_key(|(file, tensor)| (file.group, &tensor.name));
    let figures = if quick { vec![None; entries.len()] } else { figures(printer, place, &manifest, &entries).await? };
    let tensors: Vec<Tensor> = entries.iter().zip(figures).map(|(entry, figures)| described(*entry, figures)).collect();
    let file =
        |file: &FileEntry| File { name: file.name.clone(), group: file.group, bytes: file.bytes, digest: file.digest };
    let shown = Shown {
        run: place.shown.clone(),
        row: Row::from(&manifest),
        files: manifest.files.iter().map(file).collect(),
        tensors,
    };
    printer.emit(&shown, |printer| text(printer, &manifest, &shown))
}

async fn figures(
    printer: &Printer,
    place: &Place,
    manifest: &Manifest,
    entries: &[(&FileEntry, &TensorEntry)],
) -> Result<Vec<Option<Figures>>, Failure> {
    let bar = progress::bytes(printer, format!("reading step {}", manifest.step), manifest.bytes());
    let readers = entries.iter().map(|(file, tensor)| {
        let bytes = tensor.shape.iter().product::<usize>() as u64 * 4;
        let (reader, bar) = (place.folder.tensor(manifest, file, tensor), bar.clone());
        async move {
            let figures = measure(reader).await;
            bar.inc(bytes);
            figures.map(Some)
        }
    });
    let figures = futures::stream::iter(readers.collect::<Vec<_>>()).buffered(TENSORS_AT_A_TIME).try_collect().await;
    bar.finish_and_clear();
    figures.map_err(|error| failure(&error))
}

fn described((file, tensor): (&FileEntry, &TensorEntry), figures: Option<Figures>) -> Tensor {
    Tensor {
        group: file.group,
        name: tensor.name.clone(),
        dtype: "F32",
        shape: tensor.shape.clone(),
        norm: figures.map(|figures| figures.norm),
        max_abs: figures.map(|figures| figures.max_abs),
        nonfinite: figures.map(|figures| figures.nonfinite),
        digest: tensor.digest,
        file: file.name.clone(),
    }
}

fn text(printer: &Printer, manifest: &Manifest, shown: &Shown) -> String {
    let saved = format::rfc3339(manifest.created_ms).unwrap_or_else(|| "-".to_owned());
    let values: usize = shown.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let mut rows = vec![
        ("run", shown.run.clone()),
        ("step", manifest.step.to_string()),
        ("why", manifest.why.clone()),
        ("saved", format!("{saved} by {}", format::count(manifest.world_size.into(), "worker"))),
        ("size", size(manifest)),
        ("values", format!("{values} in {}", format::count(shown.tensors.len() as u64, "tensor"))),
        ("state", manifest.state_digest.to_string()),
    ];
    if let Some(loss) = manifest.loss {
        rows.insert(3, ("loss", format::figure(loss)));
    }
    if manifest.audits_passed > 0 {
        rows.push(("audits", tell::audits(manifest.audits_passed)));
    }
    let mut tensors = Rows::new(printer, &["GROUP", "TENSOR", "DTYPE", "SHAPE", ">NORM", ">MAX ABS"]);
    for tensor in &shown.tensors {
        let figure = |value: Option<f64>| match (value, tensor.nonfinite) {
            (Some(value), Some(0)) => plain(format::figure(value)),
            (Some(_), _) => toned("not finite", Tone::Bad),
            (None, _) => plain("-"),
        };
        tensors.push([
            plain(tensor.group),
            plain(&tensor.name),
            plain(tensor.dtype),
            plain(shape(&tensor.shape)),
            figure(tensor.norm),
            figure(tensor.max_abs),
        ]);
    }
    format!("{}\n{}", table::pairs(printer, &rows), tensors.render())
}

fn size(manifest: &Manifest) -> String {
    let files = format::count(manifest.files.len() as u64, "file");
    let size = format!("{} in {files}", format::bytes(manifest.bytes()));
    match manifest.added_bytes() {
        added if added == manifest.bytes() => size,
        added => format!("{size}, {} of them new", format::bytes(added)),
    }
}

/// `64x128`; `scalar` for none.
pub(super) fn shape(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        dims => dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
    }
}
