//! Plain text: its bytes are the tokens, whatever the encoding.

use super::{Bad, Cells, Sink, unreadable};
use std::io::BufRead;

pub(super) fn decode(input: &mut dyn BufRead, sink: &mut dyn Sink) -> Result<(), Bad> {
    loop {
        let bytes = input.fill_buf().map_err(|error| unreadable(&error))?;
        if bytes.is_empty() {
            return Ok(());
        }
        let count = bytes.len();
        sink.features(Cells::Bytes(bytes))?;
        input.consume(count);
    }
}
