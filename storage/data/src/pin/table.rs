//! Which columns of a table are read, and what for: from the first object's own names and what the user says.

use super::find::Listed;
use super::options::{Column, HeaderLine, MissingValues, PinOptions, TargetKind};
use crate::decode::{CsvAsked, CsvProbe, ParquetProbe, Value, list, peek, peek_some, probe_csv, probe_parquet};
use crate::error::DataError;
use crate::manifest::{CsvLayout, Format, Missing, TableLayout};
use crate::place::Place;

/// How a table is read.
pub(super) struct Columns {
    /// The target's place in the first object.
    pub(super) target: usize,
    pub(super) csv: Option<CsvLayout>,
    /// Absent where columns are found by their places.
    pub(super) table: Option<TableLayout>,
    /// Targets are names of classes.
    pub(super) labels: bool,
    /// The object that the names are from.
    pub(super) first: String,
    /// The names are 0, 1, 2, ...
    pub(super) counts: bool,
    /// The columns that only name the rows.
    pub(super) index: Vec<String>,
    /// Rows have a first value that the header has no name for.
    pub(super) has_unnamed_first: bool,
}

/// What the first object says of its columns.
struct Look {
    /// In a CSV without a header, their places.
    names: Vec<String>,
    is_named: bool,
    index: Vec<String>,
    csv: Option<CsvLayout>,
    counts: bool,
    has_unnamed_first: bool,
    /// Whether a column's values are text, by its place.
    text: Vec<bool>,
}

/// Looks at the first object that has a row, or else at the first with names.
pub(super) fn columns(
    place: &Place,
    objects: &[Listed],
    format: Format,
    options: &PinOptions,
) -> Result<Columns, DataError> {
    let mut named = None;
    for object in objects {
        let look = match format {
            Format::Csv => {
                let asked = asked(options);
                let probe = peek_some(place, &object.source, format, |input| probe_csv(input, &asked))?;
                probe.map(|probe| (!probe.row.is_empty(), of_csv(probe, options)))
            }
            _ => {
                let probe = peek(place, &object.source, format, probe_parquet)?;
                Some((probe.rows > 0, of_parquet(probe)))
            }
        };
        match look {
            Some((true, look)) => return choose(look, object, options),
            Some((false, look)) => drop(named.get_or_insert((look, object))),
            None => {}
        }
    }
    match named {
        Some((look, object)) => choose(look, object, options),
        None => Err(DataError::Malformed {
            object: objects[0].source.shown(place),
            place: "line 1".to_owned(),
            expected: "a row of numbers".to_owned(),
            found: "an empty line or file".to_owned(),
            hint: None,
        }),
    }
}

fn asked(options: &PinOptions) -> CsvAsked {
    let byte = |character: Option<char>| character.and_then(|character| u8::try_from(character).ok());
    let (header, above) = match options.header {
        None => (None, 0),
        Some(HeaderLine::Yes) => (Some(true), 0),
        Some(HeaderLine::No) => (Some(false), 0),
        Some(HeaderLine::At(line)) => (Some(true), line.saturating_sub(1)),
    };
    CsvAsked {
        header,
        delimiter: byte(options.delimiter),
        decimal: byte(options.decimal),
        skip: options.skip.unwrap_or(0).saturating_add(above),
        missing: options.missing.is_some(),
    }
}

fn of_csv(probe: CsvProbe, options: &PinOptions) -> Look {
    let CsvProbe { layout, names, columns, counts, row_names, has_unnamed_first, row } = probe;
    let decimal = asked(options).decimal.unwrap_or(b'.');
    let is_text = |field: &String| matches!(Value::of(field.as_bytes(), decimal), Value::Text);
    let is_named = names.is_some();
    let text = match row.len() == columns {
        true => row.iter().map(is_text).collect(),
        // Of a row with more columns than are kept, the last field kept is the last of all.
        false => (0..columns).map(|at| at + 1 == columns && row.last().is_some_and(is_text)).collect(),
    };
    let places = || (0..columns).map(|place| place.to_string()).collect();
    Look {
        names: names.unwrap_or_else(places),
        is_named,
        index: row_names.into_iter().collect(),
        csv: Some(layout),
        counts,
        has_unnamed_first,
        text,
    }
}

fn of_parquet(probe: ParquetProbe) -> Look {
    let ParquetProbe { names, index, text, .. } = probe;
    Look {
        text: names.iter().map(|name| text.contains(name)).collect(),
        index: names.iter().filter(|name| index.contains(*name)).cloned().collect(),
        names,
        is_named: true,
        csv: None,
        counts: false,
        has_unnamed_first: false,
    }
}

fn choose(look: Look, first: &Listed, options: &PinOptions) -> Result<Columns, DataError> {
    let Look { names, is_named, index, csv, counts, has_unnamed_first, text } = look;
    let find = |option: &'static str, column: &Column| find(option, column, &names, is_named);
    let dropped = options.drop.iter().map(|column| find("drop", column)).collect::<Result<Vec<_>, _>>()?;
    let is_read = |place: &usize| !index.contains(&names[*place]) && !dropped.contains(place);
    let target = match &options.target {
        Some(column) => find("target column", column)?,
        None => (0..names.len()).rev().find(is_read).unwrap_or(names.len().saturating_sub(1)),
    };
    if dropped.contains(&target) {
        return Err(DataError::Option {
            option: "drop",
            expected: "columns other than the target".to_owned(),
            found: names[target].clone(),
            hint: "name another target with `--target`".to_owned(),
        });
    }
    let features: Vec<usize> = match &options.columns {
        Some(columns) => {
            let asked = columns.iter().map(|column| find("columns", column)).collect::<Result<Vec<_>, _>>()?;
            asked.into_iter().filter(|place| *place != target && !dropped.contains(place)).collect()
        }
        None => (0..names.len()).filter(is_read).filter(|place| *place != target).collect(),
    };
    let labels = match options.kind {
        Some(TargetKind::Label) => true,
        Some(TargetKind::Number) => false,
        Some(TargetKind::Class) | None => text.get(target).copied().unwrap_or(false),
    };
    let asked = asked(options);
    let is_plain = options.columns.is_none()
        && options.drop.is_empty()
        && options.missing.is_none()
        && asked.decimal.is_none()
        && asked.skip == 0;
    let by_place = !is_named && is_plain;
    let name = |place: usize| names[place].clone();
    let missing = options.missing.map(|missing| match missing {
        MissingValues::Drop => Missing::Drop,
        MissingValues::Fill(value) => Missing::Fill(vec![value; features.len()]),
        // Until the means are known.
        MissingValues::FillMean => Missing::Fill(vec![0.0; features.len()]),
    });
    if !by_place && features.is_empty() && names.len() > 1 {
        return Err(DataError::Option {
            option: "columns",
            expected: "at least one column beside the target".to_owned(),
            found: format!("{} as the target, of {}", names[target], list(names.iter().map(String::as_str))),
            hint: "name columns with `--columns`, or fewer with `--drop`".to_owned(),
        });
    }
    let has_table = !by_place && !features.is_empty();
    let table = has_table.then(|| TableLayout {
        left_out: left_out(&names, target, &features),
        features: features.iter().map(|&place| name(place)).collect(),
        target: name(target),
        missing,
        skip: if csv.is_some() { asked.skip } else { 0 },
        decimal: options.decimal.filter(|_| csv.is_some()),
    });
    Ok(Columns { target, csv, table, labels, first: first.source.path.clone(), counts, index, has_unnamed_first })
}

/// The columns that are neither target nor features.
fn left_out(names: &[String], target: usize, features: &[usize]) -> Vec<String> {
    let used: std::collections::BTreeSet<usize> = features.iter().copied().chain([target]).collect();
    (0..names.len()).filter(|place| !used.contains(place)).map(|place| names[place].clone()).collect()
}

/// The place of a column: by name, and else by its place.
fn find(option: &'static str, column: &Column, names: &[String], is_named: bool) -> Result<usize, DataError> {
    let no_such = |expected: String, found: String, hint: &str| DataError::Option {
        option,
        expected,
        found,
        hint: hint.to_owned(),
    };
    let text = match column {
        Column::Index(index) => index.to_string(),
        Column::Name(name) => name.clone(),
    };
    if let Some(place) = names.iter().position(|name| *name == text) {
        return Ok(place);
    }
    match column {
        Column::Index(index) if (*index as usize) < names.len() => Ok(*index as usize),
        Column::Index(index) => {
            let expected = format!("0 to {}", names.len().saturating_sub(1));
            Err(no_such(expected, index.to_string(), "columns count from 0"))
        }
        Column::Name(name) if is_named => {
            let expected = format!("one of {}", list(names.iter().map(String::as_str)));
            Err(no_such(expected, format!("{name:?}"), "names are as the file writes them"))
        }
        Column::Name(name) => {
            let expected = "a number, as the file has no header".to_owned();
            Err(no_such(
                expected,
                format!("{name:?}"),
                "columns count from 0; `--header yes` takes the first line for names",
            ))
        }
    }
}
