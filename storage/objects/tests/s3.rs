//! S3's protocol, spoken by a real server. All in one test: the environment is the process's.

mod conformance;

use object_store::{Error, ObjectStoreExt as _};
use std::time::{Duration, Instant};
use trainctl_objects::{open, open_with};
use trainctl_test_servers::Seaweed;

#[expect(unsafe_code, reason = "the environment is changed while the process has one thread of its own")]
fn set(name: &str, value: Option<&str>) {
    // SAFETY: the test's runtimes run on this thread only, and none runs now.
    match value {
        Some(value) => unsafe { std::env::set_var(name, value) },
        None => unsafe { std::env::remove_var(name) },
    }
}

#[test]
fn s3_conforms() {
    let mut server = Seaweed::start();
    server.make_bucket("runs");
    for (name, value) in server.environment() {
        set(name, Some(&value));
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async {
        let (store, root) = open("s3://runs/some/prefix").unwrap();
        conformance::check(store, root).await;

        let (store, root) = open("s3://no-such-bucket/x").unwrap();
        let error = store.get(&root).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    });

    set("AWS_SECRET_ACCESS_KEY", Some("wrong"));
    runtime().block_on(async {
        let (store, root) = open("s3://runs/some/prefix").unwrap();
        let error = store.get(&root.clone().join("x")).await.unwrap_err();
        assert!(matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }), "{error}");
    });

    // A profile gives what the environment doesn't.
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment();
    let value = |name: &str| environment.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let profile = format!(
        "[profile spot]\nregion = us-east-1\nendpoint_url = {}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        value("AWS_ENDPOINT_URL_S3"),
        value("AWS_ACCESS_KEY_ID"),
        value("AWS_SECRET_ACCESS_KEY")
    );
    let file = folder.path().join("config");
    std::fs::write(&file, profile).unwrap();
    for name in ["AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        set(name, None);
    }
    set("AWS_CONFIG_FILE", Some(&file.display().to_string()));
    set("AWS_PROFILE", Some("spot"));
    runtime().block_on(async {
        let (store, root) = open("s3://runs/profile").unwrap();
        store.put(&root, "x".into()).await.unwrap();
        assert_eq!(store.get(&root).await.unwrap().bytes().await.unwrap(), "x");

        server.kill();
        let began = Instant::now();
        let (store, root) = open_with("s3://runs/profile", Duration::from_secs(2)).unwrap();
        let error = store.get(&root).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
    });
}
