//! Data that the real dvc tracked and pushed: `fixtures/dvc/make.sh` made it.

use crate::folder::{Folder, classes, features};
use std::path::{Path, PathBuf};
use std::process::Command;
use trainctl_data::{DataError, Dataset, Finding, Manifest, PinOptions, pin, verify};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dvc").canonicalize().unwrap()
}

fn pinned(place: &Path, out: Option<&str>) -> Result<Manifest, DataError> {
    pin(place.to_str().unwrap(), &PinOptions { out: out.map(str::to_owned), ..PinOptions::default() })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(manifest: &Manifest) -> Dataset {
    Dataset::open(manifest, "/").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_tracked_file_is_read_from_the_remote() {
    let manifest = pinned(&fixture().join("repository/points.csv.dvc"), None).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.objects[0].path.as_str()), ("points", "points.csv"));
    assert!(manifest.objects[0].stored.as_ref().unwrap().starts_with("files/md5/"));
    assert!(manifest.root.starts_with("file:///") && manifest.root.ends_with("/dvc/remote"), "{}", manifest.root);
    assert_eq!(classes(&open(&manifest)), [0, 1, 0]);
}

#[test]
fn a_tracked_folder_has_all_its_files_in_order() {
    let manifest = pinned(&fixture().join("repository/days.dvc"), None).unwrap();
    let paths: Vec<&str> = manifest.objects.iter().map(|object| object.path.as_str()).collect();
    assert_eq!(paths, ["día 2.csv", "monday.csv"]);
    assert_eq!(features(&open(&manifest)), [3.0, 1.0, 2.0]);
    assert!(verify(&manifest, "/").unwrap().iter().all(|report| report.finding == Finding::Whole));
}

#[test]
fn an_output_of_a_stage_is_chosen_by_its_path() {
    let lock = fixture().join("repository/dvc.lock");
    let manifest = pinned(&lock, Some("made.txt")).unwrap();
    assert_eq!((manifest.rows, manifest.name.as_str()), (12, "made"));
    let error = pinned(&lock, None).unwrap_err();
    assert_eq!(error.to_string(), "out: expected one of made.txt, more.txt, found none");
    let error = pinned(&lock, Some("other")).unwrap_err();
    assert_eq!(error.to_string(), "out: expected one of made.txt, more.txt, found \"other\"");
    let error = pinned(&fixture().join("repository/dvc.yaml"), Some("made.txt")).unwrap_err();
    assert!(error.to_string().starts_with("out: expected a dvc.lock or .dvc file"), "{error}");
}

#[test]
fn a_remote_that_lost_or_changed_an_object_is_found_out() {
    let folder = Folder::new();
    copy(&fixture(), &folder.path(""));
    let tracked = folder.path("repository/points.csv.dvc");
    let manifest = pinned(&tracked, None).unwrap();
    let stored = folder.path("remote").join(manifest.objects[0].stored.as_ref().unwrap());
    let mut bytes = std::fs::read(&stored).unwrap();
    *bytes.last_mut().unwrap() = b' ';
    std::fs::remove_file(&stored).unwrap();
    let error = pinned(&tracked, None).unwrap_err();
    assert!(matches!(&error, DataError::Missing { object } if object.ends_with(" (points.csv)")), "{error}");
    std::fs::write(&stored, &bytes).unwrap();
    let error = pinned(&tracked, None).unwrap_err().to_string();
    assert!(error.contains("the data has changed: expected md5 "), "{error}");
    let error = Dataset::open(&manifest, "/").unwrap_err().to_string();
    assert!(error.contains("(points.csv): the data has changed: expected digest blake3:"), "{error}");
    std::fs::write(&stored, &bytes[..10]).unwrap();
    let error = pinned(&tracked, None).unwrap_err().to_string();
    assert!(error.ends_with("expected size 28 bytes, found 10 bytes"), "{error}");

    let list = std::fs::read_to_string(folder.path("repository/days.dvc")).unwrap();
    let md5 = list.split("md5: ").nth(1).unwrap().split(".dir").next().unwrap().to_owned();
    let listed = folder.path(&format!("remote/files/md5/{}/{}.dir", &md5[..2], &md5[2..]));
    std::fs::set_permissions(&listed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&listed, "[]").unwrap();
    let error = pinned(&folder.path("repository/days.dvc"), None).unwrap_err().to_string();
    assert!(error.contains(&format!("expected md5 {md5}, found ")), "{error}");
}

#[test]
fn files_that_dvc_did_not_write_are_refused_with_the_place() {
    let folder = Folder::new();
    folder.write(".dvc/config", "[core]\nremote = r\n['remote \"r\"']\nurl = .\n");
    let (nested, deeper, long) = ("[".repeat(100), "[".repeat(3000), " ".repeat(5 << 20));
    for (text, expected) in [
        ("outs: [", "x.dvc: line "),
        ("outs: []", "x.dvc: outs: expected at least one output, found none"),
        ("outs:\n- md5: abc\n  path: x\n  hash: md5", "x: expected an md5 of 32 hex digits, found \"abc\""),
        ("outs:\n- path: x\n  hash: md5", "outs[0].md5: expected text"),
        ("outs:\n- md5: abc\n  path: x", "outs[0].hash: expected md5, as DVC 3 writes it"),
        (
            "a: &a [x, x]\nb: [*a, *a]\nouts: []",
            "x.dvc: line 2, column 5: expected YAML as DVC writes it, found an alias",
        ),
        (nested.as_str(), "x.dvc: line 1, column 65: expected YAML as DVC writes it, found more than 64 levels"),
        (deeper.as_str(), "x.dvc: line 1, column "),
        (long.as_str(), "x.dvc: expected at most 4194304 bytes of a file of DVC's, found 4194305"),
        ("outs:\n- md5: ../../../../../../../../../etc/pa\n  path: x\n  hash: md5", "expected an md5 of 32 hex digits"),
    ] {
        folder.write("x.dvc", text);
        let message = folder.refusal("x.dvc", &PinOptions::default());
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    let alone = Folder::with("x.dvc", "outs:\n- md5: abc\n  path: x\n  hash: md5");
    assert!(alone.refusal("x.dvc", &PinOptions::default()).contains("expected a file in a DVC repository"));
}

/// The fixture is what the real dvc pushes.
#[test]
fn the_real_dvc_makes_the_same_remote() {
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.dvc-of-tests/bin");
    let path = format!("{}:{}", brought.display(), std::env::var("PATH").unwrap_or_default());
    if !std::env::split_paths(&path).any(|folder| folder.join("dvc").is_file()) {
        eprintln!("SKIPPED: dvc is not installed; hint: cargo xtask setup --tests");
        return;
    }
    let folder = Folder::new();
    std::fs::copy(fixture().join("make.sh"), folder.path("make.sh")).unwrap();
    let made = Command::new("sh").arg(folder.path("make.sh")).env("PATH", path).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for (name, out) in [("points.csv.dvc", None), ("days.dvc", None), ("dvc.lock", Some("made.txt"))] {
        let [fresh, kept] = [folder.path(""), fixture()].map(|place| pinned(&place.join("repository").join(name), out));
        assert_eq!(fresh.unwrap().objects, kept.unwrap().objects, "{name}");
    }
}
