//! What workers wrote, read from their log files: `<logs>/<job>/<worker>.log`. A worker that is gone has left its file.

mod follow;

pub(crate) use follow::{Follow, follow};

use coordinator_core::{JobId, WorkerId};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A worker's log file.
pub(crate) fn path(logs: &Path, job: &JobId, worker: &WorkerId) -> PathBuf {
    logs.join(&job.0).join(format!("{worker}.log"))
}

const LAST_LINES: usize = 12;
const LAST_BYTES: u64 = 4096;

/// The end of a log, to explain a death by. `None`: it can't be read or is empty.
pub(crate) async fn last_lines(path: PathBuf) -> Option<String> {
    tokio::task::spawn_blocking(move || read_last_lines(&path)).await.ok()?
}

fn read_last_lines(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).rev().take(LAST_LINES).collect();
    if length > LAST_BYTES && lines.len() < LAST_LINES {
        // The first was cut.
        lines.pop();
    }
    lines.reverse();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("w1.log");
        assert_eq!(read_last_lines(&path), None);
        std::fs::write(&path, "\n").expect("write");
        assert_eq!(read_last_lines(&path), None);
        let lines: Vec<String> = (0..40).map(|n| format!("line {n}")).collect();
        std::fs::write(&path, lines.join("\n")).expect("write");
        assert_eq!(read_last_lines(&path).expect("lines"), lines[28..].join("\n"));
        std::fs::write(&path, format!("{}\nlast\n", "x".repeat(5_000))).expect("write");
        assert_eq!(read_last_lines(&path).expect("lines"), "last");
    }
}
