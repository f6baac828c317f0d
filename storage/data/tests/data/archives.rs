//! What archives have beside samples, and what is wrong with some.

use crate::folder::{Folder, classes, gzip};
use crate::tar::{archive, png, text};
use tar::{Builder, EntryType, Header};
use trainctl_data::{PinOptions, TargetKind};

fn options() -> PinOptions {
    PinOptions::default()
}

fn samples(classes: &[&str]) -> Vec<u8> {
    let names: Vec<(String, String)> =
        (0..classes.len()).map(|at| (format!("{at:04}.png"), format!("{at:04}.cls"))).collect();
    let members = names
        .iter()
        .zip(classes)
        .flat_map(|((image, label), class)| [(image.as_str(), png(1)), (label.as_str(), text(class))]);
    archive(&members.collect::<Vec<_>>())
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

#[test]
fn what_macos_and_people_put_beside_samples_is_no_sample() {
    let shard = archive(&[
        ("README.txt", text("about")),
        ("info.json", text("{}")),
        ("./._0000.png", text("Mac OS X")),
        ("./0000.png", png(1)),
        ("./._0000.cls", text("Mac OS X")),
        ("__MACOSX/._0000.png", text("Mac OS X")),
        ("./0000.cls", text("0")),
        ("Thumbs.db", text("Windows")),
        ("desktop.ini", text("Windows")),
        ("notes.txt", text("more")),
        ("0001.png", png(2)),
        ("0001.cls", text("1")),
        ("LICENSE", text("free")),
    ]);
    let (_, data) = Folder::with("a.tar", shard).pinned("a.tar", &options());
    assert_eq!(classes(&data), [0, 1]);
}

#[test]
fn links_and_other_kinds_in_place_of_files_are_refused() {
    for (kind, found) in [
        (EntryType::Link, "a link to 0000.png"),
        (EntryType::Symlink, "a link to 0000.png"),
        (EntryType::Fifo, "another kind of member"),
    ] {
        let mut builder = Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 2), "0000.cls", &b"1\n"[..]).unwrap();
        let image = png(1);
        builder.append_data(&mut header(EntryType::Regular, image.len() as u64), "0000.png", &image[..]).unwrap();
        builder.append_link(&mut header(kind, 0), "0001.png", "0000.png").unwrap();
        let folder = Folder::with("a.tar", builder.into_inner().unwrap());
        let message = folder.refusal("a.tar", &options());
        assert_eq!(message, format!("a.tar: 0001.png: expected a file, found {found}"));
    }
}

#[test]
fn archives_that_follow_each_other_are_all_read_and_cut_ones_are_refused() {
    let (first, second) = (samples(&["0", "1"]), archive(&[("b.png", png(3)), ("b.cls", text("2"))]));
    for (name, bytes) in
        [("a.tar", [&first[..], &second].concat()), ("a.tar.gz", [gzip(&first), gzip(&second), vec![0; 64]].concat())]
    {
        let (_, data) = Folder::with(name, bytes).pinned(name, &options());
        assert_eq!(classes(&data), [0, 1, 2], "{name}");
    }
    let end = first.len() - 1024;
    let message = Folder::with("a.tar", &first[..end]).refusal("a.tar", &options());
    assert_eq!(message, "a.tar: archive: expected an end mark (blocks of zeros) at the end, found none");
}

#[test]
fn empty_shards_may_come_first() {
    let folder = Folder::with("set/0.tar", archive(&[]));
    folder.write("set/1.tar", samples(&["0", "2"]));
    folder.write("set/2.tar", "");
    let (manifest, data) = folder.pinned("set", &options());
    assert_eq!(manifest.objects.iter().map(|object| object.rows).collect::<Vec<_>>(), [0, 2, 0]);
    assert_eq!(classes(&data), [0, 2]);
}

#[test]
fn long_names_are_read_and_endless_ones_are_refused() {
    let long = format!("{}/{}", "folder".repeat(30), "x".repeat(120));
    let shard = archive(&[(format!("{long}.png").as_str(), png(1)), (format!("{long}.cls").as_str(), text("1"))]);
    assert_eq!(classes(&Folder::with("a.tar", shard).pinned("a.tar", &options()).1), [1]);
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let mut builder = Builder::new(Vec::new());
        let mut name = header(kind, 8 << 20);
        name.set_cksum();
        builder.append(&name, &vec![b'a'; 8 << 20][..]).unwrap();
        let message = Folder::with("a.tar", builder.into_inner().unwrap()).refusal("a.tar", &options());
        assert_eq!(message, "a.tar: archive: expected names of at most 1048576 bytes, found 8388608");
    }
}

#[test]
fn names_in_pax_headers_count_and_sparse_files_are_refused() {
    let named = |extensions: &[(&str, &[u8])]| {
        let mut builder = Builder::new(Vec::new());
        for (extension, bytes) in [("png", png(1)), ("cls", text("2"))] {
            let path = format!("{}/0.{extension}", "ünï".repeat(50));
            let all = [("mtime", &b"1.5"[..]), ("path", path.as_bytes())];
            builder.append_pax_extensions(all.iter().chain(extensions).copied()).unwrap();
            let mut header = header(EntryType::Regular, bytes.len() as u64);
            builder.append_data(&mut header, format!("cut.{extension}.x"), &bytes[..]).unwrap();
        }
        Folder::with("a.tar", builder.into_inner().unwrap())
    };
    assert_eq!(classes(&named(&[]).pinned("a.tar", &options()).1), [2]);
    let message = named(&[("GNU.sparse.major", b"1")]).refusal("a.tar", &options());
    assert_eq!(message, "a.tar: archive: expected files without holes, found a sparse one");
    let message = named(&[("size", b"9")]).refusal("a.tar", &options());
    assert_eq!(message, "a.tar: archive: expected members of less than 8 GiB, found a larger one");
}

#[test]
fn classes_of_samples_may_have_names() {
    let (manifest, data) = Folder::with("a.tar", samples(&["dog\n", "cat", "dog"])).pinned("a.tar", &options());
    assert_eq!(manifest.class_names, Some(vec!["cat".to_owned(), "dog".to_owned()]));
    assert_eq!(classes(&data), [1, 0, 1]);
    let json = archive(&[
        ("0.png", png(1)),
        ("0.json", text(r#"{"label": "b"}"#)),
        ("1.png", png(1)),
        ("1.json", text(r#"{"label": "a"}"#)),
    ]);
    assert_eq!(classes(&Folder::with("a.tar", json).pinned("a.tar", &options()).1), [1, 0]);
    let label = PinOptions { kind: Some(TargetKind::Label), ..options() };
    let (manifest, data) = Folder::with("a.tar", samples(&["10", "9"])).pinned("a.tar", &label);
    assert_eq!(manifest.class_names, Some(vec!["10".to_owned(), "9".to_owned()]));
    assert_eq!(classes(&data), [0, 1]);
    let caption = archive(&[("0.png", png(1)), ("0.txt", text("a dog that runs"))]);
    let message = Folder::with("a.tar", caption).refusal("a.tar", &options());
    assert!(message.ends_with("sample \"0\", txt: expected a number, found \"a dog that runs\""), "{message}");
}

#[test]
fn targets_that_are_no_finite_number_are_refused() {
    for (target, found) in [("nan", "NaN"), ("inf", "inf"), ("1e300", "1e300")] {
        let message = Folder::with("a.tar", samples(&["0", target])).refusal("a.tar", &options());
        assert_eq!(message, format!("a.tar: sample \"0001\": expected a target within float32, found {found}"));
    }
}
