//! Folders that look like a data set and are something else.

use crate::folder::{Folder, features};
use trainctl_data::PinOptions;

const TABLE: &str = "a,b,y\n1.5,2,0\n";

fn refusal(folder: &Folder) -> String {
    folder.refusal("set", &PinOptions::default()).replace(&folder.path("set").display().to_string(), "set")
}

fn with(files: &[&str]) -> Folder {
    let folder = Folder::new();
    files.iter().for_each(|file| folder.write(&format!("set/{file}"), TABLE));
    folder
}

#[test]
fn columns_in_the_names_of_folders_are_refused() {
    let expected = "set: y=0/p.csv: expected all columns in the files, found the column y in the folder's name y=0";
    assert_eq!(refusal(&with(&["y=0/p.csv", "y=1/p.csv"])), expected);
    for folder in ["my%20key=a%2Fb", "a b=1", "y=__HIVE_DEFAULT_PARTITION__", "2024/y="] {
        let message = refusal(&with(&[&format!("{folder}/p.csv")]));
        assert!(message.contains("expected all columns in the files, found the column "), "{folder}: {message}");
    }
    let (_, data) = with(&["a-b/p.csv", "=x/p.csv"]).pinned("set", &PinOptions::default());
    assert_eq!(data.rows(), 2);
    // Alone, what its name says is a word to the user.
    let folder = with(&["y=1/p.csv"]);
    let notes = folder.notes("set/y=1", &PinOptions::default());
    assert!(notes.contains(&"the folder y=1 has a column in its name, which is not read".to_owned()), "{notes:?}");
}

#[test]
fn tables_with_a_log_of_their_own_are_refused_by_name() {
    for (file, found) in [
        ("_delta_log/00000000000000000000.json", "a Delta table"),
        ("metadata/00000-1b2c.metadata.json", "an Iceberg table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("_temporary/0/part.csv", "an unfinished output of Spark or Hadoop"),
        ("_spark_metadata/0", "an output of Spark's streaming, which keeps a list of its files"),
        ("deep/metadata/version-hint.text", "an Iceberg table"),
        ("_versions/1.manifest", "a Lance data set"),
    ] {
        let expected = format!("set: {file}: expected files that are all part of the data, found {found}");
        assert_eq!(refusal(&with(&["a.csv", file])), expected);
    }
}

#[test]
fn folders_within_such_tables_are_refused_too() {
    for (log, data, found) in [
        ("_delta_log/0.json", "set/part", "a Delta table"),
        ("metadata/0.metadata.json", "set/data", "an Iceberg table"),
    ] {
        let folder = with(&[log]);
        folder.write(&format!("{data}/a.csv"), TABLE);
        let message = folder.refusal(data, &PinOptions::default());
        assert!(
            message.ends_with(&format!("expected files that are all part of the data, found {found}")),
            "{message}"
        );
    }
    let (_, data) = with(&["metadata/a.json", "data/a.csv"]).pinned("set/data", &PinOptions::default());
    assert_eq!(data.rows(), 1);
}

#[test]
fn the_same_file_twice_is_refused() {
    for (first, second) in [("a.csv", "a.csv.gz"), ("a.tar", "a.tgz"), ("a.tar.gz", "a.tgz")] {
        let expected = format!("set: {second}: expected each file once, found {first} beside it");
        assert_eq!(refusal(&with(&[first, second])), expected);
    }
    let (_, data) = with(&["a.csv", "A.csv"]).pinned("set", &PinOptions::default());
    assert_eq!(data.rows(), 2, "names in other cases are other files");
    let notes = with(&["a.csv", "a (1).csv"]).notes("set", &PinOptions::default());
    assert!(notes.contains(&"a (1).csv and a.csv are the same bytes".to_owned()), "{notes:?}");
}

#[test]
fn what_is_compressed_in_a_way_that_is_not_read_is_refused_unless_it_is_there_as_it_is() {
    let expected = "set: b.csv.zst: expected files as they are, or in gzip, found .zst";
    assert_eq!(refusal(&with(&["a.csv", "b.csv.zst"])), expected);
    assert_eq!(refusal(&with(&["b.csv.zst"])), expected);
    let (manifest, _) = with(&["a.csv", "a.csv.zip", "b.csv.gz.txt"])
        .pinned("set", &PinOptions { format: Some(trainctl_data::Format::Csv), ..PinOptions::default() });
    assert_eq!(manifest.objects.len(), 1);
    for (name, bytes, found) in [
        ("d.txt", &b"PK\x03\x04 and more"[..], "a zip archive"),
        ("d.csv", b"BZh91AY&SY and more", "bzip2"),
        ("d.tar", b"\xfd7zXZ\x00 and more", "xz"),
        ("d.parquet", b"\x28\xb5\x2f\xfd and more", "zstd"),
    ] {
        let message = Folder::with(name, bytes).refusal(name, &PinOptions::default());
        assert!(message.starts_with(&format!("{name}: content: expected ")), "{message}");
        assert!(message.ends_with(&format!("found {found}")), "{message}");
    }
}

#[test]
fn what_spark_and_operating_systems_put_beside_data_is_left_alone_and_data_is_not() {
    let beside = ["_SUCCESS", ".part-0.csv.crc", "_metadata", "Thumbs.db", "desktop.ini", ".DS_Store"];
    let folder = with(&[&["part-0.csv", "__MACOSX/._part-0.csv", "__MACOSX/part-0.csv"], &beside[..]].concat());
    assert_eq!(folder.pinned("set", &PinOptions::default()).0.objects.len(), 1);
    for name in ["_part-1.csv", "_old/part-1.csv"] {
        let expected = "expected names that don't begin with `_`, found one that Spark and pyarrow leave alone";
        assert_eq!(refusal(&with(&["part-0.csv", name])), format!("set: {name}: {expected}"));
    }
}

#[test]
fn files_that_dvc_keeps_elsewhere_are_missed() {
    let folder = with(&["a.csv"]);
    folder.write("set/b.csv.dvc", "outs:\n- md5: aa\n");
    assert_eq!(refusal(&folder), "set: b.csv.dvc: expected b.csv beside it, found none");
    folder.write("set/b.csv", TABLE);
    folder.write("set/notes.md.dvc", "outs: []\n");
    folder.write("set/more.dvc", "outs: []\n");
    folder.write("set/more/c.csv", TABLE);
    assert_eq!(folder.pinned("set", &PinOptions::default()).0.rows, 3);
}

#[test]
fn links_to_folders_are_followed_once() {
    let link = |target: &str, name: &str, folder: &Folder| {
        std::os::unix::fs::symlink(target, folder.path(name)).unwrap();
    };
    let folder = with(&["v1/a.csv"]);
    link("v1", "set/latest", &folder);
    assert!(refusal(&folder).starts_with("set/latest: link: expected each file once, found a link to "));
    let folder = with(&["a.csv"]);
    link("..", "set/up", &folder);
    assert!(refusal(&folder).starts_with("set/up: link: expected each file once, found a link to "));
    let folder = with(&["a.csv"]);
    folder.write("else/b.csv", TABLE);
    link("../else", "set/more", &folder);
    assert_eq!(folder.pinned("set", &PinOptions::default()).0.rows, 2);
    link("../else", "set/again", &folder);
    assert!(refusal(&folder).contains("expected each file once, found a link to "));
    let folder = with(&["a.csv"]);
    link("../gone", "set/part", &folder);
    assert_eq!(refusal(&folder), "set/part: link: expected a file, found a link to ../gone, which is not there");
    let folder = with(&["a.csv"]);
    link("gone.md", "set/notes.md", &folder);
    link("me@host:1", "set/.#a.csv", &folder);
    assert_eq!(folder.pinned("set", &PinOptions::default()).0.rows, 1);
}

#[test]
fn links_to_what_was_not_fetched_are_refused_and_others_followed() {
    let folder = with(&["a.csv"]);
    let link = folder.path("set/b.csv");
    std::os::unix::fs::symlink("../.git/annex/objects/b.csv", &link).unwrap();
    let expected = "set/b.csv: link: expected a file, found a link to ../.git/annex/objects/b.csv, which is not there";
    assert_eq!(refusal(&folder), expected);
    let alone = folder.refusal("set/b.csv", &PinOptions::default());
    assert!(alone.ends_with("found a link to ../.git/annex/objects/b.csv, which is not there"), "{alone}");
    folder.write(".git/annex/objects/b.csv", TABLE);
    assert_eq!(folder.pinned("set", &PinOptions::default()).0.rows, 2);
}

#[test]
fn pointers_in_place_of_files_are_refused_in_every_format() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123456\n";
    for (text, found) in [(lfs, "a git-lfs pointer"), ("/annex/objects/MD5E-s9--ab.csv\n", "a git-annex pointer")] {
        for name in ["d.txt", "d.csv", "d.parquet", "d.tar", "d-idx1-ubyte"] {
            let message = Folder::with(name, text).refusal(name, &PinOptions::default());
            assert_eq!(message, format!("{name}: content: expected the data itself, found {found}"));
        }
    }
}

#[test]
fn a_table_may_be_called_readme_and_what_is_left_alone_is_named() {
    let folder = with(&["d.csv", "readmeter.csv", "README.csv", "README.md", "readme.txt", "labels.json"]);
    let (manifest, data) = folder.pinned("set", &PinOptions::default());
    let paths: Vec<&str> = manifest.objects.iter().map(|object| object.path.as_str()).collect();
    assert_eq!(paths, ["README.csv", "d.csv", "readmeter.csv"]);
    assert_eq!(features(&data).len(), 6);
    let notes = folder.notes("set", &PinOptions::default());
    assert!(notes.contains(&"no part of the data: README.md, labels.json, readme.txt".to_owned()), "{notes:?}");
}
