//! Pinning: find the objects, go through them once, and write down what they are.

mod find;
mod options;

pub use options::{Column, PinOptions, Scale, Shape, TargetKind};

use crate::decode::{Layout, decode, parquet_columns, peek, probe_csv, probe_idx};
use crate::error::DataError;
use crate::manifest::{CsvLayout, Dtype, Features, Format, Manifest, Object, Role, Target};
use crate::survey::Survey;
use find::{Found, find};

/// Whole-number targets are taken for classes when there are no more, unless told otherwise.
const CLASSES_INFERRED_MAX: u32 = 1000;

/// Pins what `uri` names as it is now: a file or a folder, as `file:///path` or a path. The manifest's root is
/// absolute; [`Manifest::write`] makes it relative.
///
/// # Errors
/// [`DataError`] when nothing is there, the formats are mixed, the content is not what the format says, or the
/// options don't fit it.
pub fn pin(uri: &str, options: &PinOptions) -> Result<Manifest, DataError> {
    let Found { place, root, name, format, objects } = find(uri, options.format)?;
    let columns = match format {
        Format::Csv | Format::Parquet => Some(columns(&place, &objects[0].0, format, options)?),
        Format::Idx | Format::Text => None,
    };
    let csv = columns.as_ref().and_then(|columns| columns.csv);
    let mut survey = Survey::new(format == Format::Text);
    let mut pinned = Vec::new();
    let mut features_shape = None;
    for (path, role) in objects {
        let layout = Layout {
            format,
            csv: csv.unwrap_or(CsvLayout { header: false, delimiter: ',' }),
            column: columns.as_ref().map_or(0, |columns| columns.target),
            role,
        };
        if role == Some(Role::Features) && features_shape.is_none() {
            features_shape = Some(peek(&place, &path, probe_idx)?.shape);
        }
        let before = (survey.rows, survey.targets);
        let content = decode(&place, &path, None, &layout, &mut survey)?;
        let rows = if role == Some(Role::Target) { survey.targets - before.1 } else { survey.rows - before.0 };
        if role == Some(Role::Target) && survey.targets != survey.rows {
            return Err(DataError::Malformed {
                object: place.shown(&path),
                place: "header".to_owned(),
                expected: format!("{} labels, as there are images", survey.rows - before.1),
                found: rows.to_string(),
            });
        }
        pinned.push(Object { path, size: content.size, digest: content.digest, rows, role });
    }
    if survey.rows == 0 {
        return Err(DataError::Malformed {
            object: uri.to_owned(),
            place: "data".to_owned(),
            expected: "at least one row".to_owned(),
            found: "none".to_owned(),
        });
    }
    let manifest = Manifest {
        format_version: 1,
        name: options.name.clone().unwrap_or(name),
        format,
        root,
        objects: pinned,
        rows: survey.rows,
        features: features(format, &survey, features_shape, options)?,
        target: target(format, &survey, columns.map(|columns| columns.target), options)?,
        csv,
    };
    // What was just made must hold when it is read again: bounds are checked in one place only.
    Manifest::parse(&manifest.to_bytes(), uri)
}

struct Columns {
    target: usize,
    csv: Option<CsvLayout>,
}

/// Finds the target's column from the first object's own names.
fn columns(
    place: &crate::place::Place,
    path: &str,
    format: Format,
    options: &PinOptions,
) -> Result<Columns, DataError> {
    let (count, names, csv) = if format == Format::Csv {
        let probe = peek(place, path, probe_csv)?;
        (probe.columns, probe.names, Some(probe.layout))
    } else {
        let columns = peek(place, path, parquet_columns)?;
        (columns.len(), Some(columns), None)
    };
    let no_such = |expected: String, found: String, hint: &str| DataError::Option {
        option: "target column",
        expected,
        found,
        hint: hint.to_owned(),
    };
    let target = match (&options.target, names) {
        (None, _) => count.saturating_sub(1),
        (Some(Column::Index(index)), _) if (*index as usize) < count => *index as usize,
        (Some(Column::Index(index)), _) => {
            let expected = format!("0 to {}", count.saturating_sub(1));
            return Err(no_such(expected, index.to_string(), "columns count from 0"));
        }
        (Some(Column::Name(name)), None) => {
            let expected = "a number, as the file has no header".to_owned();
            return Err(no_such(expected, format!("{name:?}"), "columns count from 0"));
        }
        (Some(Column::Name(name)), Some(names)) => {
            let Some(index) = names.iter().position(|known| known == name) else {
                let expected = format!("one of {}", names.join(", "));
                return Err(no_such(expected, format!("{name:?}"), "names are as the file writes them"));
            };
            index
        }
    };
    Ok(Columns { target, csv })
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
    let is_image_bytes = format == Format::Idx && survey.dtype == Dtype::Uint8;
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
    let inferred = match survey.not_a_class {
        None if survey.classes() <= CLASSES_INFERRED_MAX => TargetKind::Class,
        _ => TargetKind::Number,
    };
    match (options.kind.unwrap_or(inferred), survey.not_a_class) {
        (TargetKind::Number, _) => Ok(Target::Number { column }),
        (TargetKind::Class, None) => Ok(Target::Class { classes: survey.classes(), column }),
        (TargetKind::Class, Some(value)) => Err(DataError::Option {
            option: "target kind",
            expected: "whole numbers from 0 to 65535 to be classes".to_owned(),
            found: format!("{value}"),
            hint: "pin it as a number, or number the classes from 0".to_owned(),
        }),
    }
}
