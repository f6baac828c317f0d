//! CSV tables.

use crate::folder::{Folder, classes, features, gzip, numbers};
use trainctl_data::{Column, CsvLayout, Dtype, PinOptions, Scale, Shape, Target, TargetKind};

fn options() -> PinOptions {
    PinOptions::default()
}

fn target(column: &str) -> PinOptions {
    PinOptions { target: Some(column.parse::<Column>().unwrap()), ..options() }
}

#[test]
fn the_last_column_is_the_class_and_whole_small_numbers_are_bytes() {
    let folder = Folder::with("a.csv", "0,16,1\n8,4,0\n255,0,2\n");
    let (manifest, data) = folder.pinned("a.csv", &PinOptions { scale: Some(Scale(0.5)), ..options() });
    assert_eq!(manifest.name, "a");
    assert_eq!(manifest.features.dtype, Dtype::Uint8);
    assert_eq!(manifest.target, Target::Class { classes: 3, column: Some(2) });
    assert_eq!((data.rows(), data.sample_shape()), (3, &[2][..]));
    assert_eq!(features(&data), [0.0, 8.0, 4.0, 2.0, 127.5, 0.0]);
    assert_eq!(classes(&data), [1, 0, 2]);
    let mut picked = [0.0; 4];
    data.fill_features(&[2, 0], &mut picked).unwrap();
    assert_eq!(picked, [127.5, 0.0, 0.0, 8.0]);
}

#[test]
fn header_delimiter_spaces_and_line_ends_are_found_out() {
    let folder = Folder::with("a.csv", "Y; x 1;x2\r\n 1.5;-2;+3e-1\r\n2;4;5\r\n");
    let (manifest, data) = folder.pinned("a.csv", &target("Y"));
    assert_eq!(manifest.csv, Some(CsvLayout { header: true, delimiter: ';' }));
    assert_eq!(manifest.target, Target::Number { column: Some(0) });
    assert_eq!(features(&data), [-2.0, 0.3, 4.0, 5.0]);
    assert_eq!(numbers(&data), [1.5, 2.0]);
}

#[test]
fn a_folder_of_gzipped_tables_is_one_data_set_in_the_order_of_names() {
    let folder = Folder::new();
    folder.write("set/b.csv.gz", gzip(b"3,1\n"));
    folder.write("set/a.csv", "1,0\n2,1\n");
    folder.write("set/deep/c.csv", "4,0\n");
    folder.write("set/README.md", "about");
    folder.write("set/.hidden.csv", "x");
    let (manifest, data) = folder.pinned("set", &options());
    let objects: Vec<_> = manifest.objects.iter().map(|object| (object.path.as_str(), object.rows)).collect();
    assert_eq!(objects, [("a.csv", 2), ("b.csv.gz", 1), ("deep/c.csv", 1)]);
    assert_eq!(manifest.root, "set");
    assert_eq!(features(&data), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn floats_are_kept_as_the_nearest_float32() {
    let folder = Folder::with("a.csv", "0.1,16777217,-0,0.5\n");
    let (manifest, data) = folder.pinned("a.csv", &options());
    assert_eq!(manifest.features.dtype, Dtype::Float32);
    let bits: Vec<u32> = features(&data).iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [0.1_f32.to_bits(), 16_777_216_f32.to_bits(), (-0.0_f32).to_bits()]);
}

#[test]
fn many_classes_are_numbers_unless_told_otherwise() {
    let folder = Folder::with("a.csv", "1,1000\n2,3\n");
    assert_eq!(folder.pinned("a.csv", &options()).0.target, Target::Number { column: Some(1) });
    let told = PinOptions { kind: Some(TargetKind::Class), ..options() };
    assert_eq!(folder.pinned("a.csv", &told).0.target, Target::Class { classes: 1001, column: Some(1) });
}

#[test]
fn wrong_tables_are_refused_with_the_line() {
    for (text, expected) in [
        ("1,2\n3\n", "a.csv: line 2: expected 2 columns, as before, found 1"),
        ("1,2\n\n3,4,5\n", "a.csv: line 3: expected 2 columns, as before, found 3"),
        ("1,2\r\n\r\n3", "a.csv: line 3: expected 2 columns, as before, found 1"),
        ("1,2\r\n3,x\r\n", "a.csv: line 2, column 2: expected a finite number, found \"x\""),
        ("1,2\n3,x", "a.csv: line 2, column 2: expected a finite number, found \"x\""),
        ("1,2\n3,x\n", "a.csv: line 2, column 2: expected a finite number, found \"x\""),
        ("a,b\n1,2\n,4\n", "a.csv: line 3, column 1: expected a finite number, found \"\""),
        ("1,2\n3,nan\n", "a.csv: line 2, column 2: expected a finite number, found \"nan\""),
        ("1,2\n1e39,4\n", "a.csv: line 2: expected features within float32, found inf"),
        ("1\n2\n", "a.csv: line 1: expected 2 to 16777216 columns, found 1"),
        ("", "a.csv: line 1: expected a row of numbers, found an empty line or file"),
        ("a,b\n", "expected at least one row, found none"),
        ("\u{1f}garbage\u{0}\n\n", "a.csv: "),
    ] {
        let message = Folder::with("a.csv", text).refusal("a.csv", &options());
        assert!(message.contains(expected), "{text:?}: expected {expected:?} in {message:?}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = Folder::with("a.csv", "x,y,z\n1,2,0.5\n");
    for (options, expected) in [
        (target("label"), "target column: expected one of x, y, z, found \"label\""),
        (target("3"), "target column: expected 0 to 2, found 3"),
        (
            PinOptions { shape: Some(Shape(vec![3])), ..options() },
            "shape: expected a product of 2, the values of each row, found [3]",
        ),
        (
            PinOptions { kind: Some(TargetKind::Class), ..options() },
            "target kind: expected whole numbers from 0 to 65535 to be classes, found 0.5",
        ),
    ] {
        assert_eq!(folder.refusal("a.csv", &options), expected);
    }
}

#[test]
fn a_broken_gzip_file_is_refused() {
    let whole = gzip("1,2\n".repeat(10_000).as_bytes());
    let message = Folder::with("a.csv.gz", &whole[..whole.len() - 9]).refusal("a.csv.gz", &options());
    assert!(message.contains("a.csv.gz: gzip: expected a whole gzip file, found "), "{message}");
}
