//! fake-gcs-server: the JSON interface of Google Cloud Storage over memory. It knows no credentials.

use crate::process::{Process, answers, free_port, http};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A running fake-gcs-server.
#[derive(Debug)]
pub struct FakeGcs {
    process: Option<Process>,
    folder: TempDir,
    port: u16,
}

impl FakeGcs {
    /// Starts one with nothing in it, and waits until it answers.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Self { process: None, folder: TempDir::new().expect("make a folder"), port: free_port() };
        let mut command = Command::new(crate::program("fake-gcs-server", "fake-gcs-server"));
        command.args(["-scheme=http", "-host=127.0.0.1", "-backend=memory", "-log-level=warn"]);
        // Google's client names the host without its port.
        command.args(["-public-host=127.0.0.1", &format!("-port={}", server.port)]);
        command.arg(format!("-external-url={}", server.endpoint()));
        let (log, port) = (server.log(), server.port);
        let mut process = Process::start(&mut command, &log);
        process.wait("fake-gcs-server", &log, || answers(port));
        server.process = Some(process);
        server
    }

    /// Ends it at once, with all that it held.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a process needs in its environment to use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("STORAGE_EMULATOR_HOST", self.endpoint())]
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When it refuses.
    pub fn make_bucket(&self, name: &str) {
        let answer = http(self.port, "POST", "/storage/v1/b?project=tests", &format!(r#"{{"name":"{name}"}}"#));
        assert!(answer.starts_with("HTTP/1.1 2"), "make bucket {name}: {answer}");
    }

    /// Where it writes what it does.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}
