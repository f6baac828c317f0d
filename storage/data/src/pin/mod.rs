//! Pinning: find the objects, go through them once, and write down what they are.

mod dvc;
mod dvc_config;
mod find;
mod folder;
mod links;
mod names;
mod note;
mod options;
mod record;
mod table;

pub use note::Note;
pub use options::{Column, HeaderLine, Mark, MissingValues, PinOptions, Scale, Shape, TargetKind};

use crate::cache::cache_folder;
use crate::decode::{Layout, TarProbe, decode, peek, peek_some, probe_idx, probe_tar};
use crate::error::DataError;
use crate::manifest::{
    CsvLayout, Dtype, Features, Format, Manifest, Missing, Object, READING, Role, TableLayout, Target,
};
use crate::parallel::ordered;
use crate::place::Place;
use crate::progress::{Progress, Progressing};
use crate::reader::Content;
use crate::survey::{Survey, Wanted, is_byte};
use find::{Found, Listed, find};
use record::Record;
use table::{Columns, columns};

/// Whole-number targets are taken for classes when there are no more, unless told otherwise.
const CLASSES_INFERRED_MAX: u32 = 1000;

/// Pins what `uri` names as it is now: a file or a folder, as a path or `file:///path`; an object of a bucket, or all
/// below a place in it, as `s3://bucket/path` or `gs://bucket/path`; what DVC tracks, as a path of a `.dvc` file or
/// `dvc.lock`. The manifest's root is absolute; [`Manifest::write_to`] makes it relative.
///
/// # Errors
/// [`DataError`] when nothing is there, the formats are mixed, the content is not what the format says, or the
/// options don't fit it.
pub fn pin(uri: &str, options: &PinOptions) -> Result<Manifest, DataError> {
    pin_with(uri, options, &|_| {})
}

/// [`pin()`], telling how far it is.
///
/// # Errors
/// As [`pin()`].
pub fn pin_with(uri: &str, options: &PinOptions, progress: &(dyn Fn(Progress) + Sync)) -> Result<Manifest, DataError> {
    pin_reported(uri, options, progress).map(|report| report.manifest)
}

/// A pinned data set, and what a person should know about how it was read.
#[derive(Clone, PartialEq, Debug)]
pub struct PinReport {
    /// What was pinned.
    pub manifest: Manifest,
    /// Choices that were made from the values alone.
    pub notes: Vec<Note>,
}

/// [`pin_with`], with notes on what was taken for what.
///
/// # Errors
/// As [`pin()`].
pub fn pin_reported(
    uri: &str,
    options: &PinOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<PinReport, DataError> {
    let Found { place, root, name, format, objects, left_alone } = find(uri, options)?;
    options.check_for(format)?;
    let FirstLook { layout, columns, shape } = FirstLook::at(&place, &objects, format, options)?;
    let wanted = Wanted {
        text: format == Format::Text,
        numeric_labels: options.kind == Some(TargetKind::Label),
        means: options.missing == Some(MissingValues::FillMean),
    };
    let record = place.is_remote().then(|| Record::open(&cache_folder(), &root, &layout, wanted));
    let bytes = objects.iter().filter_map(|object| object.source.size).sum();
    let progressing = Progressing::new(progress, objects.len(), bytes);
    let read = ordered(&objects, place.objects_at_once(), |object| {
        let read = read_object(&place, object, &layout, wanted, record.as_ref())?;
        progressing.done(read.0.size);
        Ok(read)
    })?;
    let mut survey = Survey::new(wanted);
    let mut pinned = Vec::new();
    for (Listed { source, role, .. }, (content, found)) in objects.into_iter().zip(read) {
        let rows = if role == Some(Role::Target) { found.targets } else { found.rows };
        let before = survey.targets;
        survey.add(&found).map_err(|bad| bad.of(source.shown(&place)))?;
        if role == Some(Role::Target) && survey.targets != survey.rows {
            return Err(DataError::Malformed {
                object: source.shown(&place),
                place: "header".to_owned(),
                expected: format!("{} labels, as there are images", survey.rows - before),
                found: rows.to_string(),
                hint: None,
            });
        }
        let Content { size, digest, version } = content;
        pinned.push(Object { path: source.path, size, digest, rows, role, stored: source.stored, version });
    }
    if survey.rows == 0 {
        return Err(DataError::Malformed {
            object: uri.to_owned(),
            place: "data".to_owned(),
            expected: "at least one row".to_owned(),
            found: "none".to_owned(),
            hint: (survey.dropped > 0).then(|| format!("{} rows lack a value", survey.dropped).into()),
        });
    }
    let mut table = layout.table;
    if wanted.means
        && let Some(table) = &mut table
    {
        fill_with_means(table, &mut survey)?;
    }
    let manifest = Manifest {
        format_version: 1,
        name: options.name.clone().unwrap_or(name),
        format,
        root,
        objects: pinned,
        rows: survey.rows,
        features: features(format, &survey, shape, options)?,
        target: target(format, &survey, columns.as_ref().map(|columns| columns.target), options)?,
        csv: columns.as_ref().and_then(|columns| columns.csv),
        table,
        class_names: (!survey.labels.is_empty()).then(|| survey.labels.keys().cloned().collect()),
        reading: layout.tar.as_ref().map(|_| READING),
        tar: layout.tar,
    };
    // What was just made must hold when it is read again: bounds are checked in one place only.
    let manifest = Manifest::parse(&manifest.to_bytes(), uri)?;
    let mut notes = note::of_targets(&manifest.target, &survey, options.kind.is_none());
    notes.extend(note::of_files(left_alone, &manifest));
    notes.extend(columns.iter().flat_map(|columns| note::of_columns(columns, &manifest, &survey)));
    Ok(PinReport { manifest, notes })
}

/// Puts the mean of each feature where one is missing.
fn fill_with_means(table: &mut TableLayout, survey: &mut Survey) -> Result<(), DataError> {
    if survey.sums.len() != table.features.len() {
        return Err(DataError::Option {
            option: "missing",
            expected: "one value for each column, for fill=mean".to_owned(),
            found: "lists".to_owned(),
            hint: "leave the lists out, or drop rows".to_owned(),
        });
    }
    let mut means = Vec::new();
    for (name, &(sum, count)) in table.features.iter().zip(&survey.sums) {
        if count == 0 {
            return Err(DataError::Option {
                option: "missing",
                expected: "columns with values, for fill=mean".to_owned(),
                found: format!("none in {name}"),
                hint: "leave the column out with `--drop`, or fill with a number".to_owned(),
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
        let mean = sum / count as f64;
        #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
        if count < survey.rows && !is_byte(mean as f32) {
            survey.dtype = Dtype::Float32;
        }
        means.push(mean);
    }
    table.missing = Some(Missing::Fill(means));
    Ok(())
}

/// Size, digest and rows of an object: read, or known from when this version of it was last read.
fn read_object(
    place: &Place,
    object: &Listed,
    layout: &Layout,
    wanted: Wanted,
    record: Option<&Record>,
) -> Result<(Content, Survey), DataError> {
    if let Some(known) = record.and_then(|record| record.get(object)) {
        let version = object.version.clone();
        return Ok((Content { size: known.size, digest: known.digest.clone(), version }, known.survey.clone()));
    }
    let mut survey = Survey::new(wanted);
    let layout = Layout { role: object.role, ..layout.clone() };
    let content = decode(place, &object.source, &layout, &mut survey)?;
    if let Some(record) = record {
        record.add(object, &content, &survey);
    }
    Ok((content, survey))
}

/// What the first object's start says of how to read all of them.
struct FirstLook {
    layout: Layout,
    columns: Option<Columns>,
    /// Of one sample, in the formats that say so themselves.
    shape: Option<Vec<u32>>,
}

impl FirstLook {
    fn at(place: &Place, objects: &[Listed], format: Format, options: &PinOptions) -> Result<Self, DataError> {
        let (mut columns, mut tar, mut shape) = (None, None, None);
        let mut has_labels = false;
        match format {
            Format::Csv | Format::Parquet => columns = Some(self::columns(place, objects, format, options)?),
            Format::Idx => {
                shape = Some(peek(place, &objects[0].source, Format::Idx, |input, _| probe_idx(input))?.shape)
            }
            Format::Tar => {
                let TarProbe { layout, shape: found, is_label } = samples(place, objects, options)?;
                (tar, shape) = (Some(layout), Some(found));
                has_labels = match options.kind {
                    Some(TargetKind::Label) => true,
                    Some(TargetKind::Number) => false,
                    Some(TargetKind::Class) | None => is_label,
                };
            }
            Format::Text => {}
        }
        let layout = Layout {
            format,
            csv: columns
                .as_ref()
                .and_then(|columns: &Columns| columns.csv)
                .unwrap_or(CsvLayout { header: false, delimiter: ',' }),
            column: columns.as_ref().map_or(0, |columns| columns.target),
            table: columns.as_ref().and_then(|columns| columns.table.clone()),
            first: columns.as_ref().map(|columns| columns.first.clone()).unwrap_or_default(),
            labels: columns.as_ref().map_or(has_labels, |columns| columns.labels),
            role: None,
            tar,
            shape: shape.clone().unwrap_or_default(),
            reading: READING,
        };
        Ok(Self { layout, columns, shape })
    }
}

/// How a tar archive's samples are read, and their shape, from the first that has any.
fn samples(place: &Place, objects: &[Listed], options: &PinOptions) -> Result<TarProbe, DataError> {
    let field = match &options.target {
        Some(Column::Name(name)) => Some(name.as_str()),
        Some(Column::Index(index)) => {
            return Err(DataError::Option {
                option: "target",
                expected: "a key of the samples' JSON".to_owned(),
                found: index.to_string(),
                hint: "leave it out where the target is a member .cls or .txt".to_owned(),
            });
        }
        None => None,
    };
    for object in objects {
        let Some(mut probe) = peek_some(place, &object.source, Format::Tar, |input| probe_tar(input, field))? else {
            continue;
        };
        if let Some(Shape(asked)) = &options.shape
            && matches!(asked[..], [1 | 3, _, _])
        {
            probe.shape.clone_from(asked);
        }
        return Ok(probe);
    }
    Err(DataError::Malformed {
        object: objects[0].source.shown(place),
        place: "archive".to_owned(),
        expected: "at least one sample".to_owned(),
        found: "none".to_owned(),
        hint: None,
    })
}

fn features(
    format: Format,
    survey: &Survey,
    natural: Option<Vec<u32>>,
    options: &PinOptions,
) -> Result<Features, DataError> {
    let given = |option, expected: String, found: String, hint: &str| {
        Err(DataError::Option { option, expected, found, hint: hint.to_owned() })
    };
    if format == Format::Text {
        if let Some(Shape(shape)) = &options.shape {
            return given("shape", "none for text".to_owned(), format!("{shape:?}"), "leave it out");
        }
        if let Some(Scale(scale)) = options.scale {
            return given("scale", "none for text".to_owned(), scale.to_string(), "leave it out");
        }
        return Ok(Features::of_text());
    }
    let elements = survey.elements.unwrap_or(0);
    let natural = match natural {
        // Images of one channel say nothing of it.
        Some(shape) if shape.len() == 2 => [vec![1], shape].concat(),
        Some(shape) => shape,
        None => vec![u32::try_from(elements).unwrap_or(u32::MAX)],
    };
    let shape = options.shape.as_ref().map_or(natural, |Shape(shape)| shape.clone());
    let is_image_bytes = matches!(format, Format::Idx | Format::Tar) && survey.dtype == Dtype::Uint8;
    let default_scale = if is_image_bytes { 1.0 / 255.0 } else { 1.0 };
    let scale = options.scale.map_or(default_scale, |Scale(scale)| scale);
    let features = Features { shape, dtype: survey.dtype, scale };
    if features.elements() != elements as u64 {
        let expected = format!("a product of {elements}, the values of each row");
        return given("shape", expected, format!("{:?}", features.shape), "leave it out to take rows as they are");
    }
    Ok(features)
}

fn target(format: Format, survey: &Survey, column: Option<usize>, options: &PinOptions) -> Result<Target, DataError> {
    if format == Format::Text {
        return match options.kind {
            None => Ok(Target::NextByte),
            Some(kind) => Err(DataError::Option {
                option: "target kind",
                expected: "none for text".to_owned(),
                found: kind.as_str().to_owned(),
                hint: "leave it out: a text's target is its next byte".to_owned(),
            }),
        };
    }
    let column = column.map(|column| u32::try_from(column).unwrap_or(u32::MAX));
    if !survey.labels.is_empty() {
        let classes = u32::try_from(survey.labels.len()).unwrap_or(u32::MAX);
        return Ok(Target::Class { classes, column });
    }
    let inferred = match survey.not_a_class {
        None if survey.class_count() <= CLASSES_INFERRED_MAX => TargetKind::Class,
        _ => TargetKind::Number,
    };
    match (options.kind.unwrap_or(inferred), survey.not_a_class) {
        (TargetKind::Number, _) => Ok(Target::Number { column }),
        (TargetKind::Class | TargetKind::Label, None) => Ok(Target::Class { classes: survey.class_count(), column }),
        (TargetKind::Class | TargetKind::Label, Some(value)) => Err(DataError::Option {
            option: "target kind",
            expected: "whole numbers from 0 to 65535 to be classes".to_owned(),
            found: format!("{value}"),
            hint: "pin it as a number, or number the classes from 0".to_owned(),
        }),
    }
}
