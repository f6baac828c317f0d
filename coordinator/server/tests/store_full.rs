//! A process whose store can't grow any more: it is told, it comes to its end, and all that was acknowledged is there.

use coordinator_core::Record;
use coordinator_server::{SledStore, Store, StoreError};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "STORE_FULL_FOLDER";
const END_WITHIN: Duration = Duration::from_secs(60);

/// The child: commits until it can't, closes the store and ends.
#[test]
#[ignore = "run by the test below, as a process"]
fn child() {
    let folder = std::env::var(FOLDER).expect("a folder");
    let store = SledStore::open(Path::new(&folder)).expect("open");
    let noise =
        |n: u64| (0..30_000).map(move |i: u64| ((i + n * 7_919).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8);
    let mut acknowledged = 0;
    let error = loop {
        let value = Some(noise(acknowledged).collect());
        match store.commit(&[Record { key: format!("key/{acknowledged:04}"), value }]) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Write { .. }) && error.to_string().contains("\nhint: "), "{error}");
    store.close().expect("an end");
    std::fs::write(Path::new(&folder).join("../acknowledged"), acknowledged.to_string()).expect("write");
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("temp folder");
    let path = folder.path().join("db");
    // A file may hold 2 MiB; without the signal a write beyond that fails as one to a full disk does.
    let mut process = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact child --ignored"])
        .arg(std::env::current_exe().expect("this program"))
        .env(FOLDER, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the child");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().expect("wait") {
            break status;
        }
        if began.elapsed() > END_WITHIN {
            process.kill().and_then(|()| process.wait()).expect("kill");
            panic!("a process whose store is full did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(folder.path().join("acknowledged")).expect("read");
    let acknowledged: usize = text.parse().expect("a number");
    let found = SledStore::open(&path).expect("open").with_prefix("key/").expect("read").len();
    assert!(acknowledged > 0 && (acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
}
