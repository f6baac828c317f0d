//! Parquet: columns of numbers, or of lists of as many numbers in each row, one of them the target. Column readers
//! alone are used; rows are put together a batch at a time. The Parquet library trusts some of what a file says of
//! itself and panics where it's wrong: such files are found before it sees them, or its panic is taken as the error.

use super::{Bad, Cells, Sink, unreadable};
use crate::manifest::SAMPLE_MAX_ELEMENTS;
use bytes::Bytes;
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;
use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rows put together at a time, and fewer where rows are wide.
const BATCH_MAX_ROWS: usize = 1024;
const BATCH_MAX_VALUES: usize = 1 << 20;

/// Names of a file's columns, in order; a column of lists has its field's: `image` for `image.list.element`.
pub(crate) fn columns(input: &mut dyn BufRead) -> Result<Vec<String>, Bad> {
    guarded(|| names(&open(input)?))
}

fn names(file: &SerializedFileReader<Bytes>) -> Result<Vec<String>, Bad> {
    let schema = file.metadata().file_metadata().schema_descr();
    let name = |column: &ColumnDescriptor| column.path().parts().first().cloned().unwrap_or_default();
    Ok(schema.columns().iter().map(|column| name(column)).collect())
}

pub(super) fn decode(input: &mut dyn BufRead, target: usize, sink: &mut dyn Sink) -> Result<(), Bad> {
    guarded(|| decode_file(&open(input)?, target, sink))
}

fn decode_file(file: &SerializedFileReader<Bytes>, target: usize, sink: &mut dyn Sink) -> Result<(), Bad> {
    let schema = file.metadata().file_metadata().schema_descr();
    let columns = schema.num_columns();
    if columns < 2 || target >= columns {
        return Err(Bad::new("schema", format!("at least {} columns", 2.max(target + 1)), columns));
    }
    for column in schema.columns() {
        check_kind(column)?;
    }
    let mut first_row = 0;
    for index in 0..file.num_row_groups() {
        let group = file.get_row_group(index).map_err(|error| broken(&error))?;
        first_row = decode_group(&*group, target, first_row, sink)?;
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
fn open(input: &mut dyn BufRead) -> Result<SerializedFileReader<Bytes>, Bad> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
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

/// Returns the row after the group's last.
fn decode_group(group: &dyn RowGroupReader, target: usize, first_row: u64, sink: &mut dyn Sink) -> Result<u64, Bad> {
    let mut columns = Vec::new();
    for index in 0..group.num_columns() {
        let reader = group.get_column_reader(index).map_err(|error| broken(&error))?;
        let descriptor = group.metadata().column(index).column_descr();
        columns.push(Column {
            reader,
            name: descriptor.path().string(),
            unsigned: matches!(descriptor.converted_type(), ConvertedType::UINT_32 | ConvertedType::UINT_64),
            listed: descriptor.max_rep_level() > 0,
            width: None,
            values: Vec::new(),
        });
    }
    let mut row = first_row;
    let mut features = Vec::new();
    let mut batch_rows = 1;
    loop {
        let mut read = None;
        for column in &mut columns {
            let rows = column.read(batch_rows, row)?;
            if *read.get_or_insert(rows) != rows {
                let place = format!("row {row}, column {}", column.name);
                return Err(Bad::new(place, "as many rows as in the columns before", rows));
            }
        }
        let rows = read.unwrap_or(0);
        for index in 0..rows {
            features.clear();
            for (number, column) in columns.iter().enumerate() {
                let width = column.width.unwrap_or(1);
                let values = &column.values[index * width..][..width];
                if number != target {
                    #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
                    features.extend(values.iter().map(|&value| value as f32));
                }
            }
            let place = || format!("row {}", row + index as u64);
            if features.len() as u64 > SAMPLE_MAX_ELEMENTS {
                return Err(Bad::new(place(), format!("at most {SAMPLE_MAX_ELEMENTS} values"), features.len()));
            }
            let [label] = columns[target].values[index * columns[target].width.unwrap_or(1)..]
                [..columns[target].width.unwrap_or(1)]
            else {
                return Err(Bad::new(place(), "a single number as the target", "a list"));
            };
            sink.features(Cells::Floats(&features)).map_err(|bad| bad.at(place()))?;
            sink.target(label).map_err(|bad| bad.at(place()))?;
        }
        row += rows as u64;
        if rows < batch_rows {
            return Ok(row);
        }
        // The first batch is one row: it shows how wide rows are.
        batch_rows = (BATCH_MAX_VALUES / features.len().max(1)).clamp(1, BATCH_MAX_ROWS);
    }
}

/// One column, as far as it has been read.
struct Column {
    reader: ColumnReader,
    name: String,
    unsigned: bool,
    listed: bool,
    /// Values in each row, from the first row on.
    width: Option<usize>,
    /// Of the batch.
    values: Vec<f64>,
}

impl Column {
    /// Reads the next rows' values and returns how many rows there were.
    fn read(&mut self, rows: usize, first_row: u64) -> Result<usize, Bad> {
        let mut starts = Vec::new();
        let (unsigned, values) = (self.unsigned, &mut self.values);
        #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "features are float32 in the end")]
        let (found_rows, levels) = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => {
                read(reader, rows, &mut starts, values, |v| f64::from(u8::from(*v)))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                read(reader, rows, &mut starts, values, |&v| if unsigned { f64::from(v as u32) } else { f64::from(v) })
            }
            ColumnReader::Int64ColumnReader(reader) => {
                read(reader, rows, &mut starts, values, |&v| if unsigned { v as u64 as f64 } else { v as f64 })
            }
            ColumnReader::FloatColumnReader(reader) => read(reader, rows, &mut starts, values, |&v| f64::from(v)),
            ColumnReader::DoubleColumnReader(reader) => read(reader, rows, &mut starts, values, |&v| v),
            _ => unreachable!("the schema was checked"),
        }
        .map_err(|error| Bad::new(format!("column {}", self.name), "a Parquet column", error))?;
        let place = || format!("rows {first_row} to {}, column {}", first_row + found_rows as u64, self.name);
        if levels != self.values.len() {
            let missing = levels - self.values.len();
            return Err(Bad::new(place(), "a number in each row", format!("{missing} missing values")));
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
}

/// Rows, and values with the missing ones, of the next rows of a column.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    starts: &mut Vec<i16>,
    values: &mut Vec<f64>,
    number: impl Fn(&T::T) -> f64,
) -> Result<(usize, usize), ParquetError> {
    let (mut typed, mut definitions) = (Vec::new(), Vec::new());
    values.clear();
    let (mut rows_read, mut levels_read) = (0, 0);
    // One call stops at the end of a page.
    while rows_read < rows {
        let (found, _, levels) =
            reader.read_records(rows - rows_read, Some(&mut definitions), Some(starts), &mut typed)?;
        if found == 0 {
            break;
        }
        rows_read += found;
        levels_read += levels;
    }
    values.extend(typed.iter().map(number));
    Ok((rows_read, levels_read))
}
