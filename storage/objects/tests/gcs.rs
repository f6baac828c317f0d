//! Google Cloud Storage's protocol, spoken by an emulator.
#![cfg(feature = "gcs")]

mod conformance;

use object_store::{Error, ObjectStoreExt as _};
use std::time::{Duration, Instant};
use trainctl_objects::{open, open_with};
use trainctl_test_servers::FakeGcs;

#[expect(unsafe_code, reason = "the environment is changed while the process has one thread of its own")]
fn set(name: &str, value: &str) {
    // SAFETY: the test's runtime runs on this thread only, and was not made yet.
    unsafe { std::env::set_var(name, value) };
}

#[test]
fn gcs_conforms() {
    let mut server = FakeGcs::start();
    server.make_bucket("runs");
    for (name, value) in server.environment() {
        set(name, &value);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (store, root) = open("gs://runs/some/prefix").unwrap();
        conformance::check(store, root).await;

        let (store, root) = open("gs://no-such-bucket/x").unwrap();
        let error = store.get(&root).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");

        server.kill();
        let began = Instant::now();
        let (store, root) = open_with("gs://runs/x", Duration::from_secs(2)).unwrap();
        let error = store.get(&root).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
    });
}
