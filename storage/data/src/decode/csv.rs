//! CSV: each line a row of numbers, one of them the target, which may also be the name of a class.

use super::columns::{Use, uses};
use super::fields::{BYTE_ORDER_MARK, Field, Fields, Record};
use super::header::{Asked, FirstLine, first_line, has_unnamed_first, is_row_names, names};
use super::row::{Label, Row};
use super::value::Value;
use super::{Bad, Layout, Sink, unreadable};
use crate::manifest::{CsvLayout, SAMPLE_MAX_ELEMENTS, TableLayout};
use std::io::{BufRead, Cursor, Read as _};

/// More columns than that have no names.
const NAMES_MAX: usize = 1 << 20;
/// Delimiters are counted in no more of a first line.
const SNIFFED_BYTES: u64 = 256 << 10;
/// What a first line may say of the delimiter, as Excel reads it.
const SEPARATOR_LINE: &[u8] = b"sep=";

/// What a user says of how a table is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CsvAsked {
    pub(crate) header: Option<bool>,
    pub(crate) delimiter: Option<u8>,
    pub(crate) decimal: Option<u8>,
    pub(crate) skip: u32,
    pub(crate) missing: bool,
}

/// What the first lines of a file say about all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CsvProbe {
    pub(crate) layout: CsvLayout,
    /// From the header, if there is one.
    pub(crate) names: Option<Vec<String>>,
    pub(crate) columns: usize,
    /// The header is 0, 1, 2, ...: it might be a row.
    pub(crate) counts: bool,
    /// The first column only names the rows.
    pub(crate) row_names: Option<String>,
    /// Rows have a first value that the header has no name for.
    pub(crate) has_unnamed_first: bool,
    /// The fields of the first row, with that of a column without a name left out.
    pub(crate) row: Vec<String>,
}

/// Finds delimiter, columns and header from the first lines; nothing when there are none.
pub(crate) fn probe(input: &mut dyn BufRead, asked: &CsvAsked) -> Result<Option<CsvProbe>, Bad> {
    let mut head = Vec::new();
    input.take(SNIFFED_BYTES).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    let delimiter = asked.delimiter.unwrap_or_else(|| sniff(&head, asked));
    let is_separator = separator(head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head)).is_some();
    let mut input = Cursor::new(head).chain(input);
    let mut fields = Fields::start(&mut input, delimiter, asked.skip.max(is_separator.into()).into())?;
    let mut records = Vec::new();
    while records.len() < 2
        && let Some(record) = kept(&mut fields)?
    {
        records.push(record);
    }
    let mut records = records.into_iter();
    let Some((first, first_end)) = records.next() else { return Ok(None) };
    let second = records.next();
    let header = Asked { header: asked.header, decimal: asked.decimal.unwrap_or(b'.'), missing: asked.missing };
    // Of a line with more columns than can have names only numbers are expected.
    let decided = first_line(&first, second.as_ref().map(|(row, _)| &row[..]), &header, first_end.line)?;
    let layout = |header| CsvLayout { header, delimiter: char::from(delimiter) };
    let FirstLine::Names { counts } = decided else {
        return Ok(Some(CsvProbe {
            layout: layout(false),
            names: None,
            columns: first_end.columns,
            counts: false,
            row_names: None,
            has_unnamed_first: false,
            row: first,
        }));
    };
    if first_end.columns > NAMES_MAX {
        let place = format!("line {}", first_end.line);
        return Err(Bad::new(place, format!("names of at most {NAMES_MAX} columns"), first_end.columns));
    }
    let names = names(first);
    let (mut row, mut is_unnamed) = (Vec::new(), false);
    if let Some((fields, end)) = second {
        row = fields;
        is_unnamed = has_unnamed_first(names.len(), &row, first_end.line, end.line)?;
        if is_unnamed {
            row.remove(0);
        }
    }
    let row_names = names.first().filter(|name| is_row_names(name)).cloned();
    Ok(Some(CsvProbe {
        layout: layout(true),
        columns: names.len(),
        names: Some(names),
        counts,
        row_names,
        has_unnamed_first: is_unnamed,
        row,
    }))
}

/// The candidate that the first line has most of, outside quotes.
fn sniff(head: &[u8], asked: &CsvAsked) -> u8 {
    let mut lines = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    if let Some(delimiter) = separator(lines) {
        return delimiter;
    }
    for _ in 0..asked.skip {
        lines = lines.iter().position(|&byte| byte == b'\n').map_or(&[][..], |end| &lines[end + 1..]);
    }
    let candidates = [b',', b';', b'\t', b'|'].into_iter().filter(|&candidate| Some(candidate) != asked.decimal);
    let mut counts: Vec<(usize, u8)> = candidates.map(|candidate| (0, candidate)).collect();
    let (mut is_quoted, mut is_blank) = (false, true);
    for &byte in lines {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted && !is_blank => break,
            byte if !is_quoted => {
                counts.iter_mut().filter(|(_, candidate)| *candidate == byte).for_each(|(count, _)| *count += 1);
            }
            _ => {}
        }
        is_blank &= byte.is_ascii_whitespace();
    }
    let first_of_most = counts.into_iter().rev().max_by_key(|(count, _)| *count);
    first_of_most.map_or(b',', |(_, candidate)| candidate)
}

/// The delimiter of a line `sep=;`.
fn separator(head: &[u8]) -> Option<u8> {
    let rest = head.strip_prefix(SEPARATOR_LINE)?;
    let (&delimiter, rest) = rest.split_first()?;
    (rest.starts_with(b"\n") || rest.starts_with(b"\r\n") || rest.is_empty()).then_some(delimiter)
}

/// The next record's fields, none but the last of those beyond [`NAMES_MAX`].
fn kept(fields: &mut Fields<'_>) -> Result<Option<(Vec<String>, Record)>, Bad> {
    let mut kept = Vec::new();
    let end = fields.record(&mut |field| {
        check_count(field.column + 1, field.line)?;
        if field.column >= NAMES_MAX {
            if Value::of(field.bytes, b'.') == Value::Text {
                return Err(Bad::new(field.place(), "a finite number", field.shown()));
            }
            kept.pop();
        }
        kept.push(String::from_utf8_lossy(field.bytes).into_owned());
        Ok(())
    })?;
    Ok(end.map(|end| (kept, end)))
}

fn check_count(columns: usize, line: u64) -> Result<(), Bad> {
    if columns as u64 > SAMPLE_MAX_ELEMENTS {
        let found = format!("{columns} or more");
        return Err(Bad::new(format!("line {line}"), format!("2 to {SAMPLE_MAX_ELEMENTS} columns"), found));
    }
    Ok(())
}

pub(super) fn decode(input: &mut dyn BufRead, layout: &Layout, sink: &mut dyn Sink) -> Result<(), Bad> {
    let delimiter = u8::try_from(layout.csv.delimiter).unwrap_or(b',');
    let table = layout.table.as_ref();
    let skip = table.map_or(0, |table| table.skip);
    let mut head = Vec::new();
    let most = BYTE_ORDER_MARK.len() + SEPARATOR_LINE.len() + 3;
    (&mut *input).take(most as u64).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    let is_separator = separator(head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head)).is_some();
    let mut input = Cursor::new(head).chain(input);
    let mut fields = Fields::start(&mut input, delimiter, skip.max(is_separator.into()).into())?;
    match table {
        Some(table) if layout.csv.header => by_name(&mut fields, layout, table, sink),
        Some(table) => {
            let Some((first, end)) = kept(&mut fields)? else { return Ok(()) };
            let places: Vec<String> = (0..end.columns).map(|place| place.to_string()).collect();
            let uses = uses(&places, table, &layout.first, |_| false);
            let row = Row::new(layout, Some(uses.map_err(|bad| bad.at(format!("line {}", end.line)))?));
            rows(&mut fields, row, Some((first, end)), sink)
        }
        None => {
            if layout.csv.header {
                fields.record(&mut |_| Ok(()))?;
            }
            rows(&mut fields, Row::new(layout, None), None, sink)
        }
    }
}

/// An object whose first line has the columns' names.
fn by_name(fields: &mut Fields<'_>, layout: &Layout, table: &TableLayout, sink: &mut dyn Sink) -> Result<(), Bad> {
    let Some((header, header_end)) = kept(fields)? else { return Ok(()) };
    let names = names(header);
    let place = || format!("line {}", header_end.line);
    let mut uses = uses(&names, table, &layout.first, is_row_names).map_err(|bad| bad.at(place()))?;
    let Some((first, end)) = kept(fields)? else { return Ok(()) };
    if has_unnamed_first(names.len(), &first, header_end.line, end.line)? {
        uses.insert(0, Use::LeftOut);
    }
    rows(fields, Row::new(layout, Some(uses)), Some((first, end)), sink)
}

/// All rows, of which the first may have been read already.
fn rows(
    fields: &mut Fields<'_>,
    mut row: Row<'_>,
    first: Option<(Vec<String>, Record)>,
    sink: &mut dyn Sink,
) -> Result<(), Bad> {
    if let Some((first, end)) = first {
        for (column, text) in first.iter().enumerate() {
            take(&mut row, Field { bytes: text.as_bytes(), column, line: end.line })?;
        }
        finish(&mut row, end, sink)?;
    }
    while let Some(end) = fields.record(&mut |field| {
        check_count(field.column + 1, field.line)?;
        take(&mut row, field)
    })? {
        finish(&mut row, end, sink)?;
    }
    Ok(())
}

fn take(row: &mut Row<'_>, field: Field<'_>) -> Result<(), Bad> {
    // Said of the whole line when it ends.
    if row.columns.is_some_and(|columns| field.column >= columns) {
        return Ok(());
    }
    let place = || field.place();
    let shown = || field.shown();
    match row.usage(field.column) {
        Use::LeftOut => Ok(()),
        Use::Feature(at) => row.feature(at, Value::of(field.bytes, row.decimal), place, shown),
        Use::Target if row.has_labels => row.label(Label::of(field.bytes), place),
        Use::Target => row.target(Value::of(field.bytes, row.decimal), place, shown),
    }
}

fn finish(row: &mut Row<'_>, end: Record, sink: &mut dyn Sink) -> Result<(), Bad> {
    let place = || format!("line {}", end.line);
    let expected = *row.columns.get_or_insert(end.columns);
    if end.columns != expected {
        return Err(Bad::new(place(), format!("{expected} columns, as before"), end.columns));
    }
    let least = 2.max(row.target_column() + 1);
    if expected < least {
        let hint = "`--delimiter` names what is between two values";
        let bad = Bad::new(place(), format!("{least} to {SAMPLE_MAX_ELEMENTS} columns"), expected);
        return Err(if expected == 1 { bad.hint(hint) } else { bad });
    }
    row.hand_to(sink).map_err(|bad| bad.at(place()))
}
