//! Data sets read through the cache: the same rows, within its bound, by several at once, whatever becomes of it.

use crate::folder::{Folder, classes, features};
use std::path::{Path, PathBuf};
use trainctl_data::{CacheOptions, DataError, Dataset, Manifest, PinOptions, Role};

const MANY: u64 = 1 << 30;

fn rows(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder.join("rows")).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).collect()
}

fn bytes(folder: &Path) -> u64 {
    rows(folder).iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum()
}

/// 50 objects of 40 rows of 16 numbers.
fn tables() -> (Folder, Manifest) {
    let folder = Folder::new();
    for object in 0..50 {
        let row = |row: u32| {
            let cells: String = (0..16).map(|cell| format!("{}.5,", object * 1000 + row * 20 + cell)).collect();
            format!("{cells}{}\n", (object + row) % 7)
        };
        folder.write(&format!("{object:02}.csv"), (0..40).map(row).collect::<String>());
    }
    let options = PinOptions { name: Some("tables".to_owned()), ..PinOptions::default() };
    let manifest = folder.pinned(".", &options).0;
    (folder, manifest)
}

fn through(folder: &Folder, manifest: &Manifest, cache: &Path, bound_bytes: u64) -> Dataset {
    let cache = CacheOptions { folder: cache.to_owned(), bound_bytes };
    Dataset::open_through(manifest, &folder.path(""), cache).unwrap()
}

#[test]
fn the_rows_are_those_in_memory() {
    let cache = tempfile::tempdir().unwrap();
    let (folder, manifest) = tables();
    let held = folder.open(&manifest).unwrap();
    for _ in ["fetched", "cached"] {
        let data = through(&folder, &manifest, cache.path(), MANY);
        assert!(!data.reads_ahead());
        assert_eq!(features(&data), features(&held));
        assert_eq!(classes(&data), classes(&held));
    }
    assert_eq!(rows(cache.path()).len(), 50);
}

#[test]
fn images_come_with_their_labels_and_text_goes_on_from_object_to_object() {
    let cache = tempfile::tempdir().unwrap();
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/data");
    let place = jobs.join("mnist10k.manifest.json");
    let manifest = Manifest::parse(&std::fs::read(&place).unwrap(), "mnist10k").unwrap();
    assert_eq!(manifest.objects[1].role, Some(Role::Target));
    let options = CacheOptions { folder: cache.path().to_owned(), bound_bytes: MANY };
    let data = Dataset::open_through(&manifest, &jobs, options).unwrap();
    let held = Dataset::open(&manifest, &jobs).unwrap();
    assert!(features(&data) == features(&held));
    assert_eq!(classes(&data), classes(&held));

    let folder = Folder::new();
    folder.write("1.txt", "to be or n");
    folder.write("2.txt", "o");
    folder.write("3.txt", "t to be");
    let manifest = folder.pinned(".", &PinOptions::default()).0;
    let data = through(&folder, &manifest, cache.path(), MANY);
    let mut tokens = [0; 10];
    data.fill_tokens(&[1, 0], 4, &mut tokens).unwrap();
    let text: String = tokens.iter().map(|&token| char::from(token as u8)).collect();
    assert_eq!(text, "e or to be");
    data.fill_tokens(&[1], 8, &mut tokens[..9]).unwrap();
    let text: String = tokens[..9].iter().map(|&token| char::from(token as u8)).collect();
    assert_eq!(text, " not to b");
}

#[test]
fn a_small_bound_holds_while_all_rows_are_read() {
    let cache = tempfile::tempdir().unwrap();
    let (folder, manifest) = tables();
    // A block has 40 rows of 16 floats and a class: 2,640 bytes and a header.
    let bound = 10 * 2800;
    let data = through(&folder, &manifest, cache.path(), bound);
    let held = folder.open(&manifest).unwrap();
    assert!(data.reads_ahead());
    for start in [0, 7, 3] {
        let some: Vec<u64> = (start..data.rows()).step_by(11).collect();
        data.read_ahead(&some, None);
        let mut out = [vec![0.0; some.len() * 16], vec![0.0; some.len() * 16]];
        data.fill_features(&some, &mut out[0]).unwrap();
        held.fill_features(&some, &mut out[1]).unwrap();
        assert_eq!(out[0], out[1]);
    }
    drop(data);
    // More at most: a twentieth that was written since the last look, and an entry of each thread.
    assert!(bytes(cache.path()) <= bound + bound / 20 + 5 * 2800, "{}", bytes(cache.path()));
    assert!(!rows(cache.path()).is_empty());
}

#[test]
fn damaged_entries_are_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let (folder, manifest) = tables();
    let whole = features(&through(&folder, &manifest, cache.path(), MANY));
    for (index, entry) in rows(cache.path()).iter().enumerate() {
        let mut bytes = std::fs::read(entry).unwrap();
        match index % 4 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes[200] ^= 1,
            2 => bytes.clear(),
            _ => bytes[3] ^= 1,
        }
        std::fs::write(entry, bytes).unwrap();
    }
    assert!(features(&through(&folder, &manifest, cache.path(), MANY)) == whole);
}

#[test]
fn what_is_cached_needs_no_store_and_what_is_not_names_its_object() {
    let cache = tempfile::tempdir().unwrap();
    let (folder, manifest) = tables();
    let whole = features(&through(&folder, &manifest, cache.path(), MANY));
    std::fs::remove_file(folder.path("07.csv")).unwrap();
    let changed = std::fs::read_to_string(folder.path("30.csv")).unwrap().replacen("30000.5", "30001.5", 1);
    folder.write("30.csv", changed);
    assert!(features(&through(&folder, &manifest, cache.path(), MANY)) == whole, "pinned bytes are pinned bytes");

    let other = tempfile::tempdir().unwrap();
    let data = through(&folder, &manifest, other.path(), MANY);
    let mut out = [0.0; 16];
    let missing = data.fill_features(&[7 * 40], &mut out).unwrap_err();
    assert!(matches!(&missing, DataError::Missing { object } if object.ends_with("07.csv")), "{missing}");
    let error = data.fill_features(&[30 * 40 + 5], &mut out).unwrap_err().to_string();
    let expected =
        format!("30.csv: the data has changed: expected digest {}, found blake3:", manifest.objects[30].digest);
    assert!(error.contains(&expected), "{error}");
    data.fill_features(&[31 * 40], &mut out).unwrap();
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let (folder, manifest) = tables();
    let held = features(&folder.open(&manifest).unwrap());
    // A file is where its folder should be; a full disk fails at the first byte.
    let place = tempfile::NamedTempFile::new().unwrap();
    assert!(features(&through(&folder, &manifest, place.path(), MANY)) == held);
}

#[test]
fn eight_at_once_share_one_cache() {
    let cache = tempfile::tempdir().unwrap();
    let (folder, manifest) = tables();
    let held = features(&folder.open(&manifest).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(features(&through(&folder, &manifest, cache.path(), MANY)) == held));
        }
    });
    assert_eq!(rows(cache.path()).len(), 50, "no half-written files are left");
}
