//! `data pin|show|verify`: data sets as jobs name them, a manifest and its digest.

use crate::cli::Session;
use crate::failure::{Class, Failure, chain};
use crate::format;
use crate::printer::Printer;
use crate::table::{self, Rows, Tone, plain, toned};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trainctl_data::{
    Base, Column, DataError, Finding, FirstRow, Format, HeaderLine, Manifest, Mark, MissingValues, Note, ObjectReport,
    PinOptions, PinReport, Progress, Scale, Shape, Summary, TargetKind, manifest_digest,
};

/// Rows that are shown of a data set, and features of each.
const FIRST_ROWS: usize = 5;
const FEATURES_SHOWN: usize = 6;
/// Of so many objects the rows of each are shown.
const OBJECTS_LISTED: usize = 12;

/// Arguments of `data`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl data pin data/digits.csv.gz -o digits.manifest.json --scale 1/16\n  \
                        trainctl data verify digits.manifest.json")]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand, Debug)]
enum DataCommand {
    /// Read a data set once and write down what it is; prints what to put into the job
    Pin(Box<PinArgs>),
    /// Say what a manifest pins
    #[command(after_help = "Example:\n  trainctl data show digits.manifest.json")]
    Show {
        /// The manifest: a path, or s3://bucket/path, gs://bucket/path
        #[arg(value_name = "MANIFEST")]
        manifest: String,
    },
    /// Read all objects of a manifest and say which are not as they were pinned
    #[command(after_help = "Example:\n  trainctl data verify digits.manifest.json")]
    Verify {
        /// The manifest: a path, or s3://bucket/path, gs://bucket/path
        #[arg(value_name = "MANIFEST")]
        manifest: String,
    },
}

/// Arguments of `data pin`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl data pin data/digits.csv.gz -o digits.manifest.json --scale 1/16\n  \
                        trainctl data pin flowers.csv --drop id --missing fill=mean --dry-run\n  \
                        trainctl data pin s3://bucket/photos -o s3://bucket/photos.manifest.json\n  \
                        trainctl data pin project/dvc.lock --out data/train")]
struct PinArgs {
    /// A file or folder, as a path or file:///path; s3://bucket/path or gs://bucket/path; a .dvc file or a dvc.lock
    #[arg(value_name = "URI")]
    uri: String,
    /// Where to write the manifest, here or in a bucket [default: NAME.manifest.json]
    #[arg(short = 'o', long, value_name = "MANIFEST")]
    manifest: Option<String>,
    /// Which output of a dvc.lock to pin [default: the only one]
    #[arg(long, value_name = "PATH")]
    out: Option<String>,
    /// Say what would be pinned and write nothing
    #[arg(long)]
    dry_run: bool,
    /// What to call the data set [default: from the file or folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// csv, idx, parquet, text or tar [default: from the files' names]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Column to learn, by name or else counted from 0 [default: the last]; of tar shards, the key in a sample's JSON
    #[arg(long, value_name = "COLUMN")]
    target: Option<Column>,
    /// class, number, or label for classes by name [default: label if the first target is text, class if all are whole
    /// numbers below 1000]
    #[arg(long, value_name = "KIND")]
    kind: Option<TargetKind>,
    /// Columns of a table that are features, by name or counted from 0, in this order [default: all but the target]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    columns: Option<Vec<Column>>,
    /// Columns of a table to leave out
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    drop: Vec<Column>,
    /// What becomes of rows that lack a value: drop, fill=mean or fill=NUMBER [default: an error]
    #[arg(long, value_name = "WHAT")]
    missing: Option<MissingValues>,
    /// Whether a CSV's first line has names: yes, no, or the line that has them [default: yes if it is no row]
    #[arg(long, value_name = "LINE")]
    header: Option<HeaderLine>,
    /// What is between two values of a CSV's line, such as ';' or tab [default: what the first line has most of]
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<Mark>,
    /// The mark before a number's fraction in a CSV, such as ',' [default: .]
    #[arg(long, value_name = "CHARACTER")]
    decimal: Option<Mark>,
    /// Lines at the start of each CSV file that are no part of the table [default: 0]
    #[arg(long, value_name = "LINES")]
    skip: Option<u32>,
    /// What features are multiplied by, such as 1/16 [default: 1; bytes of images 1/255]
    #[arg(long, value_name = "FACTOR")]
    scale: Option<Scale>,
    /// Dimensions of a sample, such as 1x8x8 [default: as the file has it]
    #[arg(long, value_name = "SIZES")]
    shape: Option<Shape>,
}

/// What `data pin` wrote.
#[derive(Serialize)]
struct Pinned {
    /// Where the manifest is, as the user wrote it; absent where none was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    /// Of its bytes; what a job names.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(flatten)]
    summary: Summary,
    /// Rows of each object.
    object_rows: BTreeMap<String, u64>,
    /// What to look at before training on it.
    notes: Vec<Note>,
    first_rows: Vec<FirstRow>,
}

/// What `data show` prints.
#[derive(Serialize)]
struct Shown {
    manifest: String,
    digest: String,
    #[serde(flatten)]
    content: Manifest,
    first_rows: Vec<FirstRow>,
}

/// What `data verify` found.
#[derive(Serialize)]
struct Verified {
    manifest: String,
    digest: String,
    /// Whether all objects are as they were pinned.
    whole: bool,
    objects: Vec<ObjectReport>,
}

/// Pins, shows or verifies.
pub(crate) async fn run(session: &Session, args: DataArgs) -> Result<(), Failure> {
    let printer = session.printer.clone();
    // Reading a data set blocks; a thread of its own may.
    let work = tokio::task::spawn_blocking(move || match args.command {
        DataCommand::Pin(args) => pin(&printer, *args),
        DataCommand::Show { manifest } => show(&printer, manifest),
        DataCommand::Verify { manifest } => verify(&printer, manifest),
    });
    work.await.map_err(|error| Failure::new(Class::Local, format!("read data: {error}")))?
}

fn pin(printer: &Printer, args: PinArgs) -> Result<(), Failure> {
    let PinArgs { uri, manifest: place, out, name, format, target, kind, scale, shape, .. } = args;
    let PinArgs { columns, drop, missing, header, skip, dry_run, .. } = args;
    let [delimiter, decimal] = [args.delimiter, args.decimal].map(|mark| mark.map(|Mark(mark)| mark));
    let options = PinOptions {
        name,
        format,
        out,
        target,
        kind,
        scale,
        shape,
        columns,
        drop,
        missing,
        header,
        delimiter,
        decimal,
        skip,
    };
    let report = reading(printer, |progress| trainctl_data::pin_reported(&uri, &options, progress));
    let PinReport { manifest, notes } = report.map_err(failure)?;
    let first_rows = trainctl_data::first_rows(&manifest, Path::new("/"), FIRST_ROWS).map_err(failure)?;
    let place = place.unwrap_or_else(|| format!("{}.manifest.json", manifest.name));
    let digest = if dry_run { None } else { Some(manifest.write_to(&place).map_err(failure)?) };
    let pinned = Pinned {
        manifest: (!dry_run).then_some(place),
        digest,
        summary: manifest.summary(),
        object_rows: manifest.objects.iter().map(|object| (object.path.clone(), object.rows)).collect(),
        notes,
        first_rows,
    };
    if !printer.json() {
        let objects = rows_of_objects(printer, &manifest);
        let rows = table_of_rows(printer, &manifest, &pinned.first_rows);
        let notes: String = pinned.notes.iter().map(|note| format!("note: {note}\n")).collect();
        let next = if dry_run { "nothing was written" } else { "put this under [data] in the job:" };
        printer.note(&format!("{}\n{objects}{rows}{notes}\n{next}", pinned.summary));
    }
    printer.emit(&pinned, |_| match (&pinned.manifest, &pinned.digest) {
        (Some(manifest), Some(digest)) => {
            format!("manifest = {}\ndigest = \"{digest}\"\n", serde_json::Value::from(manifest.as_str()))
        }
        _ => String::new(),
    })
}

/// How many rows each of a few objects has, where there are several.
fn rows_of_objects(printer: &Printer, manifest: &Manifest) -> String {
    if !(2..=OBJECTS_LISTED).contains(&manifest.objects.len()) {
        return String::new();
    }
    let mut rows = Rows::new(printer, &["OBJECT", ">ROWS"]);
    manifest.objects.iter().for_each(|object| rows.push([plain(&object.path), plain(object.rows)]));
    format!("\n{}", rows.render())
}

/// The first rows as a table: the first few features before they are scaled, and the target.
fn table_of_rows(printer: &Printer, manifest: &Manifest, first: &[FirstRow]) -> String {
    let Some(widest) = first.iter().map(|row| row.features.len().min(FEATURES_SHOWN)).max() else {
        return String::new();
    };
    let table = manifest.table.as_ref();
    // A column of lists has more values than a name.
    let of = first[0].of;
    let named = table.filter(|table| table.features.len() == of);
    let name = |at: usize| named.map_or_else(|| at.to_string(), |table| table.features[at].clone());
    let mut titles: Vec<String> =
        (0..widest).map(|at| format!(">{}", name(at).replace(char::is_control, " "))).collect();
    if of > widest {
        titles.push(format!("({} MORE)", of - widest));
    }
    titles.push(table.map_or_else(|| "TARGET".to_owned(), |table| table.target.replace(char::is_control, " ")));
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut rows = Rows::new(printer, &titles);
    for row in first {
        let values = row.features.iter().take(widest).map(plain);
        let more = (of > widest).then(|| plain("..."));
        rows.push(values.chain(more).chain([plain(&row.target)]));
    }
    format!("\n{}", rows.render())
}

/// With a bar of the bytes read so far.
fn reading<T>(printer: &Printer, work: impl FnOnce(&(dyn Fn(Progress) + Sync)) -> T) -> T {
    let style = "reading {msg}  {wide_bar}  {bytes}/{total_bytes}  {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = printer.live().add(ProgressBar::no_length().with_style(style));
    let result = work(&|progress| {
        bar.set_length(progress.bytes);
        bar.set_position(progress.bytes_done);
        bar.set_message(format!("{} of {}", progress.objects_done, format::count(progress.objects, "object")));
    });
    bar.finish_and_clear();
    result
}

fn show(printer: &Printer, place: String) -> Result<(), Failure> {
    let (content, digest) = read(&place)?;
    // The manifest is shown where its data can't be read.
    let first = trainctl_data::first_rows(&content, Base::of_manifest(&place), FIRST_ROWS);
    let first_rows = first.as_ref().map(Clone::clone).unwrap_or_default();
    let shown = Shown { manifest: place, digest, content, first_rows };
    printer.emit(&shown, |printer| {
        let mut text =
            format!("{}\ndigest    {}\nroot      {}\n\n", shown.content.summary(), shown.digest, shown.content.root);
        match &first {
            Ok(first) => text.push_str(table_of_rows(printer, &shown.content, first).trim_start_matches('\n')),
            Err(error) => text.push_str(&format!("first rows: {}\n", chain(error))),
        }
        text.push('\n');
        let mut rows = Rows::new(printer, &["OBJECT", ">ROWS", ">SIZE", "DIGEST"]);
        for object in &shown.content.objects {
            rows.push([
                plain(&object.path),
                plain(object.rows),
                plain(format::bytes(object.size)),
                toned(format::short_digest(&object.digest), Tone::Faint),
            ]);
        }
        text.push_str(&rows.render());
        text
    })
}

fn verify(printer: &Printer, place: String) -> Result<(), Failure> {
    let (manifest, digest) = read(&place)?;
    let base = Base::of_manifest(&place);
    let objects =
        reading(printer, |progress| trainctl_data::verify_with(&manifest, base, progress)).map_err(failure)?;
    let whole = objects.iter().all(|object| object.finding == Finding::Whole);
    let verified = Verified { manifest: place, digest, whole, objects };
    printer.emit(&verified, |printer| {
        let rows: Vec<(&str, String)> =
            verified.objects.iter().map(|object| (object.object.as_str(), finding(printer, object))).collect();
        table::pairs(printer, &rows)
    })?;
    if whole {
        return Ok(());
    }
    let wrong = verified.objects.iter().filter(|object| object.finding != Finding::Whole).count();
    let message = format!(
        "{}: {wrong} of {} not as pinned",
        verified.manifest,
        format::count(verified.objects.len() as u64, "object")
    );
    Err(Failure::new(Class::Damaged, message)
        .hint("restore the data, or pin it as it is now and put the new digest into the job"))
}

fn finding(printer: &Printer, object: &ObjectReport) -> String {
    match &object.finding {
        Finding::Whole => format!("{} ({})", printer.tone("as pinned", Tone::Good), format::bytes(object.size)),
        Finding::Missing => printer.tone("missing", Tone::Bad),
        Finding::Changed { what, expected, found } => {
            format!("{}: expected {what} {expected}, found {found}", printer.tone("changed", Tone::Bad))
        }
    }
}

/// A manifest and its digest.
fn read(place: &str) -> Result<(Manifest, String), Failure> {
    let bytes = fetch(place).map_err(|failure| failure.hint("`trainctl data pin` writes manifests"))?;
    let manifest = Manifest::parse(&bytes, place).map_err(failure)?;
    Ok((manifest, manifest_digest(&bytes)))
}

/// The bytes of a manifest, from a file or a bucket.
pub(crate) fn fetch(place: &str) -> Result<Vec<u8>, Failure> {
    Manifest::fetch(place).map_err(|error| match &error {
        DataError::File { path, source, .. } => {
            Failure { class: Class::Usage, ..Failure::file("read manifest", Path::new(path), source) }
        }
        DataError::Missing { .. } => Failure { class: Class::Usage, ..failure(error) },
        _ => failure(error),
    })
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::file("resolve", path, &error))?;
    Ok(path.parent().unwrap_or(Path::new("/")).to_owned())
}

/// A data error in this command line's words. `--target` and the like are options of `data pin`.
pub(crate) fn failure(error: DataError) -> Failure {
    if let DataError::File { path, done, source } = &error {
        let action = if *done == "written" { "write" } else { "read" };
        return Failure::file(action, Path::new(path), source);
    }
    let class = match &error {
        DataError::Manifest { .. } | DataError::Option { .. } | DataError::Open(_) => Class::Usage,
        DataError::Missing { .. } | DataError::Changed { .. } | DataError::Malformed { .. } => Class::Damaged,
        DataError::TooLarge { .. } => Class::Refused,
        DataError::Store { .. } | DataError::File { .. } => Class::Local,
    };
    let failure = Failure::new(class, chain(&error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
