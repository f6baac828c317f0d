//! IDX images and labels.

use crate::folder::{Folder, classes, features, gzip, numbers};
use trainctl_data::{Dtype, PinOptions, Role, Scale, Shape, Target};

const IMAGES: &str = "set-images-idx3-ubyte";
const LABELS: &str = "set-labels-idx1-ubyte";

pub(crate) fn idx(kind: u8, dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend_from_slice(values);
    bytes
}

fn pair() -> Folder {
    let folder = Folder::with(IMAGES, idx(8, &[2, 2, 3], &[0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6]));
    folder.write(LABELS, idx(8, &[2], &[7, 0]));
    folder
}

fn options() -> PinOptions {
    PinOptions::default()
}

#[test]
fn images_find_their_labels_and_are_scaled_to_one() {
    for name in [IMAGES, LABELS, "."] {
        let folder = pair();
        let (manifest, data) = folder.pinned(name, &PinOptions { name: Some("set".to_owned()), ..options() });
        let roles: Vec<_> = manifest.objects.iter().map(|object| (object.path.as_str(), object.role)).collect();
        assert_eq!(roles, [(IMAGES, Some(Role::Features)), (LABELS, Some(Role::Target))]);
        assert_eq!(manifest.target, Target::Class { classes: 8, column: None });
        assert_eq!(data.sample_shape(), [1, 2, 3]);
        assert_eq!(features(&data)[..3], [0.0, 51.0 * (1.0 / 255.0) as f32, 102.0 * (1.0 / 255.0) as f32]);
        assert_eq!(features(&data)[5], 1.0);
        assert_eq!(classes(&data), [7, 0]);
    }
}

#[test]
fn two_sets_in_a_folder_follow_each_other() {
    let folder = Folder::new();
    for (set, first) in [("train", 1), ("t10k", 9)] {
        folder.write(&format!("mnist/{set}-images-idx2-ubyte.gz"), gzip(&idx(8, &[1, 2], &[first, 0])));
        folder.write(&format!("mnist/{set}-labels-idx1-ubyte.gz"), gzip(&idx(8, &[1], &[first])));
    }
    let unscaled = PinOptions { scale: Some(Scale(1.0)), ..options() };
    let (manifest, data) = folder.pinned("mnist", &unscaled);
    assert_eq!((manifest.name.as_str(), manifest.rows), ("mnist", 2));
    assert_eq!(features(&data), [9.0, 0.0, 1.0, 0.0]);
    assert_eq!(classes(&data), [9, 1]);
}

#[test]
fn every_type_of_value_is_read() {
    let values: [(u8, Vec<u8>, [f32; 2]); 6] = [
        (0x08, vec![200, 7], [200.0, 7.0]),
        (0x09, vec![0xff, 7], [-1.0, 7.0]),
        (0x0b, [(-300_i16).to_be_bytes(), 7_i16.to_be_bytes()].concat(), [-300.0, 7.0]),
        (0x0c, [(-70_000_i32).to_be_bytes(), 7_i32.to_be_bytes()].concat(), [-70_000.0, 7.0]),
        (0x0d, [0.1_f32.to_be_bytes(), 7_f32.to_be_bytes()].concat(), [0.1, 7.0]),
        (0x0e, [0.25_f64.to_be_bytes(), 7_f64.to_be_bytes()].concat(), [0.25, 7.0]),
    ];
    for (kind, bytes, expected) in values {
        let folder = Folder::with(IMAGES, idx(kind, &[1, 2], &bytes));
        folder.write(LABELS, idx(0x0d, &[1], &1.5_f32.to_be_bytes()));
        let (manifest, data) = folder.pinned(IMAGES, &PinOptions { scale: Some(Scale(1.0)), ..options() });
        assert_eq!(features(&data), expected, "type {kind:#x}");
        assert_eq!(numbers(&data), [1.5]);
        let bytes = kind == 0x08;
        assert_eq!(manifest.features.dtype, if bytes { Dtype::Uint8 } else { Dtype::Float32 });
    }
}

#[test]
fn another_shape_of_as_many_values_is_taken() {
    let shaped = PinOptions { shape: Some(Shape(vec![6])), ..options() };
    assert_eq!(pair().pinned(IMAGES, &shaped).1.sample_shape(), [6]);
}

#[test]
fn garbage_and_absurd_counts_are_refused_without_room_being_made_for_them() {
    let max = u32::MAX;
    for (bytes, expected) in [
        (b"MNIST!!!".to_vec(), "header: expected an IDX file (00 00, a type, dimensions), found 4d 4e 49 53"),
        (vec![0, 0, 8], "header: expected 4 bytes, found the end of the file after 3"),
        (idx(7, &[1, 1], &[0]), "header: expected an IDX file"),
        (idx(8, &[], &[]), "header: expected 1 to 8 dimensions, found 0"),
        (idx(8, &[1; 9], &[0]), "header: expected 1 to 8 dimensions, found 9"),
        (idx(8, &[1, max, max, max], &[0]), "header: expected rows of 1 to 16777216 values, found rows of [4294967295"),
        (idx(8, &[1, 0], &[]), "header: expected rows of 1 to 16777216 values, found rows of [0]"),
        (idx(8, &[max, 2, 3], &[1; 12]), "row 2 of 4294967295: expected 6 bytes, found the end of the file after 0"),
        (idx(8, &[2, 2, 3], &[1; 11]), "row 1 of 2: expected 6 bytes, found the end of the file after 5"),
        (idx(8, &[2, 2, 3], &[1; 13]), "after row 2: expected the end of the file, found more bytes"),
        (idx(0x0d, &[2, 1], &[0xff; 8]), "row 0 of 2: expected features within float32, found NaN"),
    ] {
        let folder = pair();
        folder.write(IMAGES, &bytes);
        let message = folder.refusal(IMAGES, &options());
        assert!(message.contains(&format!("{IMAGES}: {expected}")), "{bytes:?}: expected {expected:?} in {message:?}");
    }
}

#[test]
fn labels_that_are_not_the_images_are_refused() {
    let folder = pair();
    folder.write(LABELS, idx(8, &[3], &[0, 1, 2]));
    let expected = format!("{LABELS}: header: expected 2 labels, as there are images, found 3");
    assert_eq!(folder.refusal(IMAGES, &options()), expected);

    std::fs::remove_file(folder.path(LABELS)).unwrap();
    let message = folder.refusal(IMAGES, &options());
    assert!(message.starts_with("uri: expected for each file of images one of labels"), "{message}");
}
