//! Servers that speak a part of S3's protocol only, and credentials that end. All in one test: the environment is the
//! process's.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trainctl_objects::{Conditions, check_conditions, open_with};
use trainctl_test_servers::{S3Fault, S3Faults, Seaweed};

/// How long requests are tried again: what a server refuses must be found out long before.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

#[expect(unsafe_code, reason = "the environment is changed while the process has one thread of its own")]
fn set(name: &str, value: Option<&str>) {
    // SAFETY: the test's runtimes run on this thread only, and none runs now.
    match value {
        Some(value) => unsafe { std::env::set_var(name, value) },
        None => unsafe { std::env::remove_var(name) },
    }
}

fn write_credentials(file: &std::path::Path, key: &str, secret: &str) {
    let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    std::fs::write(file, text).unwrap();
}

#[test]
fn lesser_servers_and_renewed_credentials() {
    let server = Seaweed::start();
    server.make_bucket("runs");
    let faults = S3Faults::before(&server.endpoint());
    for (name, value) in server.environment() {
        set(name, Some(&value));
    }
    set("AWS_ENDPOINT_URL_S3", Some(&faults.endpoint()));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async {
        deletes_without_checksum_headers(&faults).await;
        conditional_puts_are_refused_at_once(&faults).await;
        nothing_is_read_again_for_a_plain_refusal(&faults).await;
    });

    // From here on the credentials are in a file, as tools that renew them leave it.
    let (old, new) = (server.environment(), server.second_identity());
    let value = |name: &str| old.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    set("AWS_SHARED_CREDENTIALS_FILE", Some(&file.display().to_string()));
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        set(name, None);
    }
    let old_key = value("AWS_ACCESS_KEY_ID");
    write_credentials(&file, &old_key, &value("AWS_SECRET_ACCESS_KEY"));
    runtime().block_on(async {
        let (store, root) = open_with("s3://runs/renewed", RETRY_TIMEOUT).unwrap();
        put_all(&store, &root, 3).await;
        write_credentials(&file, &new.0, &new.1);
        faults.set(&[S3Fault::ExpiredKey(old_key)]);
        let began = Instant::now();
        // Each kind of request is the first with the old ones in a store of its own.
        assert_eq!(store.get(&root.clone().join("1")).await.unwrap().bytes().await.unwrap(), "x");
        let listed: Vec<_> = store.list(Some(&root)).try_collect().await.unwrap();
        assert_eq!(listed.len(), 3);
        delete_all(&store, &root).await;
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let refused = faults.take_log().iter().filter(|(_, status)| *status == 400).count();
        assert_eq!(refused, 1, "after one refusal the new ones are used");
    });
}

async fn put_all(store: &Arc<dyn ObjectStore>, root: &Path, count: usize) {
    for i in 0..count {
        store.put(&root.clone().join(i.to_string()), "x".into()).await.unwrap();
    }
}

async fn delete_all(store: &Arc<dyn ObjectStore>, root: &Path) {
    let paths: Vec<_> = store.list(Some(root)).map_ok(|meta| meta.location).try_collect().await.unwrap();
    let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
    store.delete_stream(paths).try_for_each(|_| async { Ok(()) }).await.unwrap();
    assert!(store.list(Some(root)).next().await.is_none());
}

async fn deletes_without_checksum_headers(faults: &S3Faults) {
    let (store, root) = open_with("s3://runs/deletes", RETRY_TIMEOUT).unwrap();
    faults.set(&[S3Fault::NoChecksums]);
    for _ in 0..2 {
        put_all(&store, &root, 5).await;
        delete_all(&store, &root).await;
    }
    let refused = faults.take_log().iter().filter(|(_, status)| *status == 501).count();
    assert_eq!(refused, 1, "it is asked once");
    faults.set(&[]);
}

async fn conditional_puts_are_refused_at_once(faults: &S3Faults) {
    let (store, root) = open_with("s3://runs/conditions", RETRY_TIMEOUT).unwrap();
    assert_eq!(check_conditions(&*store, &root).await.unwrap(), Conditions::Kept);
    faults.set(&[S3Fault::NoConditions]);
    let began = Instant::now();
    let found = check_conditions(&*store, &root).await.unwrap();
    assert!(matches!(&found, Conditions::NotImplemented(message) if message.contains("functionality")), "{found:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    faults.set(&[S3Fault::IgnoresConditions]);
    assert_eq!(check_conditions(&*store, &root).await.unwrap(), Conditions::Ignored);
    faults.set(&[S3Fault::ReadOnly]);
    let error = check_conditions(&*store, &root).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
    faults.set(&[]);
    assert!(store.list(Some(&root)).next().await.is_none(), "nothing is left of the probes");
}

async fn nothing_is_read_again_for_a_plain_refusal(faults: &S3Faults) {
    let (store, root) = open_with("s3://runs/read-only", RETRY_TIMEOUT).unwrap();
    faults.set(&[S3Fault::ReadOnly]);
    let _ = faults.take_log();
    let error = store.put(&root, "x".into()).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
    assert_eq!(faults.take_log().len(), 1, "the same credentials are not tried twice");
    faults.set(&[]);
}
