//! IDX, the format of MNIST's files: two zero bytes, a type, the number of dimensions, the dimensions as big-endian
//! 32-bit numbers, then the values (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").

use super::{Bad, Cells, Layout, Sink, unreadable};
use crate::manifest::{Role, SAMPLE_MAX_ELEMENTS};
use std::io::BufRead;

const DIMS_MAX: usize = 8;

/// An IDX file's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IdxHeader {
    kind: Kind,
    pub(crate) rows: u64,
    /// Of one row; empty for labels.
    pub(crate) shape: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Unsigned8,
    Signed8,
    Signed16,
    Signed32,
    Float32,
    Float64,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 | Self::Signed8 => 1,
            Self::Signed16 => 2,
            Self::Signed32 | Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// One value from its big-endian bytes.
    fn value(self, bytes: &[u8]) -> f64 {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let [a, b, c, d, ..] = wide;
        match self {
            Self::Unsigned8 => f64::from(a),
            Self::Signed8 => f64::from(i8::from_be_bytes([a])),
            Self::Signed16 => f64::from(i16::from_be_bytes([a, b])),
            Self::Signed32 => f64::from(i32::from_be_bytes([a, b, c, d])),
            Self::Float32 => f64::from(f32::from_be_bytes([a, b, c, d])),
            Self::Float64 => f64::from_be_bytes(wide),
        }
    }
}

/// Reads the header alone.
pub(crate) fn probe(input: &mut dyn BufRead) -> Result<IdxHeader, Bad> {
    let mut magic = [0; 4];
    fill(input, &mut magic).map_err(|bad| bad.at("header"))?;
    let kind = match magic {
        [0, 0, 0x08, _] => Kind::Unsigned8,
        [0, 0, 0x09, _] => Kind::Signed8,
        [0, 0, 0x0b, _] => Kind::Signed16,
        [0, 0, 0x0c, _] => Kind::Signed32,
        [0, 0, 0x0d, _] => Kind::Float32,
        [0, 0, 0x0e, _] => Kind::Float64,
        _ => return Err(Bad::new("header", "an IDX file (00 00, a type, dimensions)", hex(&magic))),
    };
    let dims = usize::from(magic[3]);
    if !(1..=DIMS_MAX).contains(&dims) {
        return Err(Bad::new("header", format!("1 to {DIMS_MAX} dimensions"), dims));
    }
    let mut sizes = Vec::new();
    for _ in 0..dims {
        let mut size = [0; 4];
        fill(input, &mut size).map_err(|bad| bad.at("header"))?;
        sizes.push(u32::from_be_bytes(size));
    }
    let shape = sizes.split_off(1);
    let elements = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(u64::from(size)));
    match elements {
        Some(1..=SAMPLE_MAX_ELEMENTS) => Ok(IdxHeader { kind, rows: u64::from(sizes[0]), shape }),
        _ => {
            Err(Bad::new("header", format!("rows of 1 to {SAMPLE_MAX_ELEMENTS} values"), format!("rows of {shape:?}")))
        }
    }
}

pub(super) fn decode(input: &mut dyn BufRead, layout: &Layout, sink: &mut dyn Sink) -> Result<(), Bad> {
    let header = probe(input)?;
    let labels = layout.role == Some(Role::Target);
    match (labels, header.shape.is_empty()) {
        (true, false) => {
            return Err(Bad::new("header", "labels (one dimension)", format!("rows of {:?}", header.shape)));
        }
        (false, true) => return Err(Bad::new("header", "images (two dimensions or more)", "one dimension")),
        _ => {}
    }
    let elements = header.shape.iter().map(|&size| size as usize).product::<usize>();
    let width = header.kind.bytes();
    let mut bytes = vec![0; elements * width];
    let mut floats = Vec::new();
    for row in 0..header.rows {
        let place = || format!("row {row} of {}", header.rows);
        fill(input, &mut bytes).map_err(|bad| bad.at(place()))?;
        if labels {
            sink.target(header.kind.value(&bytes)).map_err(|bad| bad.at(place()))?;
        } else if header.kind == Kind::Unsigned8 {
            sink.features(Cells::Bytes(&bytes)).map_err(|bad| bad.at(place()))?;
        } else {
            floats.clear();
            #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
            floats.extend(bytes.chunks_exact(width).map(|value| header.kind.value(value) as f32));
            sink.features(Cells::Floats(&floats)).map_err(|bad| bad.at(place()))?;
        }
    }
    let more = !input.fill_buf().map_err(|error| unreadable(&error))?.is_empty();
    if more {
        return Err(Bad::new(format!("after row {}", header.rows), "the end of the file", "more bytes"));
    }
    Ok(())
}

/// Fills the whole buffer or says how far it got.
fn fill(input: &mut dyn BufRead, buffer: &mut [u8]) -> Result<(), Bad> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => {
                let found = format!("the end of the file after {filled}");
                return Err(Bad::new("", format!("{} bytes", buffer.len()), found));
            }
            Ok(count) => filled += count,
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
