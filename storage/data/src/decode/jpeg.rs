//! JPEG as libjpeg-turbo decodes it, and so Pillow, torchvision and OpenCV: the same pixels, whatever the kind of scans
//! and subsampling. What libjpeg fills in where data is lost is an error here.

use super::image::{EXIF, Unreadable, check_size, orientation};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use mozjpeg::{ColorSpace, Decompress, Marker};
use mozjpeg_sys::{
    JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE, JWRN_JPEG_EOF, JWRN_MUST_RESYNC, jpeg_common_struct, jpeg_error_mgr,
    jpeg_std_error,
};
use std::any::Any;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Decodes an image, and says which orientation its EXIF data gives it.
pub(super) fn decode(bytes: &[u8]) -> Result<(DynamicImage, Orientation), Unreadable> {
    // libjpeg's errors unwind, as panics do.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_image(bytes)));
    decoded.unwrap_or_else(|error| Err(Unreadable::Broken(message(&*error))))
}

fn decode_image(bytes: &[u8]) -> Result<(DynamicImage, Orientation), Unreadable> {
    let failed = |error: std::io::Error| Unreadable::broken(error);
    let image = Decompress::builder().with_err(strict()).with_markers(&[Marker::APP(1)]).from_mem(bytes);
    let image = image.map_err(failed)?;
    let exif = image.markers().find(|marker| marker.data.starts_with(EXIF));
    let orientation = exif.and_then(|exif| orientation(exif.data)).unwrap_or(Orientation::NoTransforms);
    let (width, height) = (image.width(), image.height());
    let (channels, space) = match image.color_space() {
        ColorSpace::JCS_GRAYSCALE => (1, ColorSpace::JCS_GRAYSCALE),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => (3, ColorSpace::JCS_CMYK),
        _ => (3, ColorSpace::JCS_RGB),
    };
    check_size(channels, height as u64, width as u64)?;
    let mut started = image.to_colorspace(space).map_err(failed)?;
    let values: Vec<u8> = started.read_scanlines().map_err(failed)?;
    // Reads up to the mark of the image's end: what is cut before it is cut.
    started.finish().map_err(failed)?;
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let image = match space {
        ColorSpace::JCS_GRAYSCALE => {
            GrayImage::from_raw(size(width), size(height), values).map(DynamicImage::ImageLuma8)
        }
        ColorSpace::JCS_CMYK => {
            RgbImage::from_raw(size(width), size(height), without_ink(&values)).map(DynamicImage::ImageRgb8)
        }
        _ => RgbImage::from_raw(size(width), size(height), values).map(DynamicImage::ImageRgb8),
    };
    Ok((image.ok_or_else(|| Unreadable::broken("fewer pixels than it says"))?, orientation))
}

/// Inks as Adobe stores them, inverted, as colours by Pillow's rule: each is what black leaves of it.
fn without_ink(inks: &[u8]) -> Vec<u8> {
    let colour = |ink: u8, white: u8| {
        let product = u32::from(255 - ink) * u32::from(white) + 128;
        white.saturating_sub(u8::try_from(((product >> 8) + product) >> 8).unwrap_or(255))
    };
    inks.chunks_exact(4).flat_map(|ink| [0, 1, 2].map(|at| colour(ink[at], ink[3]))).collect()
}

/// libjpeg's error handling, with warnings of lost data as errors.
#[expect(unsafe_code, reason = "libjpeg fills a table of callbacks; all of it is plain data that may be zero")]
fn strict() -> jpeg_error_mgr {
    // SAFETY: every field is an integer, a pointer or an optional callback; `jpeg_std_error` sets those that matter and
    // keeps no reference.
    let mut callbacks = unsafe {
        let mut callbacks: jpeg_error_mgr = std::mem::zeroed();
        jpeg_std_error(&mut callbacks);
        callbacks
    };
    callbacks.error_exit = Some(fail);
    callbacks.emit_message = Some(warn);
    callbacks
}

extern "C-unwind" fn fail(common: &mut jpeg_common_struct) {
    resume_unwind(Box::new(format!("no JPEG that libjpeg reads (its error {})", code(common))));
}

extern "C-unwind" fn warn(common: &mut jpeg_common_struct, level: c_int) {
    // Others are traces.
    if level >= 0 {
        return;
    }
    let lost = match code(common) {
        JWRN_JPEG_EOF => "the image ends early",
        JWRN_HIT_MARKER => "data of the image is missing",
        JWRN_HUFF_BAD_CODE => "a code that is none",
        JWRN_MUST_RESYNC => "a restart marker that is not the next one",
        _ => return,
    };
    resume_unwind(Box::new(lost.to_owned()));
}

#[expect(unsafe_code, reason = "libjpeg hands its own state to its callbacks by pointer")]
fn code(common: &jpeg_common_struct) -> c_int {
    // SAFETY: libjpeg calls back with its error manager set, and that outlives the call.
    unsafe { (*common.err).msg_code }
}

fn message(error: &(dyn Any + Send)) -> String {
    let text = error.downcast_ref::<String>().cloned();
    text.or_else(|| error.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "a broken one".to_owned())
}
