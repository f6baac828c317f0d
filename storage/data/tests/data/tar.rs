//! Shards of images as WebDataset lays them out.

use crate::folder::{Folder, classes, features, gzip, numbers};
use image::{DynamicImage, ImageFormat, RgbImage};
use std::io::Cursor;
use trainctl_data::{Column, Dataset, PinOptions, Shape, TarLayout, Target};

/// Members in a tar archive.
pub(crate) fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// 2 high, 3 wide; red counts up from `first`, green and blue from 100 and 200 above.
fn colours(first: u8) -> DynamicImage {
    let bytes = (0..6).flat_map(|pixel| [first + pixel, first + 100 + pixel, first + 200 + pixel]).collect();
    DynamicImage::ImageRgb8(RgbImage::from_raw(3, 2, bytes).unwrap())
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn png(first: u8) -> Vec<u8> {
    encoded(&colours(first), ImageFormat::Png)
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn unscaled(data: &Dataset) -> Vec<u8> {
    features(data).iter().map(|value| (value * 255.0).round() as u8).collect()
}

#[test]
fn samples_are_images_by_channel_with_their_class() {
    let folder = Folder::new();
    let first = archive(&[
        ("a/0001.png", png(1)),
        ("a/0001.cls", text("2\n")),
        ("a/0001.txt", text("a caption that is no number")),
        ("a/0002.v2.meta", text("left alone")),
        ("a/0002.cls", text("0")),
        ("a/0002.PNG", png(11)),
    ]);
    folder.write("shards/train-0000.tar", first);
    folder.write("shards/train-0001.tar.gz", gzip(&archive(&[("ünï.png", png(21)), ("ünï.cls", text("1"))])));
    let (manifest, data) = folder.pinned("shards", &PinOptions::default());
    assert_eq!((data.rows(), data.sample_shape()), (3, &[3, 2, 3][..]));
    assert_eq!(manifest.tar, Some(TarLayout { target: "cls".to_owned(), field: None }));
    assert_eq!(manifest.objects.iter().map(|object| object.rows).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(classes(&data), [2, 0, 1]);
    let planes = |first: u8| [0, 100, 200].into_iter().flat_map(move |more| (0..6).map(move |i| first + more + i));
    assert!(unscaled(&data).into_iter().eq([1, 11, 21].into_iter().flat_map(planes)));
}

#[test]
fn jpeg_and_greys_are_read_and_json_names_the_target() {
    let flat = |value| DynamicImage::ImageLuma8(image::GrayImage::from_pixel(8, 8, image::Luma([value])));
    let shard = archive(&[
        ("0.jpg", encoded(&flat(64), ImageFormat::Jpeg)),
        ("0.json", text(r#"{"weight": 1.5, "label": 3}"#)),
        ("1.jpeg", encoded(&flat(192), ImageFormat::Jpeg)),
        ("1.json", text(r#"{"weight": -2, "label": 4}"#)),
    ]);
    let folder = Folder::with("x.tar", shard);
    let (manifest, data) = folder.pinned("x.tar", &PinOptions::default());
    assert_eq!(manifest.target, Target::Class { classes: 5, column: None });
    assert_eq!((data.sample_shape(), classes(&data)), (&[1, 8, 8][..], vec![3, 4]));
    // JPEG keeps an even grey.
    assert!(unscaled(&data).iter().enumerate().all(|(i, &value)| value == if i < 64 { 64 } else { 192 }));

    let weights = PinOptions { target: Some(Column::Name("weight".to_owned())), ..PinOptions::default() };
    assert_eq!(numbers(&folder.pinned("x.tar", &weights).1), [1.5, -2.0]);
    let colours = PinOptions { shape: Some(Shape(vec![3, 8, 8])), ..PinOptions::default() };
    assert_eq!(folder.pinned("x.tar", &colours).1.sample_shape(), [3, 8, 8]);
}

#[test]
fn what_is_no_sample_is_named() {
    let whole = [("0.png", png(1)), ("0.cls", text("1"))];
    let with = |more: &[(&str, Vec<u8>)]| archive(&[&whole[..], more].concat());
    let small = encoded(&DynamicImage::new_rgb8(2, 2), ImageFormat::Png);
    for (shard, expected) in [
        (with(&[("1.png", png(2))]), "x.tar: sample \"1\": expected a member .cls, found none"),
        (
            with(&[("1.cls", text("1"))]),
            "x.tar: sample \"1\": expected a member .png, .jpg, .jpeg or .webp, found none",
        ),
        (with(&[("1.png", png(2)), ("1.cls", text("cat"))]), "sample \"1\", cls: expected a number, found \"cat\""),
        (
            with(&[("1.png", text("GIF89a")), ("1.cls", text("1"))]),
            "sample \"1\", image: expected a whole PNG, JPEG or WebP image",
        ),
        (with(&[("1.png", png(2)[..60].to_vec()), ("1.cls", text("1"))]), "sample \"1\", image: expected a whole PNG"),
        (with(&[("1.png", small), ("1.cls", text("1"))]), "sample \"1\": expected an image of 3x2x3, found 3x2x2"),
        (with(&[("1.png", png(2)), ("1.jpg", png(2))]), "sample \"1\": expected one image and one target, found 1.jpg"),
        (archive(&[("0.png", png(1))]), "sample \"0\": expected a member .cls, .json or .txt, found none"),
        (archive(&[("readme", text("x"))]), "x.tar: archive: expected at least one sample, found none"),
        (archive(&whole)[..600].to_vec(), "x.tar: "),
    ] {
        let message = Folder::with("x.tar", shard).refusal("x.tar", &PinOptions::default());
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}
