//! A SeaweedFS for a bench, started by an example of the crate that tests have theirs from: so this program needs none
//! of what that crate needs.

use super::programs::build;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program that starts one.
pub(crate) struct Server(PathBuf);

/// A running one, which ends with this.
pub(crate) struct Bucket {
    child: Child,
    environment: BTreeMap<String, String>,
}

impl Server {
    /// Builds it.
    pub(crate) fn build() -> Result<Self> {
        build(&["build", "-p", "trainctl-test-servers", "--example", "seaweed"], "seaweed").map(Self)
    }

    /// Starts one with this bucket and these objects in it, each from a file of text.
    pub(crate) fn start(&self, bucket: &str, objects: &[(&str, &Path)]) -> Result<Bucket> {
        let mut command = Command::new(&self.0);
        command.arg(bucket);
        command.args(objects.iter().map(|(path, file)| format!("{bucket}/{path}={}", file.display())));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a server for buckets")?;
        let output = child.stdout.take().context("read what the server for buckets says")?;
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let mut bucket = Bucket { child, environment: BTreeMap::new() };
        read.context("read what the server for buckets says")?;
        bucket.environment = serde_json::from_str(&line).context("SeaweedFS didn't start")?;
        Ok(bucket)
    }
}

impl Bucket {
    /// What a process needs to use it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone().into_iter().collect()
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        self.environment.get("AWS_ENDPOINT_URL_S3").map_or("", String::as_str)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // The end of its input ends it, and the server that it started with it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
