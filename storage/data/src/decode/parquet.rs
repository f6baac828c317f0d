//! Parquet: columns of numbers, or of lists of as many numbers in each row, one of them the target, which may also be
//! the name of a class. Column readers alone are used; rows are put together a batch at a time. The Parquet library
//! trusts some of what a file says of itself and panics where it's wrong: such files are found before it sees them, or
//! its panic is taken as the error.

use super::columns::{Use, uses};
use super::row::{Label, Row};
use super::value::{Value, shown};
use super::{Bad, Cells, Layout, Sink, unreadable};
use crate::manifest::SAMPLE_MAX_ELEMENTS;
use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;
use std::collections::BTreeSet;
use std::io::{BufRead, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rows put together at a time, and fewer where rows are wide.
const BATCH_MAX_ROWS: usize = 1024;
const BATCH_MAX_VALUES: usize = 1 << 20;
/// A file compressed as a whole, which Parquet has no use for, may become so large.
const UNZIPPED_MAX_BYTES: u64 = 256 << 20;
/// Where pandas says which columns are its index.
const PANDAS_KEY: &str = "pandas";

/// What a file says of its columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ParquetProbe {
    /// In order; a column of lists has its field's name: `image` for `image.list.element`.
    pub(crate) names: Vec<String>,
    /// Those that are pandas' index.
    pub(crate) index: BTreeSet<String>,
    /// Those that hold text.
    pub(crate) text: BTreeSet<String>,
    pub(crate) rows: i64,
}

/// Reads what the file's end says of its columns.
pub(crate) fn probe(input: &mut dyn BufRead, is_gzip: bool) -> Result<ParquetProbe, Bad> {
    guarded(|| {
        let file = open(input, is_gzip)?;
        let schema = file.metadata().file_metadata().schema_descr();
        let text = schema.columns().iter().filter(|column| is_text(column)).map(|column| name(column)).collect();
        let rows = file.metadata().file_metadata().num_rows();
        Ok(ParquetProbe { names: names(&file), index: index(&file), text, rows })
    })
}

fn names(file: &SerializedFileReader<Bytes>) -> Vec<String> {
    let schema = file.metadata().file_metadata().schema_descr();
    let mut names: Vec<String> = schema.columns().iter().map(|column| name(column)).collect();
    // A struct is one column of several.
    names.dedup();
    names
}

fn name(column: &ColumnDescriptor) -> String {
    column.path().parts().first().cloned().unwrap_or_default()
}

/// The columns that pandas stored for the index of its rows.
fn index(file: &SerializedFileReader<Bytes>) -> BTreeSet<String> {
    let pairs = file.metadata().file_metadata().key_value_metadata();
    let text = pairs.into_iter().flatten().find(|pair| pair.key == PANDAS_KEY).and_then(|pair| pair.value.as_ref());
    let Some(Ok(pandas)) = text.map(|text| serde_json::from_str::<serde_json::Value>(text)) else {
        return BTreeSet::new();
    };
    // A range is stored as its bounds, not as a column.
    let listed = pandas["index_columns"].as_array().into_iter().flatten();
    listed.filter_map(|column| column.as_str().map(str::to_owned)).collect()
}

fn is_text(column: &ColumnDescriptor) -> bool {
    let says_text = matches!(column.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum))
        || matches!(column.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM);
    column.physical_type() == Physical::BYTE_ARRAY && says_text && column.max_rep_level() == 0
}

pub(super) fn decode(input: &mut dyn BufRead, layout: &Layout, is_gzip: bool, sink: &mut dyn Sink) -> Result<(), Bad> {
    guarded(|| decode_file(&open(input, is_gzip)?, layout, sink))
}

fn decode_file(file: &SerializedFileReader<Bytes>, layout: &Layout, sink: &mut dyn Sink) -> Result<(), Bad> {
    let schema = file.metadata().file_metadata().schema_descr();
    let uses = match &layout.table {
        Some(table) => {
            let names: Vec<String> = names(file);
            let index = index(file);
            let by_name = uses(&names, table, &layout.first, |name| index.contains(name));
            let by_name = by_name.map_err(|bad| bad.at("schema"))?;
            let places = schema.columns().iter().map(|column| {
                let place = names.iter().position(|known| *known == name(column));
                place.map_or(Use::LeftOut, |place| by_name[place])
            });
            places.collect::<Vec<_>>()
        }
        None => {
            let (columns, target) = (schema.num_columns(), layout.column);
            if columns < 2 || target >= columns {
                return Err(Bad::new("schema", format!("at least {} columns", 2.max(target + 1)), columns));
            }
            let feature = |place| Use::Feature(place - usize::from(place > target));
            (0..columns).map(|place| if place == target { Use::Target } else { feature(place) }).collect()
        }
    };
    let mut taken = BTreeSet::new();
    for (column, usage) in schema.columns().iter().zip(&uses) {
        if *usage == Use::LeftOut {
            continue;
        }
        if layout.table.is_none() {
            check_kind(column)?;
            continue;
        }
        if !taken.insert(name(column)) {
            return Err(Bad::new(
                format!("column {}", name(column)),
                "numbers, or one such column",
                "several, or a struct",
            ));
        }
        if !(layout.labels && *usage == Use::Target) {
            check_named_kind(column)?;
        } else if !is_text(column) {
            return Err(Bad::new(format!("column {}", name(column)), "text, as in the objects before", kind(column)));
        }
    }
    let mut first_row = 0;
    for index in 0..file.num_row_groups() {
        check_lengths(file, index, &uses)?;
        let group = file.get_row_group(index).map_err(|error| broken(&error))?;
        first_row = decode_group(&*group, layout, &uses, first_row, sink)?;
    }
    Ok(())
}

/// Finds lists of different lengths, and too long ones, before any is read: a small file may have very long ones.
fn check_lengths(file: &SerializedFileReader<Bytes>, index: usize, uses: &[Use]) -> Result<(), Bad> {
    let group = file.metadata().row_group(index);
    let rows = u64::try_from(group.num_rows()).unwrap_or(0);
    let mut width = 0;
    for (at, column) in group.columns().iter().enumerate().filter(|(at, _)| uses[*at] != Use::LeftOut) {
        let values = u64::try_from(column.num_values()).unwrap_or(0);
        let place = || format!("row group {index}, column {}", column.column_path().string());
        let reader = file.get_row_group(index).and_then(|group| group.get_column_page_reader(at));
        let mut pages = reader.map_err(|error| broken(&error))?;
        let mut levels = 0;
        while let Some(page) = pages.peek_next_page().map_err(|error| broken(&error))? {
            if !page.is_dict {
                levels += page.num_levels.or(page.num_rows).unwrap_or(0) as u64;
            }
            pages.skip_next_page().map_err(|error| broken(&error))?;
        }
        if levels != values {
            return Err(Bad::new(place(), format!("{values} values, as the file's end says"), levels));
        }
        let is_even = rows > 0 && values % rows == 0;
        if !is_even && values > BATCH_MAX_VALUES as u64 {
            let found = format!("another length: {values} values in {rows} rows");
            return Err(Bad::new(place(), "lists of one length", found));
        }
        width += values / rows.max(1);
    }
    if width > SAMPLE_MAX_ELEMENTS {
        let place = format!("row group {index}");
        return Err(Bad::new(place, format!("rows of at most {SAMPLE_MAX_ELEMENTS} values"), width));
    }
    Ok(())
}

/// A panic of the library is an error of the file. What was half done is given up with it.
fn guarded<T>(work: impl FnOnce() -> Result<T, Bad>) -> Result<T, Bad> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(Bad::new("parquet", "a Parquet file", message.unwrap_or_else(|| "a broken one".to_owned())))
    })
}

/// The whole file: its index is at its end.
fn open(input: &mut dyn BufRead, is_gzip: bool) -> Result<SerializedFileReader<Bytes>, Bad> {
    let mut bytes = Vec::new();
    let most = if is_gzip { UNZIPPED_MAX_BYTES } else { u64::MAX };
    input.take(most).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 == most {
        let expected = "a Parquet file, which compresses its columns itself";
        return Err(Bad::new("gzip", expected, format!("gzip of {most} bytes or more")));
    }
    let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let file = SerializedFileReader::new(Bytes::from(bytes)).map_err(|error| broken(&error))?;
    for (group, column) in file
        .metadata()
        .row_groups()
        .iter()
        .enumerate()
        .flat_map(|(index, group)| group.columns().iter().map(move |column| (index, column)))
    {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        let is_inside = start >= 0 && (0..=len).contains(&column.data_page_offset()) && column.compressed_size() >= 0;
        if !is_inside || end.is_none_or(|end| end > len) || column.num_values() < 0 {
            let place = format!("row group {group}, column {}", column.column_path().string());
            let found = format!("{} bytes at {start}", column.compressed_size());
            return Err(Bad::new(place, format!("values within the file's {len} bytes"), found));
        }
    }
    Ok(file)
}

fn broken(error: &ParquetError) -> Bad {
    Bad::new("parquet", "a Parquet file", error)
}

fn check_kind(column: &ColumnDescriptor) -> Result<(), Bad> {
    use ConvertedType as C;
    let plain = matches!(
        column.converted_type(),
        C::NONE | C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64 | C::INT_8 | C::INT_16 | C::INT_32 | C::INT_64
    );
    let number = matches!(
        column.physical_type(),
        Physical::BOOLEAN | Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE
    );
    let place = || format!("column {}", column.path().string());
    if !plain || !number {
        let found = format!("{:?} ({:?})", column.physical_type(), column.converted_type());
        return Err(Bad::new(place(), "numbers", found));
    }
    if column.max_rep_level() > 1 {
        return Err(Bad::new(place(), "numbers or lists of numbers", "lists of lists"));
    }
    Ok(())
}

/// The kinds of columns that are read by name: numbers that mean numbers.
fn check_named_kind(column: &ColumnDescriptor) -> Result<(), Bad> {
    let place = || format!("column {}", column.path().string());
    if column.path().parts().len() > 1 && column.max_rep_level() == 0 {
        return Err(Bad::new(place(), "numbers", "a struct").hint(SAY_DROP));
    }
    if !matches!(column.logical_type_ref(), None | Some(LogicalType::Integer(_) | LogicalType::Unknown)) {
        return Err(Bad::new(place(), "numbers", kind(column)).hint(SAY_DROP));
    }
    check_kind(column).map_err(|bad| bad.hint(SAY_DROP))
}

const SAY_DROP: &str = "`--drop NAME` leaves a column out, `--columns NAMES` all but those named";

/// As messages say it: `a TIMESTAMP`, `BYTE_ARRAY (UTF8)`.
fn kind(column: &ColumnDescriptor) -> String {
    match column.logical_type_ref() {
        Some(LogicalType::Timestamp(_)) => "a TIMESTAMP".to_owned(),
        Some(LogicalType::Time(_)) => "a TIME".to_owned(),
        Some(LogicalType::Date) => "a DATE".to_owned(),
        _ => format!("{:?} ({:?})", column.physical_type(), column.converted_type()),
    }
}

/// Returns the row after the group's last.
fn decode_group(
    group: &dyn RowGroupReader,
    layout: &Layout,
    uses: &[Use],
    first_row: u64,
    sink: &mut dyn Sink,
) -> Result<u64, Bad> {
    let mut columns = Vec::new();
    for index in (0..group.num_columns()).filter(|&index| uses[index] != Use::LeftOut) {
        let reader = group.get_column_reader(index).map_err(|error| broken(&error))?;
        let descriptor = group.metadata().column(index).column_descr();
        columns.push(Column {
            reader,
            usage: uses[index],
            name: descriptor.path().string(),
            unsigned: matches!(descriptor.converted_type(), ConvertedType::UINT_32 | ConvertedType::UINT_64),
            listed: descriptor.max_rep_level() > 0,
            max_definition: descriptor.max_def_level(),
            width: None,
            values: Vec::new(),
            labels: Vec::new(),
        });
    }
    // In the order of a sample's values.
    columns.sort_by_key(|column| match column.usage {
        Use::Feature(place) => place,
        Use::Target | Use::LeftOut => usize::MAX,
    });
    let may_lack = layout.table.as_ref().is_some_and(|table| table.missing.is_some());
    let mut row = first_row;
    let mut batch_rows = 1;
    let mut width = 0;
    let mut lists = Vec::new();
    let mut builder = Row::new(layout, Some(columns.iter().map(|column| column.usage).collect()));
    loop {
        let mut read = None;
        for column in &mut columns {
            let rows = column.read(batch_rows, row, may_lack)?;
            if *read.get_or_insert(rows) != rows {
                let place = format!("row {row}, column {}", column.name);
                return Err(Bad::new(place, "as many rows as in the columns before", rows));
            }
        }
        let rows = read.unwrap_or(0);
        width = columns.iter().filter_map(|column| column.width).sum::<usize>().max(width);
        if width as u64 > SAMPLE_MAX_ELEMENTS {
            return Err(Bad::new(format!("row {row}"), format!("at most {SAMPLE_MAX_ELEMENTS} values"), width));
        }
        let has_lists = columns.iter().any(|column| column.listed);
        for index in 0..rows {
            let place = || format!("row {}", row + index as u64);
            let one = columns.iter().find(|column| column.usage == Use::Target && column.width.unwrap_or(1) != 1);
            if one.is_some() {
                return Err(Bad::new(place(), "a single number as the target", "a list"));
            }
            if has_lists {
                lists.clear();
                for column in columns.iter().filter(|column| column.usage != Use::Target) {
                    let width = column.width.unwrap_or(1);
                    #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
                    lists.extend(column.values[index * width..][..width].iter().map(|&value| value as f32));
                }
                sink.features(Cells::Floats(&lists)).map_err(|bad| bad.at(place()))?;
                for column in columns.iter().filter(|column| column.usage == Use::Target) {
                    match column.labels.get(index) {
                        Some(Some(label)) => sink.label(label).map_err(|bad| bad.at(place()))?,
                        Some(None) => return Err(Bad::new(place(), "the name of a class", "none")),
                        None => sink.target(column.values[index]).map_err(|bad| bad.at(place()))?,
                    }
                }
                continue;
            }
            for column in &columns {
                let place = || format!("{}, column {}", place(), column.name);
                match column.usage {
                    Use::Feature(at) => {
                        let value = column.values[index];
                        builder.feature(at, column.value(value, may_lack), place, || shown(value))?;
                    }
                    Use::Target if layout.labels => {
                        let label = column.labels[index].clone();
                        builder.label(label.map_or(Label::Missing, Label::Name), place)?;
                    }
                    Use::Target => {
                        let value = column.values[index];
                        builder.target(column.value(value, may_lack), place, || shown(value))?;
                    }
                    Use::LeftOut => {}
                }
            }
            builder.hand_to(sink).map_err(|bad| bad.at(place()))?;
        }
        row += rows as u64;
        if rows < batch_rows {
            return Ok(row);
        }
        // The first batch is one row: it shows how wide rows are.
        batch_rows = (BATCH_MAX_VALUES / width.max(1)).clamp(1, BATCH_MAX_ROWS);
    }
}

/// One column, as far as it has been read.
struct Column {
    reader: ColumnReader,
    usage: Use,
    name: String,
    unsigned: bool,
    listed: bool,
    /// The level of a value that is there.
    max_definition: i16,
    /// Values in each row, from the first row on.
    width: Option<usize>,
    /// Of the batch; a missing one is NaN.
    values: Vec<f64>,
    /// Of the batch, where the column has text.
    labels: Vec<Option<String>>,
}

impl Column {
    /// What a value says. Beside missing values NaN is one, as pandas has it; where none may be missing it is left to
    /// the sink that takes the row to refuse what is not finite.
    fn value(&self, value: f64, may_lack: bool) -> Value {
        if may_lack && value.is_nan() { Value::Missing } else { Value::Number(value) }
    }

    /// Reads the next rows' values and returns how many rows there were.
    fn read(&mut self, rows: usize, first_row: u64, may_lack: bool) -> Result<usize, Bad> {
        let (mut starts, mut present) = (Vec::new(), Vec::new());
        let (unsigned, values) = (self.unsigned, &mut self.values);
        let mut texts: Vec<Option<String>> = Vec::new();
        let (starts_of, present_of) = (&mut starts, &mut present);
        values.clear();
        #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "features are float32 in the end")]
        let (found_rows, levels) = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => {
                read(reader, rows, starts_of, present_of, |v| values.push(f64::from(u8::from(*v))))
            }
            ColumnReader::Int32ColumnReader(reader) => read(reader, rows, starts_of, present_of, |&v| {
                values.push(if unsigned { f64::from(v as u32) } else { f64::from(v) });
            }),
            ColumnReader::Int64ColumnReader(reader) => read(reader, rows, starts_of, present_of, |&v| {
                values.push(if unsigned { v as u64 as f64 } else { v as f64 });
            }),
            ColumnReader::FloatColumnReader(reader) => {
                read(reader, rows, starts_of, present_of, |&v| values.push(f64::from(v)))
            }
            ColumnReader::DoubleColumnReader(reader) => read(reader, rows, starts_of, present_of, |&v| values.push(v)),
            ColumnReader::ByteArrayColumnReader(reader) => read(reader, rows, starts_of, present_of, |v| {
                texts.push(v.as_utf8().ok().map(str::to_owned));
            }),
            _ => unreachable!("the schema was checked"),
        }
        .map_err(|error| Bad::new(format!("column {}", self.name), "a Parquet column", error))?;
        let place = || format!("rows {first_row} to {}, column {}", first_row + found_rows as u64, self.name);
        if matches!(self.reader, ColumnReader::ByteArrayColumnReader(_)) {
            if texts.iter().any(Option::is_none) {
                return Err(Bad::new(place(), "names of classes in UTF-8", "other bytes"));
            }
            self.labels = self.spread(&present, levels, texts.into_iter().flatten().map(Some).collect(), None);
            return Ok(found_rows);
        }
        if levels != self.values.len() {
            if self.listed || !may_lack {
                let missing = levels - self.values.len();
                let bad = Bad::new(place(), "a number in each row", format!("{missing} missing values"));
                return Err(if self.listed {
                    bad
                } else {
                    bad.hint("`--missing drop` or `--missing fill=0` allows them")
                });
            }
            let values = std::mem::take(&mut self.values);
            self.values = self.spread(&present, levels, values, f64::NAN);
        }
        if found_rows == 0 {
            return Ok(0);
        }
        let first_width = starts.iter().skip(1).position(|&level| level == 0).map_or(self.values.len(), |at| at + 1);
        let width = *self.width.get_or_insert(if self.listed { first_width } else { 1 });
        let even = !self.listed || starts.iter().enumerate().all(|(at, &level)| (level == 0) == (at % width == 0));
        if self.values.len() != width * found_rows || !even {
            return Err(Bad::new(place(), format!("lists of {width} numbers, as in the first row"), "another length"));
        }
        Ok(found_rows)
    }

    /// The values that are there, with `missing` where there is none.
    fn spread<T: Clone>(&self, present: &[i16], levels: usize, values: Vec<T>, missing: T) -> Vec<T> {
        if values.len() == levels {
            return values;
        }
        let mut values = values.into_iter();
        let next = |&level: &i16| if level == self.max_definition { values.next() } else { None };
        present.iter().map(next).map(|value| value.unwrap_or_else(|| missing.clone())).collect()
    }
}

/// Rows, and values with the missing ones, of the next rows of a column.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    starts: &mut Vec<i16>,
    present: &mut Vec<i16>,
    each: impl FnMut(&T::T),
) -> Result<(usize, usize), ParquetError> {
    let mut typed = Vec::new();
    let (mut rows_read, mut levels_read) = (0, 0);
    // One call stops at the end of a page.
    while rows_read < rows {
        let (found, _, levels) = reader.read_records(rows - rows_read, Some(present), Some(starts), &mut typed)?;
        if found == 0 {
            break;
        }
        rows_read += found;
        levels_read += levels;
    }
    typed.iter().for_each(each);
    Ok((rows_read, levels_read))
}
