//! Data that is not what was pinned, and manifests that don't hold.

use crate::folder::{Folder, gzip};
use trainctl_data::{DataError, Dataset, Finding, Manifest, PinOptions, verify};

fn refused(folder: &Folder, manifest: &Manifest) -> DataError {
    folder.open(manifest).map(|_| ()).expect_err("data that must not be used")
}

/// Three objects, pinned.
fn pinned() -> (Folder, Manifest) {
    let folder = Folder::new();
    for (name, text) in [("a", "1,0\n2,1\n"), ("b", "3,0\n4,1\n"), ("c", "5,0\n")] {
        folder.write(&format!("{name}.csv"), text);
    }
    let manifest = folder.pinned(".", &PinOptions { name: Some("x".to_owned()), ..PinOptions::default() }).0;
    (folder, manifest)
}

fn findings(folder: &Folder, manifest: &Manifest) -> Vec<String> {
    let reports = verify(manifest, &folder.path("")).unwrap();
    let text = |finding| match finding {
        Finding::Whole => "whole".to_owned(),
        Finding::Missing => "missing".to_owned(),
        Finding::Changed { what, .. } => format!("changed {what}"),
    };
    reports.into_iter().map(|report| text(report.finding)).collect()
}

#[test]
fn whole_data_verifies() {
    let (folder, manifest) = pinned();
    assert_eq!(findings(&folder, &manifest), ["whole"; 3]);
}

#[test]
fn a_changed_byte_is_found_and_both_digests_are_named() {
    let (folder, manifest) = pinned();
    folder.write("b.csv", "3,0\n4,0\n");
    let error = refused(&folder, &manifest);
    let message = error.to_string();
    let found = format!("blake3:{}", blake3::hash(b"3,0\n4,0\n").to_hex());
    let path = folder.path("b.csv").display().to_string();
    let expected = &manifest.objects[1].digest;
    assert_eq!(message, format!("{path}: the data has changed: expected digest {expected}, found {found}"));
    assert!(error.hint().unwrap().contains("restore the object as it was pinned"));
    assert_eq!(findings(&folder, &manifest), ["whole", "changed digest", "whole"]);
}

#[test]
fn a_change_that_is_no_csv_any_more_is_still_called_a_change() {
    let (folder, manifest) = pinned();
    folder.write("b.csv", "3,0\nxxxx");
    assert!(refused(&folder, &manifest).to_string().contains("the data has changed: expected digest"));
}

#[test]
fn another_size_is_found_without_reading() {
    let (folder, manifest) = pinned();
    folder.write("a.csv", "1,0\n");
    assert!(refused(&folder, &manifest).to_string().ends_with("expected size 8 bytes, found 4 bytes"));
    assert_eq!(findings(&folder, &manifest)[0], "changed size");
}

#[test]
fn a_missing_object_is_named() {
    let (folder, manifest) = pinned();
    std::fs::remove_file(folder.path("c.csv")).unwrap();
    let path = folder.path("c.csv").display().to_string();
    assert_eq!(refused(&folder, &manifest).to_string(), format!("{path}: expected an object, found none"));
    assert_eq!(findings(&folder, &manifest), ["whole", "whole", "missing"]);
}

#[test]
fn a_manifest_that_lies_about_whole_objects_is_found_out() {
    let (folder, manifest) = pinned();
    let with = |change: fn(&mut Manifest)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        refused(&folder, &changed).to_string()
    };
    let fewer = with(|manifest| manifest.objects[0].rows = 1);
    assert!(fewer.ends_with("a.csv: line 2: expected 1 rows, as in the manifest, found more"), "{fewer}");
    let more = with(|manifest| manifest.objects[0].rows = 3);
    assert!(more.ends_with("a.csv: the data has changed: expected rows 3, found 2"), "{more}");
    let wider = with(|manifest| manifest.features.shape = vec![2]);
    assert!(wider.ends_with("a.csv: line 1: expected 2 values, as in the manifest, found 1"), "{wider}");
    let classes = with(|manifest| manifest.target = trainctl_data::Target::Class { classes: 1, column: Some(1) });
    assert!(classes.ends_with("a.csv: line 2: expected a class from 0 to 0, found 1"), "{classes}");
}

#[test]
fn a_small_file_that_unzips_to_very_much_is_stopped_at_the_pinned_rows() {
    let folder = Folder::with("a.txt.gz", gzip(b"abc"));
    let mut manifest = folder.pinned("a.txt.gz", &PinOptions::default()).0;
    let bomb = gzip(&vec![b'x'; 64 << 20]);
    folder.write("a.txt.gz", &bomb);
    manifest.objects[0].size = bomb.len() as u64;
    manifest.objects[0].digest = format!("blake3:{}", blake3::hash(&bomb).to_hex());
    let message = refused(&folder, &manifest).to_string();
    assert!(message.contains("expected 3 rows, as in the manifest, found more"), "{message}");
}

#[test]
fn manifests_that_do_not_hold_are_refused_with_the_place() {
    let (_, manifest) = pinned();
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    for (from, to, expected) in [
        ("\"format_version\": 1", "\"format_version\": 2", "m.json: format_version: expected 1, found 2"),
        ("\"rows\": 5", "\"rows\": 6", "m.json: rows: expected 5, the sum over all objects, found 6"),
        ("\"rows\": 5", "\"rows\": -5", "expected a data manifest, found invalid value: integer `-5`"),
        (
            "\"a.csv\"",
            "\"../a.csv\"",
            "objects[0].path: expected a path below the root, without `.` and `..`, found \"../a",
        ),
        ("\"a.csv\"", "\"/etc/passwd\"", "objects[0].path: expected a path below the root"),
        ("\"a.csv\"", "\"b.csv\"", "objects[1].path: expected each object once, found \"b.csv\" again"),
        ("\"digest\": \"blake3:", "\"digest\": \"blake3:zz", "objects[0].digest: expected blake3: and 64 hex digits"),
        ("\"scale\": 1.0", "\"scale\": 0.0", "features.scale: expected a number within float32, other than 0, found 0"),
        ("\"classes\": 2", "\"classes\": 0", "target.classes: expected 1 to 65536, found 0"),
        ("\"column\": 1", "\"col\": 1", "line 3"),
        ("\"name\"", "\"nom\"", "m.json: line 3, column 7: expected a data manifest, found unknown field `nom`"),
        ("{", "", "m.json: line "),
    ] {
        assert!(text.contains(from), "{from}");
        let changed = text.replacen(from, to, 1);
        let message = Manifest::parse(changed.as_bytes(), "m.json").expect_err(to).to_string();
        assert!(message.contains(expected), "{to}: expected {expected:?} in {message:?}");
    }
    let absurd = text.replacen("\"rows\": 2", "\"rows\": 99999999999999", 1).replacen(
        "\"rows\": 5",
        "\"rows\": 100000000000002",
        1,
    );
    let message = Manifest::parse(absurd.as_bytes(), "m.json").unwrap_err().to_string();
    assert_eq!(message, "m.json: expected at most 68719476736 bytes in memory, found 300000000000006");
}

#[test]
fn labels_that_the_manifest_leaves_out_are_missed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../jobs/data/mnist10k.manifest.json");
    let whole = Manifest::parse(&std::fs::read(path).unwrap(), path).unwrap();
    let refused = |change: fn(&mut Manifest)| {
        let mut changed = whole.clone();
        change(&mut changed);
        Manifest::parse(&changed.to_bytes(), "m.json").unwrap_err().to_string()
    };
    assert_eq!(
        refused(|manifest| manifest.objects[1].rows = 9999),
        "m.json: objects[1].rows: expected 10000, as its features, found 9999"
    );
    assert_eq!(
        refused(|manifest| drop(manifest.objects.pop())),
        "m.json: objects: expected a target after each object of features, found none after the last"
    );
    assert_eq!(
        refused(|manifest| manifest.objects[1].role = None),
        "m.json: objects[1].role: expected features, then their target, in turn, found none"
    );
}

#[test]
fn places_that_hold_no_data_are_refused() {
    let folder = Folder::new();
    folder.write("mixed/a.csv", "1,0\n");
    folder.write("mixed/a.txt", "x");
    folder.write("other/photo.jpg", "x");
    let refusal = |name: &str| folder.refusal(name, &PinOptions::default());
    assert_eq!(refusal("mixed"), "format: expected one format in the folder, found csv, text");
    assert_eq!(refusal("nowhere"), "uri: expected a file or folder, found none");
    assert!(refusal("other").starts_with("uri: expected files named .csv, .parquet, .txt, .tar or *-ubyte"));
    assert!(refusal("other/photo.jpg").starts_with("format: expected a file named .csv"));
}

#[test]
fn a_data_set_moves_with_its_manifest() {
    let (folder, manifest) = pinned();
    let moved = Folder::new();
    for name in ["a.csv", "b.csv", "c.csv"] {
        std::fs::rename(folder.path(name), moved.path(name)).unwrap();
    }
    assert_eq!(moved.open(&manifest).unwrap().rows(), 5);
    assert_eq!(Dataset::open(&manifest, &moved.path("nothing/..")).unwrap().rows(), 5);
}

#[test]
fn blocking_calls_work_from_within_a_runtime() {
    let (folder, manifest) = pinned();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { folder.open(&manifest).unwrap().rows() }), 5);
}
