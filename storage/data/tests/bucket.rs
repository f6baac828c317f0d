//! Data in buckets, on a real S3 server. All in one test: the environment is the process's.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use trainctl_data::{
    Base, DataError, Dataset, Finding, Manifest, PinOptions, Progress, check_sizes, manifest_digest, pin, pin_with,
    verify,
};
use trainctl_test_servers::Seaweed;

#[expect(unsafe_code, reason = "the environment is changed while nothing else of the process reads it")]
fn set(name: &str, value: &str) {
    // SAFETY: the test's own threads are joined, and the reader's runtime has no request under way.
    unsafe { std::env::set_var(name, value) };
}

/// Writes and removes objects behind the data set's back.
struct Bucket(tokio::runtime::Runtime);

impl Bucket {
    fn with<T>(&self, uri: &str, work: impl AsyncFnOnce(&dyn ObjectStore, object_store::path::Path) -> T) -> T {
        let (store, path) = trainctl_objects::open(uri).unwrap();
        self.0.block_on(work(&*store, path))
    }

    fn put(&self, uri: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.with(uri, async |store, path| store.put(&path, bytes.into()).await.unwrap());
    }

    fn delete(&self, uri: &str) {
        self.with(uri, async |store, path| store.delete(&path).await.unwrap());
    }

    /// Copies a folder's files below `uri`.
    fn put_folder(&self, folder: &Path, uri: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let target = format!("{uri}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.put_folder(&path, &target)
            } else {
                self.put(&target, std::fs::read(path).unwrap())
            }
        }
    }
}

fn features(data: &Dataset) -> Vec<f32> {
    let rows: Vec<u64> = (0..data.rows()).collect();
    let mut out = vec![f32::NAN; rows.len() * data.sample_elements()];
    data.fill_features(&rows, &mut out).unwrap();
    out
}

/// Pins, counting objects that were through.
fn pinned(uri: &str) -> (Manifest, u64) {
    let last = Mutex::new(Progress::default());
    let manifest = pin_with(uri, &PinOptions::default(), &|progress| *last.lock().unwrap() = progress);
    let last = last.into_inner().unwrap();
    assert_eq!((last.objects_done, last.bytes_done), (last.objects, last.bytes));
    (manifest.unwrap_or_else(|error| panic!("{uri}: {error}")), last.objects)
}

#[test]
fn data_lives_in_buckets() {
    let mut server = Seaweed::start();
    server.make_bucket("data");
    server.environment().iter().for_each(|(name, value)| set(name, value));
    let cache = tempfile::tempdir().unwrap();
    set("TRAINCTL_CACHE", cache.path().to_str().unwrap());
    let bucket = Bucket(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

    names_as_they_are(&bucket);
    wrong_data_stops_the_job(&bucket, cache.path());
    many_small_objects(&bucket);
    large_objects_come_in_pieces(&bucket);
    dvc_remotes(&bucket);

    let (manifest, _) = pinned("s3://data/names");
    let fetched = features(&Dataset::open(&manifest, "/").unwrap());
    set("AWS_SECRET_ACCESS_KEY", "wrong");
    let error = pin("s3://data/names", &PinOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::Store { .. }), "{error}");
    server.environment().iter().for_each(|(name, value)| set(name, value));
    server.kill();
    let began = Instant::now();
    let error = check_sizes(&manifest, "/").unwrap_err();
    assert!(matches!(error, DataError::Store { .. }) && began.elapsed() < Duration::from_secs(60), "{error}");
    // What this host has, it can train on with the store away.
    let data = Dataset::open(&manifest, "/").unwrap();
    assert_eq!(features(&data), fetched);
}

/// One object or all below a place; unicode, spaces, `%` and `#`; the manifest beside the data or elsewhere.
fn names_as_they_are(bucket: &Bucket) {
    bucket.put("s3://data/names/día 1/100% #a?.csv", "1,0\n2,1\n");
    bucket.put("s3://data/names/日本/b+c.csv", "3,0\n4,1\n");
    bucket.put("s3://data/names/README.txt", "not data");
    bucket.put("s3://data/namesake/x.csv", "9,0\n");
    let (manifest, _) = pinned("s3://data/names/");
    let paths: Vec<&str> = manifest.objects.iter().map(|object| object.path.as_str()).collect();
    assert_eq!(paths, ["día 1/100% #a?.csv", "日本/b+c.csv"]);
    assert!(manifest.objects.iter().all(|object| object.version.is_some()));
    assert_eq!((manifest.root.as_str(), manifest.name.as_str()), ("s3://data/names", "names"));

    let beside = "s3://data/names/it.manifest.json";
    let digest = manifest.write_to(beside).unwrap();
    let bytes = Manifest::fetch(beside).unwrap();
    let read = Manifest::parse(&bytes, beside).unwrap();
    assert_eq!((manifest_digest(&bytes), read.root.as_str()), (digest, "."));
    assert_eq!(pinned("s3://data/names").0, manifest, "a manifest is not data");
    check_sizes(&read, Base::of_manifest(beside)).unwrap();
    let data = Dataset::open(&read, Base::of_manifest(beside)).unwrap();
    assert_eq!(features(&data), [1.0, 2.0, 3.0, 4.0]);

    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("m.json").display().to_string();
    manifest.write_to(&file).unwrap();
    let read = Manifest::parse(&Manifest::fetch(&file).unwrap(), &file).unwrap();
    assert_eq!(read.root, "s3://data/names");
    assert!(verify(&read, Base::of_manifest(&file)).unwrap().iter().all(|report| report.finding == Finding::Whole));

    let (one, objects) = pinned("s3://data/names/日本/b+c.csv");
    assert_eq!((one.rows, objects, one.root.as_str()), (2, 1, "s3://data/names/日本"));
    let error = pin("s3://data/nothing", &PinOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "uri: expected an object, or objects below it, found none");
    let error = pin("s3://no-such-bucket/x", &PinOptions::default()).unwrap_err();
    assert!(error.to_string().contains("s3://no-such-bucket/x") || error.to_string().contains("found none"), "{error}");
    let missing = Manifest::fetch("s3://data/none.manifest.json").unwrap_err();
    assert!(matches!(missing, DataError::Missing { .. }), "{missing}");
}

fn wrong_data_stops_the_job(bucket: &Bucket, cache: &Path) {
    for name in ["a", "b", "c", "d"] {
        bucket.put(&format!("s3://data/faults/{name}.csv"), format!("{name}1,0\n", name = name.as_bytes()[0]));
    }
    let (manifest, _) = pinned("s3://data/faults");
    // As another host would: nothing is cached.
    std::fs::remove_dir_all(cache.join("rows")).unwrap();
    bucket.put("s3://data/faults/b.csv", "981,1\n");
    bucket.put("s3://data/faults/c.csv", "9");
    bucket.delete("s3://data/faults/d.csv");
    let data = Dataset::open(&manifest, "/").unwrap();
    let mut out = [0.0];
    data.fill_features(&[0], &mut out).unwrap();
    for (row, expected) in [
        (1, format!("s3://data/faults/b.csv: the data has changed: expected digest {}", manifest.objects[1].digest)),
        (2, "s3://data/faults/c.csv: the data has changed: expected size 6 bytes, found 1 bytes".to_owned()),
        (3, "s3://data/faults/d.csv: expected an object, found none".to_owned()),
    ] {
        let error = data.fill_features(&[row], &mut out).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
    let findings: Vec<Finding> = verify(&manifest, "/").unwrap().into_iter().map(|report| report.finding).collect();
    assert_eq!((&findings[0], &findings[3]), (&Finding::Whole, &Finding::Missing));
    assert!(matches!(check_sizes(&manifest, "/").unwrap_err(), DataError::Changed { what: "size", .. }));
    // Pinned again, only what is new is read; the digests say so.
    bucket.put("s3://data/faults/c.csv", "991,1\n");
    let (again, _) = pinned("s3://data/faults");
    assert_eq!(again.objects[0], manifest.objects[0]);
    assert_eq!(again.objects[1].digest, format!("blake3:{}", blake3::hash(b"981,1\n").to_hex()));
}

/// Ten thousand of them, more than ten pages of a listing; an interrupted pinning goes on where it was.
fn many_small_objects(bucket: &Bucket) {
    const MANY: usize = 10_000;
    bucket.with("s3://data/many", async |store, root| {
        let put = |i: usize| {
            let path = root.clone().join(format!("{i:05}.csv"));
            async move { store.put(&path, format!("{i},{}\n", i % 2).into()).await.map(drop) }
        };
        futures::stream::iter((0..MANY).map(put)).buffer_unordered(64).try_collect::<()>().await.unwrap();
    });
    bucket.put("s3://data/many/07000.csv", "broken");
    let error = pin("s3://data/many", &PinOptions::default()).unwrap_err();
    assert!(error.to_string().contains("s3://data/many/07000.csv"), "{error}");
    bucket.put("s3://data/many/07000.csv", "7000,0\n");
    let [first, second] = [(); 2].map(|()| {
        let began = Instant::now();
        let (manifest, objects) = pinned("s3://data/many");
        assert_eq!((manifest.rows, objects), (MANY as u64, MANY as u64));
        (manifest, began.elapsed())
    });
    assert_eq!(first.0, second.0);
    eprintln!("pinned 7,000 of 10,000 objects known in {:?}, all known in {:?}", first.1, second.1);
    let began = Instant::now();
    check_sizes(&first.0, "/").unwrap();
    eprintln!("asked for 10,000 sizes in {:?}", began.elapsed());
    let began = Instant::now();
    let data = Dataset::open(&first.0, "/").unwrap();
    assert!(features(&data).into_iter().eq((0..MANY).map(|i| i as f32)));
    eprintln!("read 10,000 objects in {:?}", began.elapsed());
}

/// More than one piece, and a last one of one byte.
fn large_objects_come_in_pieces(bucket: &Bucket) {
    let text: Vec<u8> = (0..(9_u32 << 20) + 1).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    bucket.put("s3://data/large.txt", text.clone());
    let (manifest, _) = pinned("s3://data/large.txt");
    assert_eq!(manifest.objects[0].digest, format!("blake3:{}", blake3::hash(&text).to_hex()));
    let data = Dataset::open(&manifest, "/").unwrap();
    let window = data.windows(100) - 1;
    let mut tokens = [0; 101];
    data.fill_tokens(&[window], 100, &mut tokens).unwrap();
    let start = window as usize * 100;
    assert!(tokens.iter().zip(&text[start..]).all(|(&token, &byte)| token == i64::from(byte)));
    bucket.put("s3://data/empty.txt", "");
    let error = pin("s3://data/empty.txt", &PinOptions::default()).unwrap_err();
    assert!(error.to_string().contains("expected at least one row, found none"), "{error}");
}

/// A DVC remote, copied into a bucket as `dvc push` lays it out there.
fn dvc_remotes(bucket: &Bucket) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dvc");
    bucket.put_folder(&fixture.join("remote"), "s3://data/dvc/store");
    let repository = tempfile::tempdir().unwrap();
    std::fs::create_dir(repository.path().join(".dvc")).unwrap();
    let config = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://data/dvc/store\n";
    std::fs::write(repository.path().join(".dvc/config"), config).unwrap();
    std::fs::copy(fixture.join("repository/days.dvc"), repository.path().join("days.dvc")).unwrap();
    let (manifest, _) = pinned(repository.path().join("days.dvc").to_str().unwrap());
    assert_eq!(manifest.root, "s3://data/dvc/store");
    assert_eq!(features(&Dataset::open(&manifest, "/").unwrap()), [3.0, 1.0, 2.0]);
}
