//! Images of a sample: PNG, JPEG and WebP, as they are to be seen, in 8 bits.

use super::{Bad, jpeg};
use crate::manifest::SAMPLE_MAX_ELEMENTS;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage};
use std::io::Cursor;

const JPEG_MAGIC: &[u8] = &[0xff, 0xd8, 0xff];
const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
/// What JPEG and some writers of WebP put before EXIF data.
pub(super) const EXIF: &[u8] = b"Exif\0\0";
/// 16 bits for each of four channels, at most.
const DECODED_MAX_BYTES: u64 = SAMPLE_MAX_ELEMENTS * 8;

/// An image that is not read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It has so many values.
    TooLarge(u64),
    /// Its greys have 16 bits.
    WideGreys,
    /// What was found in place of a whole image.
    Broken(String),
}

impl Unreadable {
    pub(super) fn broken(found: impl ToString) -> Self {
        Self::Broken(found.to_string())
    }
}

/// Decodes an image and turns it as its EXIF data says.
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage, Bad> {
    let decoded = match kind(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes),
        Ok(format) => decode_other(bytes, format),
        Err(found) => Err(Unreadable::broken(found)),
    };
    match decoded {
        Ok((mut image, orientation)) => {
            image.apply_orientation(orientation);
            Ok(image)
        }
        Err(Unreadable::Broken(found)) => Err(Bad::new("image", "a whole PNG, JPEG or WebP image", found)),
        Err(Unreadable::WideGreys) => Err(Bad::new("image", "values of 8 bits", "greys of 16 bits")
            .hint("write the images in 8 bits: tools differ in what they make of the lower ones")),
        Err(Unreadable::TooLarge(values)) => {
            let expected = format!("an image of at most {SAMPLE_MAX_ELEMENTS} values");
            Err(Bad::new("", expected, format!("one of {values} values"))
                .hint("make the images smaller before they are pinned"))
        }
    }
}

/// The format of an image that is read, or what it is instead, whatever its name says.
fn kind(bytes: &[u8]) -> Result<ImageFormat, &'static str> {
    let at = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|bytes| bytes.starts_with(magic));
    let is_read = [
        (at(0, JPEG_MAGIC), ImageFormat::Jpeg),
        (at(0, PNG_MAGIC), ImageFormat::Png),
        (at(0, b"RIFF") && at(8, b"WEBP"), ImageFormat::WebP),
    ];
    let other = [
        (at(0, b"GIF8"), "a GIF"),
        (at(0, b"BM"), "a BMP"),
        (at(0, b"II*\0") || at(0, b"MM\0*"), "a TIFF"),
        (at(4, b"ftyp"), "an AVIF or HEIC"),
        (bytes.is_empty(), "an empty file"),
    ];
    let found = || other.iter().find(|(is_it, _)| *is_it).map_or("another kind of file", |(_, found)| *found);
    is_read.into_iter().find(|(is_it, _)| *is_it).map(|(_, format)| format).ok_or_else(found)
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Unreadable> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(Unreadable::broken)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.color_type().has_color() { 3 } else { 1 };
    check_size(channels, height.into(), width.into())?;
    let exif = decoder.exif_metadata().map_err(Unreadable::broken)?;
    let orientation = exif.as_deref().or_else(|| late_exif(bytes)).and_then(orientation);
    let image = DynamicImage::from_decoder(decoder).map_err(Unreadable::broken)?;
    Ok((in_8_bits(image)?, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// The orientation that EXIF data gives, with or without the mark that JPEG puts before it.
pub(super) fn orientation(exif: &[u8]) -> Option<Orientation> {
    Orientation::from_exif_chunk(exif.strip_prefix(EXIF).unwrap_or(exif))
}

/// EXIF data that comes after the pixels of a PNG.
fn late_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(PNG_MAGIC)?;
    loop {
        let (head, data) = rest.split_at_checked(8)?;
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if &head[4..] == b"eXIf" {
            return data.get(..len);
        }
        // A checksum of four bytes is behind the data.
        rest = data.get(len.checked_add(4)?..)?;
    }
}

/// The upper half of colours of 16 bits, as Pillow and OpenCV read them. Of greys they make different things.
fn in_8_bits(image: DynamicImage) -> Result<DynamicImage, Unreadable> {
    let upper = |value: &u16| (value >> 8) as u8;
    match image {
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => Err(Unreadable::WideGreys),
        DynamicImage::ImageRgb16(wide) => {
            let (width, height) = wide.dimensions();
            let values = wide.as_raw().iter().map(upper).collect();
            let narrow = RgbImage::from_raw(width, height, values);
            Ok(narrow.expect("as many values as before").into())
        }
        DynamicImage::ImageRgba16(wide) => {
            let (width, height) = wide.dimensions();
            let values = wide.as_raw().chunks_exact(4).flat_map(|pixel| pixel[..3].iter().map(upper)).collect();
            let narrow = RgbImage::from_raw(width, height, values);
            Ok(narrow.expect("three of four values").into())
        }
        image => Ok(image),
    }
}

/// Refuses an image by what it says of its size, before it is decoded.
pub(super) fn check_size(channels: u64, height: u64, width: u64) -> Result<(), Unreadable> {
    let values = channels.saturating_mul(height).saturating_mul(width);
    if values > SAMPLE_MAX_ELEMENTS { Err(Unreadable::TooLarge(values)) } else { Ok(()) }
}

/// Decodes an image as the first version of this program did: for manifests that it pinned.
pub(super) fn decode_v1(bytes: &[u8]) -> Result<DynamicImage, Bad> {
    let wrong = |found: String| Bad::new("image", "a whole PNG or JPEG image", found);
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| wrong(error.to_string()))?;
    reader.limits(limits());
    reader.decode().map_err(|error| wrong(error.to_string()))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_MAX_BYTES);
    limits
}
