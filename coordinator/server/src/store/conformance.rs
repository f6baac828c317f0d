//! What every store must do, run for each.

use super::{FailAt, MemoryStore, SledStore, Store, StoreError};
use coordinator_core::Record;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

fn put(key: &str, value: &str) -> Record {
    Record { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
}

fn remove(key: &str) -> Record {
    Record { key: key.to_owned(), value: None }
}

fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.with_prefix(prefix).expect("read").into_iter().map(|(key, _)| key).collect()
}

fn conforms(store: &dyn Store) {
    assert_eq!(keys(store, ""), [""; 0], "a new store is empty");
    store.commit(&[]).expect("an empty batch");

    store.commit(&[put("job/b", "1"), put("job/a", "2"), put("jobs", "3"), put("instance/i1", "4")]).expect("commit");
    assert_eq!(keys(store, "job/"), ["job/a", "job/b"], "ordered, and only what starts so");
    assert_eq!(keys(store, "job"), ["job/a", "job/b", "jobs"]);
    assert_eq!(keys(store, "").len(), 4);
    assert_eq!(keys(store, "nothing"), [""; 0]);

    store.commit(&[remove("job/b"), put("job/a", "5"), remove("never there")]).expect("commit");
    assert_eq!(store.with_prefix("job/").expect("read"), [("job/a".to_owned(), b"5".to_vec())]);

    store.commit(&[put("job/a", "6"), remove("job/a"), remove("jobs"), put("jobs", "7")]).expect("commit");
    assert_eq!(store.with_prefix("job").expect("read"), [("jobs".to_owned(), b"7".to_vec())], "the later one counts");

    let large = vec![7u8; 3 << 20];
    store.commit(&[Record { key: "large".to_owned(), value: Some(large.clone()) }, put("empty", "")]).expect("commit");
    assert_eq!(store.with_prefix("large").expect("read")[0].1, large);
    assert_eq!(store.with_prefix("empty").expect("read")[0].1, b"");
    store.commit(&[remove("large"), remove("empty"), remove("jobs"), remove("instance/i1")]).expect("commit");
    assert_eq!(keys(store, ""), [""; 0]);
}

#[test]
fn the_memory_store_conforms() {
    conforms(&MemoryStore::default());
}

#[test]
fn the_sled_store_conforms() {
    let folder = tempfile::tempdir().expect("temp folder");
    let store = SledStore::open(&folder.path().join("db")).expect("open");
    conforms(&store);
}

#[test]
fn a_store_with_a_fault_to_come_conforms() {
    conforms(&FailAt::new(MemoryStore::default(), u64::MAX));
}

#[test]
fn a_closed_sled_store_can_be_opened_at_once_and_holds_all() {
    let folder = tempfile::tempdir().expect("temp folder");
    for round in 0..50 {
        let store = SledStore::open(folder.path()).expect("open");
        assert_eq!(keys(&store, "").len(), round);
        store.commit(&[put(&format!("k{round:02}"), "v")]).expect("commit");
        store.close().expect("close");
        store.close().expect("closing twice is fine");
        assert!(matches!(store.commit(&[put("late", "v")]), Err(StoreError::Write { .. })));
        assert!(matches!(store.with_prefix(""), Err(StoreError::Read { .. })));
    }
}

#[test]
fn an_open_sled_store_is_refused_to_others() {
    let folder = tempfile::tempdir().expect("temp folder");
    let store = SledStore::open(folder.path()).expect("open");
    let error = SledStore::open(folder.path()).err().expect("a refusal");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(store);
}

#[test]
fn what_is_no_folder_is_an_error() {
    let file = tempfile::NamedTempFile::new().expect("temp file");
    assert!(matches!(SledStore::open(file.path()), Err(StoreError::Open { .. })));
    assert!(matches!(SledStore::open(Path::new("/proc/none/db")), Err(StoreError::Open { .. })));
}

/// Records that are written over again and again must not pile up.
#[test]
fn the_sled_store_stays_small() {
    let folder = tempfile::tempdir().expect("temp folder");
    let store = SledStore::open(folder.path()).expect("open");
    let value = "x".repeat(2_000);
    for round in 0..1_500u32 {
        let batch: Vec<Record> = (0..20).map(|key| put(&format!("job/{key:02}"), &format!("{round}{value}"))).collect();
        store.commit(&batch).expect("commit");
    }
    store.close().expect("close");
    let bytes = size(folder.path());
    // 60 MB were written, 40 kB are alive.
    assert!(bytes < 24 << 20, "{bytes} bytes on disk");
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("read the folder").flatten();
    entries
        .map(|entry| {
            let metadata = entry.metadata().expect("metadata");
            if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

fn batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<u16>)>>> {
    let record = (0..24u8, prop::option::of(any::<u16>()));
    prop::collection::vec(prop::collection::vec(record, 0..8), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Both stores hold what a plain map would, before and after the disk's is closed and opened.
    #[test]
    fn stores_agree_with_a_map(batches in batches()) {
        let folder = tempfile::tempdir().expect("temp folder");
        let (memory, disk) = (MemoryStore::default(), SledStore::open(folder.path()).expect("open"));
        let mut map = BTreeMap::new();
        for batch in &batches {
            let mut records = Vec::new();
            for (key, value) in batch {
                let key = format!("k{key}");
                let value = value.map(|value| value.to_string().into_bytes());
                match value.clone() {
                    Some(value) => { map.insert(key.clone(), value); }
                    None => { map.remove(&key); }
                }
                records.push(Record { key, value });
            }
            memory.commit(&records).expect("commit");
            disk.commit(&records).expect("commit");
        }
        let expected: Vec<(String, Vec<u8>)> = map.into_iter().collect();
        prop_assert_eq!(memory.with_prefix("").expect("read"), expected.clone());
        prop_assert_eq!(disk.with_prefix("").expect("read"), expected.clone());
        disk.close().expect("close");
        let disk = SledStore::open(folder.path()).expect("open");
        prop_assert_eq!(disk.with_prefix("").expect("read"), expected);
    }
}
