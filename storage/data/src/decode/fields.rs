//! Cutting a stream of delimited text into fields, one at a time: memory is bounded by the longest field, however
//! long a line or a file is.

use super::{Bad, unreadable};
use csv_core::{ReadFieldResult, Reader, ReaderBuilder, Terminator};
use std::io::BufRead;

/// A field of more bytes is refused: without the bound a quote that is never closed would be read into memory whole.
const FIELD_MAX_BYTES: usize = 16 << 20;
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
const FIELD_FIRST_BYTES: usize = 4 << 10;

/// The fields of an input, in order.
pub(super) struct Fields<'a> {
    input: &'a mut dyn BufRead,
    core: Reader,
    buffer: Vec<u8>,
    len: usize,
    last_byte: u8,
}

/// One field, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'f> {
    pub(super) bytes: &'f [u8],
    /// Counted from 0.
    pub(super) column: usize,
    /// Counted from 1.
    pub(super) line: u64,
}

impl Field<'_> {
    /// Where it is, for messages: columns count from 1 there.
    pub(super) fn place(&self) -> String {
        format!("line {}, column {}", self.line, self.column + 1)
    }

    /// Its first few characters, in quotes.
    pub(super) fn shown(&self) -> String {
        format!("{:?}", String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(40)]).trim())
    }
}

/// A line of a table, or several where a field has line ends: how many fields it has, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) columns: usize,
    pub(super) line: u64,
}

impl<'a> Fields<'a> {
    /// Starts after `skip` lines. Lines end with a line feed; a carriage return before it counts as space.
    pub(super) fn start(input: &'a mut dyn BufRead, delimiter: u8, skip: u64) -> Result<Self, Bad> {
        let mut core = ReaderBuilder::new().delimiter(delimiter).terminator(Terminator::Any(b'\n')).build();
        // The library takes a mark that is alone in a buffer for the end of the file.
        if input.fill_buf().map_err(|error| unreadable(&error))?.starts_with(BYTE_ORDER_MARK) {
            input.consume(BYTE_ORDER_MARK.len());
        }
        for skipped in 0..skip {
            if !skip_line(input)? {
                return Err(Bad::new("skip", format!("more than {skip} lines"), skipped));
            }
        }
        core.set_line(1 + skip);
        Ok(Self { input, core, buffer: vec![0; FIELD_FIRST_BYTES], len: 0, last_byte: 0 })
    }

    /// Hands each field of the next record to `each`; nothing at the end. Lines without a value are no records.
    pub(super) fn record(&mut self, each: &mut dyn FnMut(Field<'_>) -> Result<(), Bad>) -> Result<Option<Record>, Bad> {
        let mut column = 0;
        while let Some(is_last) = self.field()? {
            let line = self.core.line() - u64::from(is_last && self.last_byte == b'\n');
            let field = Field { bytes: &self.buffer[..self.len], column, line };
            if column == 0 && is_last && field.bytes.trim_ascii().is_empty() {
                continue;
            }
            each(field)?;
            column += 1;
            if is_last {
                return Ok(Some(Record { columns: column, line }));
            }
        }
        Ok(None)
    }

    /// Reads a field into the buffer: whether it is its record's last, or nothing at the end.
    fn field(&mut self) -> Result<Option<bool>, Bad> {
        self.len = 0;
        loop {
            let bytes = self.input.fill_buf().map_err(|error| unreadable(&error))?;
            let (result, read, written) = self.core.read_field(bytes, &mut self.buffer[self.len..]);
            if read > 0 {
                self.last_byte = bytes[read - 1];
            }
            self.input.consume(read);
            self.len += written;
            match result {
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull if self.len >= FIELD_MAX_BYTES => {
                    let place = format!("line {}", self.core.line());
                    return Err(Bad::new(place, format!("fields of at most {FIELD_MAX_BYTES} bytes"), "a longer one"));
                }
                ReadFieldResult::OutputFull => self.buffer.resize(self.buffer.len() * 2, 0),
                ReadFieldResult::Field { record_end } => return Ok(Some(record_end)),
                ReadFieldResult::End => return Ok(None),
            }
        }
    }
}

/// Reads to the end of a line, keeping none of it: whether there was anything.
fn skip_line(input: &mut dyn BufRead) -> Result<bool, Bad> {
    let mut any = false;
    loop {
        let bytes = input.fill_buf().map_err(|error| unreadable(&error))?;
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let read = end.map_or(bytes.len(), |at| at + 1);
        input.consume(read);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn all(text: &str, skip: u64) -> Vec<(Vec<String>, u64)> {
        let mut input = BufReader::with_capacity(3, text.as_bytes());
        let mut fields = Fields::start(&mut input, b',', skip).unwrap();
        let mut records = Vec::new();
        loop {
            let mut record = Vec::new();
            let end = fields.record(&mut |field| {
                record.push(String::from_utf8_lossy(field.bytes).into_owned());
                Ok(())
            });
            let Some(Record { columns, line }) = end.unwrap() else { return records };
            assert_eq!(columns, record.len());
            records.push((record, line));
        }
    }

    fn record(fields: &[&str], line: u64) -> (Vec<String>, u64) {
        (fields.iter().map(|&field| field.to_owned()).collect(), line)
    }

    #[test]
    fn fields_come_with_the_line_they_end_on() {
        let text = "\u{feff}a,\"b\nc\"\n\n  \n1,\n\"x\"\"y\",2";
        let expected = [record(&["a", "b\nc"], 2), record(&["1", ""], 5), record(&["x\"y", "2"], 6)];
        assert_eq!(all(text, 0), expected);
        assert_eq!(all("title, of it\n1,2\r\n", 1), [record(&["1", "2\r"], 2)]);
    }

    #[test]
    fn a_field_without_an_end_is_refused() {
        let text = format!("1,\"{}", "x".repeat(FIELD_MAX_BYTES + 1));
        let mut input = text.as_bytes();
        let mut fields = Fields::start(&mut input, b',', 0).unwrap();
        let bad = fields.record(&mut |_| Ok(())).unwrap_err();
        assert_eq!(bad.place, "line 1");
    }
}
