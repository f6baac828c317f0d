//! Shards of samples as WebDataset lays them out (<https://github.com/webdataset/webdataset>): in a tar archive,
//! members that lie one after another and whose names are alike up to the first `.` of the file's name are one sample.
//! Its image is a member `.png`, `.jpg`, `.jpeg` or `.webp`, its target one named by the [`TarLayout`]; others are left
//! alone, and so are members whose name begins with a `.` and those beside the samples, such as a README. A link is an
//! error where it stands for an image or a target.
//!
//! All images of a data set are of one size. Colours become 8 bits each, without transparency; an image of greys is
//! taken for one of colours where the data set has colours.

use super::members::{Kind, Member, Rules, members, torn};
use super::value::Value;
use super::{Bad, Cells, Layout, Sink, image};
use crate::manifest::TarLayout;
use ::image::DynamicImage;
use std::io::BufRead;

/// An encoded image or target of more bytes is refused.
const MEMBER_MAX_BYTES: u64 = 256 << 20;
/// A target is parsed as a whole.
const TARGET_MAX_BYTES: u64 = 16 << 20;
const IMAGES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Those of the first rules.
const IMAGES_V1: usize = 3;
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
    /// The target is the name of a class.
    pub(crate) is_label: bool,
}

/// A sample's target.
enum Named {
    Number(f64),
    Label(String),
}

/// The members of one sample that matter.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<Vec<u8>>,
    targets: [Option<Vec<u8>>; TARGETS.len()],
}

/// Looks at the first sample that has an image; nothing where there is none. `field` is what the user says of the
/// target's key.
pub(crate) fn probe(input: &mut dyn BufRead, field: Option<&str>) -> Result<Option<Probe>, Bad> {
    let (mut found, mut without_image) = (None, None);
    // Ends the walk after the first sample; the error never leaves this function.
    let ended = samples(input, Rules::Whole, |sample| {
        if sample.image.is_none() {
            without_image.get_or_insert_with(|| sample.image().map(|_| ()));
            return Ok(());
        }
        found = Some(probe_sample(sample, field));
        Err(Bad::new("", "", ""))
    });
    match (found, ended, without_image) {
        (Some(probe), ..) => probe.map(Some),
        (None, Err(bad), _) | (None, Ok(()), Some(Err(bad))) => Err(bad),
        (None, Ok(()), _) => Ok(None),
    }
}

fn probe_sample(sample: &Sample, field: Option<&str>) -> Result<Probe, Bad> {
    let place = sample.place();
    let image = image::decode(sample.image()?).map_err(|bad| bad.at(&place))?;
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
    // A text beside an image may as well be its caption.
    let is_label =
        *target != "txt" && target_of(bytes, &layout, false).is_err() && target_of(bytes, &layout, true).is_ok();
    Ok(Probe { shape: vec![channels, image.height(), image.width()], layout, is_label })
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
    let rules = if layout.reading > 1 { Rules::Whole } else { Rules::ToFirstEnd };
    let decode_image = if layout.reading > 1 { image::decode } else { image::decode_v1 };
    let mut values = Vec::new();
    samples(input, rules, |sample| {
        if rules == Rules::Whole && sample.image.is_none() && sample.targets[index].is_none() {
            return Ok(());
        }
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
        let target = target_of(bytes, tar, layout.labels).map_err(|bad| bad.at(&place))?;
        sink.features(Cells::Bytes(&values)).map_err(|bad| bad.at(&place))?;
        match target {
            Named::Number(number) => sink.target(number),
            Named::Label(label) => sink.label(&label),
        }
        .map_err(|bad| bad.at(&place))
    })
}

/// Each sample of an archive, in order.
fn samples(input: &mut dyn BufRead, rules: Rules, mut each: impl FnMut(&Sample) -> Result<(), Bad>) -> Result<(), Bad> {
    let mut sample = Sample::default();
    let images = if rules == Rules::Whole { &IMAGES[..] } else { &IMAGES[..IMAGES_V1] };
    members(input, rules, &mut |Member { path, kind, size, content }| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if kind == Kind::Folder || (rules == Rules::ToFirstEnd && kind != Kind::File) {
            return Ok(());
        }
        // As macOS puts them beside every file.
        if rules == Rules::Whole && name.starts_with('.') {
            return Ok(());
        }
        let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
        let key = if folder.is_empty() { stem.to_owned() } else { format!("{folder}/{stem}") };
        let extension = extension.to_ascii_lowercase();
        if key != sample.key {
            sample.hand_to(&mut each)?;
            sample = Sample { key, ..Sample::default() };
        }
        let (slot, most) = if images.contains(&extension.as_str()) {
            (&mut sample.image, MEMBER_MAX_BYTES)
        } else if let Some(index) = TARGETS.iter().position(|name| **name == *extension) {
            (&mut sample.targets[index], if rules == Rules::Whole { TARGET_MAX_BYTES } else { MEMBER_MAX_BYTES })
        } else {
            return Ok(());
        };
        let other = match kind {
            Kind::File => None,
            Kind::Link(target) => Some(format!("a link to {target}")),
            Kind::Folder | Kind::Other => Some("another kind of member".to_owned()),
        };
        if let Some(found) = other {
            return Err(Bad::new(path, "a file", found).hint("`tar --hard-dereference` writes the files themselves"));
        }
        if size > most {
            return Err(Bad::new(path, format!("at most {most} bytes"), size));
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|error| torn(&error))?;
        if bytes.len() as u64 != size {
            return Err(Bad::new(path, format!("{size} bytes"), format!("{}: the archive ends", bytes.len())));
        }
        if slot.replace(bytes).is_some() {
            return Err(Bad::new(sample.place(), "one image and one target", format!("{path} as well")));
        }
        Ok(())
    })?;
    sample.hand_to(&mut each)
}

impl Sample {
    fn place(&self) -> String {
        format!("sample {:?}", self.key)
    }

    fn image(&self) -> Result<&[u8], Bad> {
        self.image.as_deref().ok_or_else(|| Bad::new(self.place(), "a member .png, .jpg, .jpeg or .webp", "none"))
    }

    /// Members that are neither image nor target are no sample.
    fn hand_to(&self, each: &mut impl FnMut(&Self) -> Result<(), Bad>) -> Result<(), Bad> {
        if self.image.is_none() && self.targets.iter().all(Option::is_none) { Ok(()) } else { each(self) }
    }
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

/// A sample's target: a number, or the name of a class where `labels` are wanted.
fn target_of(bytes: &[u8], layout: &TarLayout, labels: bool) -> Result<Named, Bad> {
    if layout.target != "json" {
        let text = String::from_utf8_lossy(bytes);
        let number = text.trim().parse::<f64>();
        return match (number, labels) {
            (Ok(number), false) => Ok(Named::Number(number)),
            (Err(_), false) => Err(Bad::new(&layout.target, "a number", format!("{text:?}"))),
            (_, true) => match std::str::from_utf8(bytes).map(str::trim) {
                Ok(label) if Value::of(label.as_bytes(), b'.') != Value::Missing => Ok(Named::Label(label.to_owned())),
                _ => Err(Bad::new(&layout.target, "the name of a class", format!("{text:?}"))),
            },
        };
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| Bad::new("json", "JSON", error))?;
    let value = match &layout.field {
        Some(field) => value.get(field).cloned().unwrap_or_default(),
        None => value,
    };
    let place = layout.field.as_deref().unwrap_or("json");
    let number = value.as_f64().or_else(|| value.as_bool().map(|truth| f64::from(u8::from(truth))));
    match (number, value.as_str(), labels) {
        (Some(number), _, false) => Ok(Named::Number(number)),
        (None, Some(label), true) => Ok(Named::Label(label.trim().to_owned())),
        (Some(_), _, true) => Ok(Named::Label(value.to_string())),
        (None, _, true) => Err(Bad::new(place, "the name of a class", value)),
        (None, _, false) => Err(Bad::new(place, "a number", value)),
    }
}

fn sizes(shape: &[u32]) -> String {
    shape.iter().map(u32::to_string).collect::<Vec<_>>().join("x")
}
