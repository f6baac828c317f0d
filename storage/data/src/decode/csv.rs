//! CSV: each line a row of numbers, one of them the target.

use super::{Bad, Cells, Layout, Sink};
use crate::manifest::{CsvLayout, SAMPLE_MAX_ELEMENTS};
use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};
use std::io::{self, BufRead, Read};

/// A line of more is no line of numbers; without the bound a file with no line end would be read into memory whole.
const LINE_MAX_BYTES: usize = 256 << 20;

/// What the first lines of a file say about all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CsvProbe {
    pub(crate) layout: CsvLayout,
    /// From the header, if there is one.
    pub(crate) names: Option<Vec<String>>,
    pub(crate) columns: usize,
}

/// Finds delimiter, columns and header from the first line: a header is a line that is not all numbers.
pub(crate) fn probe(input: &mut dyn BufRead) -> Result<CsvProbe, Bad> {
    let mut line = Vec::new();
    let mut bounded = Lines::new(input);
    let mut byte = [0];
    while line.last() != Some(&b'\n') && bounded.read(&mut byte).map_err(|error| io_bad(&error))? == 1 {
        line.push(byte[0]);
    }
    let count = |delimiter: u8| line.iter().filter(|&&byte| byte == delimiter).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|&delimiter| (count(delimiter), delimiter == b','));
    let delimiter = delimiter.unwrap_or(b',');
    let mut first = ByteRecord::new();
    let found = reader(&line[..], delimiter).read_byte_record(&mut first).map_err(|error| csv_bad(&error))?;
    if !found || is_blank(&first) {
        return Err(Bad::new("line 1", "a row of numbers", "an empty line or file"));
    }
    let header = first.iter().any(|field| number(field).is_none());
    let names = header.then(|| first.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect());
    let layout = CsvLayout { header, delimiter: char::from(delimiter) };
    Ok(CsvProbe { layout, names, columns: first.len() })
}

pub(super) fn decode(input: &mut dyn BufRead, layout: &Layout, sink: &mut dyn Sink) -> Result<(), Bad> {
    let delimiter = u8::try_from(layout.csv.delimiter).unwrap_or(b',');
    let mut reader = reader(Lines::new(input), delimiter);
    let mut record = ByteRecord::new();
    let mut skip_header = layout.csv.header;
    let mut columns = None;
    let mut features = Vec::new();
    while reader.read_byte_record(&mut record).map_err(|error| csv_bad(&error))? {
        if is_blank(&record) || std::mem::take(&mut skip_header) {
            continue;
        }
        // The record's own position is where the blank lines before it start.
        let line = reader.position().line() - 1;
        let place = || format!("line {line}");
        let expected = *columns.get_or_insert(record.len());
        if record.len() != expected {
            return Err(Bad::new(place(), format!("{expected} columns, as before"), record.len()));
        }
        if layout.column >= expected || expected < 2 || expected as u64 > SAMPLE_MAX_ELEMENTS {
            let wanted = format!("{} to {SAMPLE_MAX_ELEMENTS} columns", 2.max(layout.column + 1));
            return Err(Bad::new(place(), wanted, expected));
        }
        features.clear();
        let mut target = 0.0;
        for (column, field) in record.iter().enumerate() {
            let Some(value) = number(field) else {
                let found = String::from_utf8_lossy(field[..field.len().min(40)].trim_ascii());
                return Err(Bad::new(
                    format!("line {line}, column {}", column + 1),
                    "a finite number",
                    format!("{found:?}"),
                ));
            };
            if column == layout.column {
                target = value;
            } else {
                #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
                features.push(value as f32);
            }
        }
        sink.features(Cells::Floats(&features)).map_err(|bad| bad.at(place()))?;
        sink.target(target).map_err(|bad| bad.at(place()))?;
    }
    Ok(())
}

/// Lines end with a line feed; a carriage return before it counts as space, or lines would not be counted right.
fn reader<R: Read>(input: R, delimiter: u8) -> Reader<R> {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(delimiter).terminator(Terminator::Any(b'\n'));
    builder.from_reader(input)
}

fn is_blank(record: &ByteRecord) -> bool {
    record.iter().all(|field| field.trim_ascii().is_empty()) && record.len() == 1
}

/// A finite number, spaces around it allowed.
fn number(field: &[u8]) -> Option<f64> {
    std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
}

fn csv_bad(error: &csv::Error) -> Bad {
    match error.kind() {
        csv::ErrorKind::Io(error) => io_bad(error),
        _ => {
            let place =
                error.position().map_or_else(|| "csv".to_owned(), |position| format!("line {}", position.line()));
            Bad::new(place, "a row of numbers", error)
        }
    }
}

fn io_bad(error: &io::Error) -> Bad {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Bad::new("csv", format!("lines of at most {LINE_MAX_BYTES} bytes"), "a longer one");
    }
    super::unreadable(error)
}

/// Lines of bounded length, the last one ended like the others.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    since_line_end: usize,
}

impl<'a> Lines<'a> {
    fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, since_line_end: 0 }
    }
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = self.input.read(buffer)?;
        if count == 0 && self.since_line_end > 0 && !buffer.is_empty() {
            buffer[0] = b'\n';
            count = 1;
        }
        self.since_line_end = match buffer[..count].iter().rposition(|&byte| byte == b'\n') {
            Some(last) => count - last - 1,
            None => self.since_line_end + count,
        };
        if self.since_line_end > LINE_MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(count) }
    }
}
