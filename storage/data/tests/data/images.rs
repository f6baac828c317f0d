//! Images as Pillow reads them (`fixtures/images/make.py`), and those that are not whole.

use crate::folder::{Folder, features};
use crate::tar::{archive, text};
use std::path::{Path, PathBuf};
use trainctl_data::{PinOptions, Scale};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

/// A shard of one sample.
fn shard(name: &str, image: Vec<u8>) -> Folder {
    let (_, extension) = name.rsplit_once('.').unwrap();
    let member = format!("0.{extension}");
    Folder::with("a.tar", archive(&[(member.as_str(), image), ("0.cls", text("0"))]))
}

fn refusal(name: &str, image: Vec<u8>) -> String {
    shard(name, image).refusal("a.tar", &PinOptions::default())
}

#[test]
fn the_pixels_are_those_that_pillow_reads() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((image, kind @ ("rgb" | "grey"))) = name.rsplit_once('.') else { continue };
        let expected = fixture(&name);
        let folder = shard(image, fixture(image));
        let (_, data) = folder.pinned("a.tar", &PinOptions { scale: Some(Scale(1.0)), ..PinOptions::default() });
        let channels = if kind == "rgb" { 3 } else { 1 };
        // Orientations from 5 on turn by a quarter; one of them is in a JPEG behind other data.
        let turned = ["turned-5", "turned-6", "turned-7", "turned-8", "xmp-first"];
        let turned = turned.iter().any(|name| image.starts_with(name));
        let (height, width) = if turned { (21, 14) } else { (14, 21) };
        assert_eq!(data.sample_shape(), [channels, height, width], "{image}");
        let planes = features(&data);
        let pixels = (height * width) as usize;
        for (at, &value) in expected.iter().enumerate() {
            let (pixel, channel) = (at / channels as usize, at % channels as usize);
            assert_eq!(planes[channel * pixels + pixel], f32::from(value), "{image}: pixel {pixel}, channel {channel}");
        }
        seen += 1;
    }
    assert_eq!(seen, 40);
}

#[test]
fn images_that_end_early_are_refused() {
    for name in ["scans.jpg", "progressive.jpg", "grey.jpg", "restarts.jpg", "turned-3.png", "lossless.webp"] {
        let whole = fixture(name);
        for cut in [2, 30, whole.len() / 3] {
            // A PNG's last chunk says nothing but that it is the last.
            if name.ends_with(".png") && cut == 2 {
                continue;
            }
            let message = refusal(name, whole[..whole.len() - cut].to_vec());
            assert!(
                message.contains("sample \"0\", image: expected a whole PNG, JPEG or WebP image, found "),
                "{name} without {cut}: {message}"
            );
        }
    }
    assert!(refusal("scans.jpg", fixture("scans.jpg")[..400].to_vec()).ends_with("found the image ends early"));
}

#[test]
fn damaged_images_are_refused() {
    let mut jpeg = fixture("restarts.jpg");
    let restart = jpeg.windows(2).position(|pair| pair == [0xff, 0xd1]).unwrap();
    jpeg[restart + 1] = 0xd5;
    assert!(refusal("a.jpg", jpeg).contains("image: expected a whole"));
    let mut png = fixture("turned-3.png");
    let data = png.windows(4).position(|name| name == b"IDAT").unwrap() + 20;
    png[data] ^= 0x55;
    assert!(refusal("a.png", png).contains("image: expected a whole"));
    assert!(refusal("a.jpg", b"\xff\xd8\xff\xd9".to_vec()).contains("image: expected a whole"));
}

#[test]
fn an_image_that_is_too_large_is_named_before_it_is_decoded() {
    let image = image::GrayImage::new(6000, 6000);
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let message = refusal("a.png", bytes.into_inner());
    let expected = "sample \"0\": expected an image of at most 16777216 values, found one of 36000000 values";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn images_of_other_kinds_are_refused_by_name() {
    for (name, found) in [
        ("grey-16-bits.png", "sample \"0\", image: expected values of 8 bits, found greys of 16 bits"),
        ("a.gif", "expected a whole PNG, JPEG or WebP image, found a GIF"),
        ("a.bmp", "expected a whole PNG, JPEG or WebP image, found a BMP"),
        ("a.tiff", "expected a whole PNG, JPEG or WebP image, found a TIFF"),
        ("a.avif", "expected a whole PNG, JPEG or WebP image, found an AVIF or HEIC"),
        ("a.jp2", "expected a whole PNG, JPEG or WebP image, found another kind of file"),
    ] {
        // Named as what it is not.
        let named = if name.ends_with("png") { name } else { "a.png" };
        let message = refusal(named, fixture(&format!("refused/{name}")));
        assert!(message.contains(found), "{name}: {message}");
    }
}
