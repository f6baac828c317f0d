//! Shards of samples as WebDataset lays them out (<https://github.com/webdataset/webdataset>): in a tar archive,
//! members that lie one after another and whose names are alike up to the first `.` of the file's name are one sample.
//! Its image is a member `.png`, `.jpg` or `.jpeg`, its target one named by the [`TarLayout`]; others are left alone.
//!
//! All images of a data set are of one size. Colours become 8 bits each, without transparency; an image of greys is
//! taken for one of colours where the data set has colours.

use super::{Bad, Cells, Layout, Sink};
use crate::manifest::{SAMPLE_MAX_ELEMENTS, TarLayout};
use image::{DynamicImage, ImageReader, Limits};
use std::io::{BufRead, Cursor, Read};

/// An encoded image or target of more bytes is refused.
const MEMBER_MAX_BYTES: u64 = 256 << 20;
const IMAGES: [&str; 3] = ["png", "jpg", "jpeg"];
/// In the order in which a target is looked for.
const TARGETS: [&str; 3] = ["cls", "json", "txt"];
/// Keys that a target in JSON is looked for under.
const FIELDS: [&str; 4] = ["label", "cls", "class", "target"];

/// What the first sample says of all.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Channels, height, width.
    pub(crate) shape: Vec<u32>,
    pub(crate) layout: TarLayout,
}

/// The members of one sample that matter.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<Vec<u8>>,
    targets: [Option<Vec<u8>>; TARGETS.len()],
}

/// `field` is what the user says of the target's key.
pub(crate) fn probe(input: &mut dyn BufRead, field: Option<&str>) -> Result<Probe, Bad> {
    let mut found = None;
    // Ends the walk after the first sample; the error never leaves this function.
    let ended = samples(input, |sample| {
        found = Some(probe_sample(sample, field));
        Err(Bad::new("", "", ""))
    });
    match (found, ended) {
        (Some(probe), _) => probe,
        (None, Err(bad)) => Err(bad),
        (None, Ok(())) => Err(Bad::new("archive", "at least one sample", "none")),
    }
}

fn probe_sample(sample: &Sample, field: Option<&str>) -> Result<Probe, Bad> {
    let place = sample.place();
    let image = decode_image(sample.image()?).map_err(|bad| bad.at(&place))?;
    let channels = if image.color().has_color() { 3 } else { 1 };
    let mut present = TARGETS.iter().zip(&sample.targets).filter_map(|(name, target)| Some((name, target.as_ref()?)));
    let named_json = field.is_some();
    let Some((target, bytes)) = present.find(|(name, _)| !named_json || **name == "json") else {
        let expected = if named_json { "a member .json" } else { "a member .cls, .json or .txt" };
        return Err(Bad::new(place, expected, "none"));
    };
    let field = match (*target, field) {
        ("json", Some(field)) => Some(field.to_owned()),
        ("json", None) => field_of(bytes).map_err(|bad| bad.at(&place))?,
        _ => None,
    };
    let layout = TarLayout { target: (*target).to_owned(), field };
    Ok(Probe { shape: vec![channels, image.height(), image.width()], layout })
}

/// Under which key the target is, if under any.
fn field_of(json: &[u8]) -> Result<Option<String>, Bad> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|error| Bad::new("json", "JSON", error))?;
    let Some(object) = value.as_object() else { return Ok(None) };
    match FIELDS.iter().find(|field| object.contains_key(**field)) {
        Some(field) => Ok(Some((*field).to_owned())),
        None => {
            let keys = object.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(Bad::new("json", format!("one of the keys {}, or another one named", FIELDS.join(", ")), keys))
        }
    }
}

pub(super) fn decode(input: &mut dyn BufRead, layout: &Layout, sink: &mut dyn Sink) -> Result<(), Bad> {
    let tar = layout.tar.as_ref().expect("a checked manifest of tar has one");
    let index = TARGETS.iter().position(|name| *name == tar.target).expect("a checked manifest names one of them");
    let mut values = Vec::new();
    samples(input, |sample| {
        let place = sample.place();
        let image = decode_image(sample.image()?).map_err(|bad| bad.at(&place))?;
        let found = vec![if image.color().has_color() { 3 } else { layout.shape[0] }, image.height(), image.width()];
        if found != layout.shape {
            return Err(Bad::new(place, format!("an image of {}", sizes(&layout.shape)), sizes(&found)));
        }
        planes(image, layout.shape[0], &mut values);
        let Some(bytes) = &sample.targets[index] else {
            return Err(Bad::new(place, format!("a member .{}", tar.target), "none"));
        };
        let target = number(bytes, tar).map_err(|bad| bad.at(&place))?;
        sink.features(Cells::Bytes(&values)).map_err(|bad| bad.at(&place))?;
        sink.target(target).map_err(|bad| bad.at(&place))
    })
}

/// Each sample of an archive, in order.
fn samples(input: &mut dyn BufRead, mut each: impl FnMut(&Sample) -> Result<(), Bad>) -> Result<(), Bad> {
    let torn = |error: std::io::Error| Bad::new("archive", "a whole tar archive", error);
    let mut archive = tar::Archive::new(input);
    let mut sample = Sample::default();
    for entry in archive.entries().map_err(torn)? {
        let mut entry = entry.map_err(torn)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
        let key = if folder.is_empty() { stem.to_owned() } else { format!("{folder}/{stem}") };
        let extension = extension.to_ascii_lowercase();
        if key != sample.key {
            sample.hand_to(&mut each)?;
            sample = Sample { key, ..Sample::default() };
        }
        let slot = if IMAGES.contains(&extension.as_str()) {
            &mut sample.image
        } else if let Some(index) = TARGETS.iter().position(|name| **name == *extension) {
            &mut sample.targets[index]
        } else {
            continue;
        };
        if entry.size() > MEMBER_MAX_BYTES {
            return Err(Bad::new(path, format!("at most {MEMBER_MAX_BYTES} bytes"), entry.size()));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(torn)?;
        if bytes.len() as u64 != entry.size() {
            return Err(Bad::new(
                path,
                format!("{} bytes", entry.size()),
                format!("{}: the archive ends", bytes.len()),
            ));
        }
        if slot.replace(bytes).is_some() {
            return Err(Bad::new(sample.place(), "one image and one target", format!("{path} as well")));
        }
    }
    sample.hand_to(&mut each)
}

impl Sample {
    fn place(&self) -> String {
        format!("sample {:?}", self.key)
    }

    fn image(&self) -> Result<&[u8], Bad> {
        self.image.as_deref().ok_or_else(|| Bad::new(self.place(), "a member .png, .jpg or .jpeg", "none"))
    }

    /// Members that are neither image nor target are no sample.
    fn hand_to(&self, each: &mut impl FnMut(&Self) -> Result<(), Bad>) -> Result<(), Bad> {
        if self.image.is_none() && self.targets.iter().all(Option::is_none) { Ok(()) } else { each(self) }
    }
}

fn decode_image(bytes: &[u8]) -> Result<DynamicImage, Bad> {
    let wrong = |found: String| Bad::new("image", "a whole PNG or JPEG image", found);
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| wrong(error.to_string()))?;
    let mut limits = Limits::default();
    // 16 bits for each of four channels, at most.
    limits.max_alloc = Some(SAMPLE_MAX_ELEMENTS * 8);
    reader.limits(limits);
    reader.decode().map_err(|error| wrong(error.to_string()))
}

/// One plane for each channel, row by row.
fn planes(image: DynamicImage, channels: u32, out: &mut Vec<u8>) {
    out.clear();
    if channels == 1 {
        out.extend_from_slice(image.into_luma8().as_raw());
        return;
    }
    let pixels = image.into_rgb8();
    for channel in 0..3 {
        out.extend(pixels.as_raw().iter().skip(channel).step_by(3));
    }
}

fn number(bytes: &[u8], layout: &TarLayout) -> Result<f64, Bad> {
    if layout.target != "json" {
        let text = String::from_utf8_lossy(bytes);
        return text.trim().parse().map_err(|_| Bad::new(&layout.target, "a number", format!("{text:?}")));
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| Bad::new("json", "JSON", error))?;
    let value = match &layout.field {
        Some(field) => value.get(field).cloned().unwrap_or_default(),
        None => value,
    };
    let place = layout.field.as_deref().unwrap_or("json");
    value.as_f64().ok_or_else(|| Bad::new(place, "a number", value))
}

fn sizes(shape: &[u32]) -> String {
    shape.iter().map(u32::to_string).collect::<Vec<_>>().join("x")
}
