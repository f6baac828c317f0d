//! What every store must do, whatever it is. A store that passes is one that checkpoints and data sets can rely on.

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Writers in a race.
const RACERS: usize = 32;
/// More than one page of any store's listing.
const MANY: usize = 10_000;
const MIB: usize = 1 << 20;

/// Runs all checks below `root`.
pub(crate) async fn check(store: Arc<dyn ObjectStore>, root: Path) {
    whole_objects(&*store, &root.clone().join("whole")).await;
    put_if_absent(&store, &root.clone().join("absent")).await;
    put_if_match(&store, &root.clone().join("match")).await;
    multipart(&*store, &root.clone().join("multipart")).await;
    ranges(&*store, &root.clone().join("ranges")).await;
    odd_names(&*store, &root.clone().join("odd")).await;
    missing(&*store, &root.clone().join("missing")).await;
    folders(&*store, &root.clone().join("folders")).await;
    listing(&store, &root.clone().join("listing")).await;
}

fn mode(mode: PutMode) -> PutOptions {
    PutOptions::from(mode)
}

async fn read(store: &dyn ObjectStore, path: &Path) -> Vec<u8> {
    store.get(path).await.unwrap().bytes().await.unwrap().to_vec()
}

async fn names(store: &dyn ObjectStore, prefix: &Path) -> Vec<Path> {
    let mut names: Vec<Path> = store.list(Some(prefix)).map_ok(|meta| meta.location).try_collect().await.unwrap();
    names.sort();
    names
}

async fn whole_objects(store: &dyn ObjectStore, root: &Path) {
    for (name, bytes) in [("empty", Vec::new()), ("small", b"a\0b\r\n".to_vec()), ("large", pattern(5 * MIB + 1))] {
        let path = root.clone().join(name);
        store.put(&path, bytes.clone().into()).await.unwrap();
        assert_eq!(store.head(&path).await.unwrap().size, bytes.len() as u64, "{name}");
        assert_eq!(read(store, &path).await, bytes, "{name}");
        store.put(&path, PutPayload::from_static(b"again")).await.unwrap();
        assert_eq!(read(store, &path).await, b"again", "{name}: the last writer counts");
        store.delete(&path).await.unwrap();
        assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })), "{name}");
    }
}

/// Bytes that show when a piece is in the wrong place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

async fn put_if_absent(store: &Arc<dyn ObjectStore>, root: &Path) {
    let path = root.clone().join("manifest.json");
    let racers = (0..RACERS).map(|racer| {
        let (store, path) = (store.clone(), path.clone());
        tokio::spawn(async move {
            let put = store.put_opts(&path, format!("racer {racer}").into_bytes().into(), mode(PutMode::Create)).await;
            match put {
                Ok(_) => Some(racer),
                Err(Error::AlreadyExists { .. }) => None,
                Err(error) => panic!("racer {racer}: {error}"),
            }
        })
    });
    let winners: Vec<usize> = futures::future::join_all(racers).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(winners.len(), 1, "of {RACERS} creators of one object exactly one succeeds");
    assert_eq!(read(&**store, &path).await, format!("racer {}", winners[0]).into_bytes());
}

async fn put_if_match(store: &Arc<dyn ObjectStore>, root: &Path) {
    let path = root.clone().join("run.json");
    let first = store.put(&path, PutPayload::from_static(b"first")).await.unwrap();
    let version = UpdateVersion { e_tag: first.e_tag, version: first.version };
    let racers = (0..RACERS).map(|racer| {
        let (store, path, version) = (store.clone(), path.clone(), version.clone());
        tokio::spawn(async move {
            let bytes = format!("racer {racer}").into_bytes();
            match store.put_opts(&path, bytes.into(), mode(PutMode::Update(version))).await {
                Ok(_) => Some(racer),
                Err(Error::Precondition { .. }) => None,
                Err(error) => panic!("racer {racer}: {error}"),
            }
        })
    });
    let winners: Vec<usize> = futures::future::join_all(racers).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(winners.len(), 1, "of {RACERS} updates of one version exactly one succeeds");
    assert_eq!(read(&**store, &path).await, format!("racer {}", winners[0]).into_bytes());
    let gone = root.clone().join("gone");
    let update = store.put_opts(&gone, PutPayload::from_static(b"x"), mode(PutMode::Update(version))).await;
    assert!(matches!(update, Err(Error::Precondition { .. } | Error::NotFound { .. })), "{update:?}");
}

async fn multipart(store: &dyn ObjectStore, root: &Path) {
    let path = root.clone().join("model.safetensors");
    let bytes = pattern(17 * MIB + 3);
    let mut upload = store.put_multipart(&path).await.unwrap();
    let parts: Vec<_> = bytes.chunks(8 * MIB).map(|part| upload.put_part(part.to_vec().into())).collect();
    // Later parts may arrive first.
    futures::future::try_join_all(parts.into_iter().rev()).await.unwrap();
    assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })), "invisible before it is complete");
    upload.complete().await.unwrap();
    assert!(read(store, &path).await == bytes, "parts are in their order");

    let empty = root.clone().join("empty");
    store.put_multipart(&empty).await.unwrap().complete().await.unwrap();
    assert_eq!(store.head(&empty).await.unwrap().size, 0);
    store.delete(&empty).await.unwrap();

    let given_up = root.clone().join("given-up");
    let mut upload = store.put_multipart(&given_up).await.unwrap();
    upload.put_part(pattern(5 * MIB).into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(names(store, root).await, [path], "nothing is left of an upload that was given up");
}

async fn ranges(store: &dyn ObjectStore, root: &Path) {
    let path = root.clone().join("part");
    let bytes = pattern(3 * MIB);
    store.put(&path, bytes.clone().into()).await.unwrap();
    for range in [0..1, 0..100, 1_000_000..2_000_001, 3 * MIB as u64 - 1..3 * MIB as u64] {
        let found = store.get_range(&path, range.clone()).await.unwrap();
        assert!(found == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    let several = [0..10, 2_000_000..2_000_010, 5..15];
    for (range, found) in several.iter().zip(store.get_ranges(&path, &several).await.unwrap()) {
        assert!(found == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    let last = GetOptions { range: Some(GetRange::Suffix(7)), ..GetOptions::default() };
    let last = store.get_opts(&path, last).await.unwrap().bytes().await.unwrap();
    assert!(last == bytes[bytes.len() - 7..]);
    store.get_range(&path, 3 * MIB as u64 + 1..3 * MIB as u64 + 2).await.expect_err("a range behind the end");
}

async fn odd_names(store: &dyn ObjectStore, root: &Path) {
    let long = "n".repeat(200);
    let names = [
        "a b",
        "100%",
        "%20",
        "a+b",
        "a&b=c",
        "a#b",
        "a?b",
        "it's",
        "\"quoted\"",
        "ü",
        "数据",
        "🚂",
        "(1)",
        "a,b;c",
        "a:b",
        "@",
        "~",
        "$x",
        ".hidden",
        "a..b",
        long.as_str(),
    ];
    for name in names {
        let path = root.clone().join(name);
        store.put(&path, name.as_bytes().to_vec().into()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read(store, &path).await, name.as_bytes(), "{name}");
    }
    let mut expected: Vec<Path> = names.into_iter().map(|name| root.clone().join(name)).collect();
    expected.sort();
    assert_eq!(self::names(store, root).await, expected);
    for path in expected {
        store.delete(&path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(self::names(store, root).await.is_empty());
}

async fn missing(store: &dyn ObjectStore, root: &Path) {
    let path = root.clone().join("none");
    assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.get_range(&path, 0..1).await, Err(Error::NotFound { .. })));
    let deleted = store.delete(&path).await;
    assert!(matches!(deleted, Ok(()) | Err(Error::NotFound { .. })), "{deleted:?}");
    assert!(names(store, root).await.is_empty());
    let listed = store.list_with_delimiter(Some(root)).await.unwrap();
    assert!(listed.objects.is_empty() && listed.common_prefixes.is_empty());
}

async fn folders(store: &dyn ObjectStore, root: &Path) {
    for name in ["10/manifest.json", "10/model", "9/model", "run.json", "10-x"] {
        store.put(&Path::from(format!("{root}/{name}")), PutPayload::from_static(b"x")).await.unwrap();
    }
    let listed = store.list_with_delimiter(Some(root)).await.unwrap();
    let objects: BTreeSet<_> = listed.objects.into_iter().map(|meta| meta.location).collect();
    let folders: BTreeSet<_> = listed.common_prefixes.into_iter().collect();
    assert_eq!(objects, ["10-x", "run.json"].map(|name| root.clone().join(name)).into());
    assert_eq!(folders, ["10", "9"].map(|name| root.clone().join(name)).into());
    let within = names(store, &root.clone().join("10")).await;
    assert_eq!(within.len(), 2, "a prefix ends at a folder's border: {within:?}");
}

async fn listing(store: &Arc<dyn ObjectStore>, root: &Path) {
    let path = |i: usize| root.clone().join(format!("{i:06}"));
    futures::stream::iter(0..MANY)
        .map(|i| {
            let (store, path) = (store.clone(), path(i));
            async move { store.put(&path, PutPayload::from_static(b"x")).await.map(drop) }
        })
        .buffer_unordered(64)
        .try_collect::<()>()
        .await
        .unwrap();
    assert_eq!(names(&**store, root).await.len(), MANY);
    let rest: Vec<_> = store.list_with_offset(Some(root), &path(MANY - 11)).try_collect().await.unwrap();
    assert_eq!(rest.len(), 10, "a listing can begin in the middle");
    let paths = futures::stream::iter((0..MANY).map(path).map(Ok).collect::<Vec<_>>()).boxed();
    store.delete_stream(paths).try_for_each(|_| async { Ok(()) }).await.unwrap();
    assert!(names(&**store, root).await.is_empty());
}
