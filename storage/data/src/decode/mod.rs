//! Turning an object's bytes into rows: one file for each format. Decoders stream: they hold a piece of an object at
//! a time, believe no count before the bytes for it are there, and leave to the [`Sink`] what becomes of the rows.

mod columns;
mod content;
mod csv;
mod fields;
mod gunzip;
mod header;
mod idx;
mod image;
mod jpeg;
mod members;
mod parquet;
mod row;
mod tar;
mod text;
mod value;

pub(crate) use columns::list;
pub(crate) use csv::{CsvAsked, CsvProbe, probe as probe_csv};
pub(crate) use idx::probe as probe_idx;
pub(crate) use parquet::{ParquetProbe, probe as probe_parquet};
pub(crate) use tar::{Probe as TarProbe, probe as probe_tar};
pub(crate) use value::{SAY_DECIMAL, Value, has_decimal_comma, shown};

use crate::error::DataError;
use crate::manifest::{CsvLayout, Format, Manifest, Object, Role, TableLayout, TarLayout};
use crate::place::Place;
use crate::reader::{Content, ObjectReader, Source};
use gunzip::Gunzip;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

/// What gzip files start with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER_BYTES: usize = 256 << 10;

/// Values of one row (or of a run of text), as the format has them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cells<'a> {
    Bytes(&'a [u8]),
    Floats(&'a [f32]),
}

/// Takes rows as they are decoded.
pub(crate) trait Sink {
    /// The values of the next row that has none yet; for text, some bytes more.
    fn features(&mut self, cells: Cells<'_>) -> Result<(), Bad>;
    /// The target of the next row that has none yet.
    fn target(&mut self, value: f64) -> Result<(), Bad>;
    /// The same, where targets are names of classes.
    fn label(&mut self, name: &str) -> Result<(), Bad>;
    /// No more rows are wanted: decoding may end, with any error.
    fn has_enough(&self) -> bool {
        false
    }
    /// A whole number of the column that `name` says, which float32 makes another one.
    fn rounded(&mut self, _name: &dyn Fn() -> String, _value: f64) {}
    /// A row was left out, as a value was missing.
    fn dropped(&mut self) {}
    /// Values of the last row that were missing, by their places.
    fn filled(&mut self, _places: &[usize]) {}
}

/// Content that is not what it should be, before the object's name is put to it.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) place: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    /// What to do about it, where that is known.
    pub(crate) hint: Option<String>,
}

impl Bad {
    pub(crate) fn new(place: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        let [place, expected, found] = [place.to_string(), expected.to_string(), found.to_string()];
        Self { place, expected, found, hint: None }
    }

    pub(crate) fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }

    /// With the place, where a sink could not know it.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self {
            place: if self.place.is_empty() { place.to_string() } else { format!("{place}, {}", self.place) },
            ..self
        }
    }

    pub(crate) fn of(self, object: String) -> DataError {
        let Self { place, expected, found, hint } = self;
        DataError::Malformed { object, place, expected, found, hint: hint.map(Into::into) }
    }
}

/// How to read an object.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// CSV only.
    pub(crate) csv: CsvLayout,
    /// CSV and Parquet, where columns are found by their places: the target's.
    pub(crate) column: usize,
    /// CSV and Parquet: which columns are read, where they are found by name.
    pub(crate) table: Option<TableLayout>,
    /// CSV and Parquet: the object that the columns' names are from, for messages.
    pub(crate) first: String,
    /// Targets are names of classes.
    pub(crate) labels: bool,
    /// IDX only.
    pub(crate) role: Option<Role>,
    /// Tar only.
    pub(crate) tar: Option<TarLayout>,
    /// Tar only: of each sample.
    pub(crate) shape: Vec<u32>,
    /// Tar only: the version of the rules by which archives and images are read.
    pub(crate) reading: u32,
}

impl Layout {
    pub(crate) fn of(manifest: &Manifest, object: &Object) -> Self {
        Self {
            format: manifest.format,
            csv: manifest.csv.unwrap_or(CsvLayout { header: false, delimiter: ',' }),
            column: manifest.target.column().unwrap_or(0) as usize,
            table: manifest.table.clone(),
            first: manifest.first_with_rows().path.clone(),
            labels: manifest.class_names.is_some(),
            role: object.role,
            tar: manifest.tar.clone(),
            shape: manifest.features.shape.clone(),
            reading: manifest.reading.unwrap_or(1),
        }
    }
}

/// Decodes one object into `sink`. An object that is not what `source` says is an error, and the error: what the
/// decoder made of changed bytes would only mislead.
pub(crate) fn decode(
    place: &Place,
    source: &Source,
    layout: &Layout,
    sink: &mut dyn Sink,
) -> Result<Content, DataError> {
    let mut reader = ObjectReader::start(place, source)?;
    let checked = source.digest.is_none().then_some(layout.format);
    let decoded = unzipped(&mut reader, checked).and_then(|input| decode_input(input, layout, sink));
    let content = reader.finish()?;
    decoded.map_err(|bad| bad.of(source.shown(place)))?;
    Ok(content)
}

/// Decodes the rows that an object begins with, as many as `sink` wants.
pub(crate) fn begin(place: &Place, source: &Source, layout: &Layout, sink: &mut dyn Sink) -> Result<(), DataError> {
    let mut reader = ObjectReader::start(place, source)?;
    let mut stopping = Stopping(sink);
    let decoded = unzipped(&mut reader, None).and_then(|input| decode_input(input, layout, &mut stopping));
    match decoded {
        Err(_) if stopping.0.has_enough() => Ok(()),
        decoded => {
            reader.finish()?;
            decoded.map_err(|bad| bad.of(source.shown(place)))
        }
    }
}

/// Ends decoding, by an error, when there are enough rows.
struct Stopping<'a>(&'a mut dyn Sink);

impl Stopping<'_> {
    fn unless_enough(&self) -> Result<(), Bad> {
        if self.0.has_enough() { Err(Bad::new("", "", "")) } else { Ok(()) }
    }
}

impl Sink for Stopping<'_> {
    fn features(&mut self, cells: Cells<'_>) -> Result<(), Bad> {
        self.0.features(cells)?;
        self.unless_enough()
    }

    fn target(&mut self, value: f64) -> Result<(), Bad> {
        self.0.target(value)?;
        self.unless_enough()
    }

    fn label(&mut self, name: &str) -> Result<(), Bad> {
        self.0.label(name)?;
        self.unless_enough()
    }
}

fn decode_input(
    (mut input, is_gzip): (Box<dyn BufRead + '_>, bool),
    layout: &Layout,
    sink: &mut dyn Sink,
) -> Result<(), Bad> {
    match layout.format {
        Format::Csv => csv::decode(&mut *input, layout, sink),
        Format::Idx => idx::decode(&mut *input, layout, sink),
        Format::Parquet => parquet::decode(&mut *input, layout, is_gzip, sink),
        Format::Text => text::decode(&mut *input, sink),
        Format::Tar => tar::decode(&mut *input, layout, sink),
    }
}

/// Hands the start of an object, unzipped, to `work`, and reads no further than that wants; also whether it was zipped.
pub(crate) fn peek<T>(
    place: &Place,
    source: &Source,
    format: Format,
    work: impl FnOnce(&mut dyn BufRead, bool) -> Result<T, Bad>,
) -> Result<T, DataError> {
    let mut reader = ObjectReader::start(place, source)?;
    let result = unzipped(&mut reader, Some(format)).and_then(|(mut input, is_gzip)| work(&mut *input, is_gzip));
    result.or_else(|bad| {
        reader.finish()?;
        Err(bad.of(source.shown(place)))
    })
}

/// [`peek`] for what an object may have none of: one that can't be read is an error, not one that has none.
pub(crate) fn peek_some<T>(
    place: &Place,
    source: &Source,
    format: Format,
    work: impl FnOnce(&mut dyn BufRead) -> Result<Option<T>, Bad>,
) -> Result<Option<T>, DataError> {
    let mut reader = ObjectReader::start(place, source)?;
    let result = unzipped(&mut reader, Some(format)).and_then(|(mut input, _)| work(&mut *input));
    match result {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) => reader.finish().map(|_| None),
        Err(bad) => {
            reader.finish()?;
            Err(bad.of(source.shown(place)))
        }
    }
}

/// The bytes themselves, and whether they were zipped. What is pinned anew is `checked` to be of its format at all.
fn unzipped<'a>(reader: impl Read + 'a, checked: Option<Format>) -> Result<(Box<dyn BufRead + 'a>, bool), Bad> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, reader);
    let head = input.fill_buf().map_err(|error| unreadable(&error))?;
    checked.map_or(Ok(()), |format| content::check(head, format))?;
    Ok(if head.starts_with(&GZIP_MAGIC) {
        (Box::new(BufReader::with_capacity(BUFFER_BYTES, Gunzip::new(input))), true)
    } else {
        (Box::new(input), false)
    })
}

/// The object's own reader never fails, so it is the unzipping that did.
fn unreadable(error: &std::io::Error) -> Bad {
    Bad::new("gzip", "a whole gzip file", error)
}
