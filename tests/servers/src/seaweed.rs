//! SeaweedFS with its S3 door: checks signatures and checksums, and its conditional puts are atomic.

use crate::process::{Process, answers, free_port, http};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const KEY_ID: &str = "AKIATESTTESTTEST";
const SECRET: &str = "only-for-tests";
/// Of the same rights.
const SECOND_KEY_ID: &str = "AKIATESTSECONDKEY";

/// A running SeaweedFS.
#[derive(Debug)]
pub struct Seaweed {
    process: Option<Process>,
    folder: TempDir,
    ports: Ports,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    master: u16,
    volume: u16,
    filer: u16,
    s3: u16,
    /// Of master, volume, filer and S3.
    grpc: [u16; 4],
}

impl Seaweed {
    /// Starts one with nothing in it, and waits until it takes objects.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("make a folder");
        let identity = format!(
            r#"{{"identities":[{{"name":"tests","credentials":[{{"accessKey":"{KEY_ID}","secretKey":"{SECRET}"}},
                {{"accessKey":"{SECOND_KEY_ID}","secretKey":"{SECRET}"}}],
                "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(folder.path().join("s3.json"), identity).expect("write the identities");
        std::fs::create_dir(folder.path().join("data")).expect("make a folder");
        let ports = Ports {
            master: free_port(),
            volume: free_port(),
            filer: free_port(),
            s3: free_port(),
            grpc: [free_port(), free_port(), free_port(), free_port()],
        };
        let mut server = Self { process: None, folder, ports };
        server.resume();
        server
    }

    /// Starts it again after [`Seaweed::kill`], with what it held, on the same port.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn resume(&mut self) {
        let Ports { master, volume, filer, s3, grpc } = self.ports;
        let folder = self.folder.path();
        let mut command = Command::new(crate::program("seaweedfs", "weed"));
        command.current_dir(folder).args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        command.args(["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]);
        command.args(["-volume.max=1000", "-master.volumeSizeLimitMB=1024", "-master.defaultReplication=000"]);
        command.arg(format!("-dir={}", folder.join("data").display()));
        command.arg(format!("-s3.config={}", folder.join("s3.json").display()));
        for (option, port) in [("master.port", master), ("volume.port", volume), ("filer.port", filer), ("s3.port", s3)]
        {
            command.arg(format!("-{option}={port}"));
        }
        for (option, port) in ["master", "volume", "filer", "s3"].iter().zip(grpc) {
            command.arg(format!("-{option}.port.grpc={port}"));
        }
        for socket in ["filer", "s3"] {
            command.arg(format!("-{socket}.localSocket={}", folder.join(format!("{socket}.sock")).display()));
        }
        let log = self.log();
        let mut process = Process::start(&mut command, &log);
        process.wait("SeaweedFS", &log, || answers(s3) && takes_objects(filer));
        self.process = Some(process);
    }

    /// Ends it at once. Its port refuses connections until [`Seaweed::resume`].
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Of its main process.
    ///
    /// # Panics
    /// When it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("running").id()
    }

    /// Its S3 endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3)
    }

    /// What a process needs in its environment to use it, as the AWS tools read it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_S3", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// Another access key and its secret, with the rights of those in [`Seaweed::environment`].
    #[must_use]
    pub fn second_identity(&self) -> (String, String) {
        (SECOND_KEY_ID.to_owned(), SECRET.to_owned())
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When it refuses.
    pub fn make_bucket(&self, name: &str) {
        // A bucket is a folder of the filer, whose own door needs no signature.
        let answer = http(self.ports.filer, "POST", &format!("/buckets/{name}/"), "");
        assert!(answer.starts_with("HTTP/1.1 2"), "make bucket {name}: {answer}");
    }

    /// Puts an object of text, past the S3 door.
    ///
    /// # Panics
    /// When it refuses.
    pub fn put_text(&self, bucket: &str, path: &str, text: &str) {
        let answer = http(self.ports.filer, "PUT", &format!("/buckets/{bucket}/{path}"), text);
        assert!(answer.starts_with("HTTP/1.1 2"), "put {bucket}/{path}: {answer}");
    }

    /// Where it writes what it does.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The filer answers before there is a volume to write to; a small file shows that there is one.
fn takes_objects(filer: u16) -> bool {
    answers(filer) && http(filer, "PUT", "/ready/mark", "x").starts_with("HTTP/1.1 201")
}
