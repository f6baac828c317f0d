//! Follows the logs of a job: all its workers' files, also those that appear later, merged by worker and cut at line
//! ends, so that two workers' lines never mix.

use super::path;
use coordinator_core::{JobId, WorkerId};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of one piece; a longer line is cut.
const PIECE_MAX: usize = 32 << 10;
/// Bytes read of one file before the others have their turn.
const TURN_MAX: u64 = 256 << 10;

/// What to follow.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    pub(crate) logs: PathBuf,
    pub(crate) job: JobId,
    /// Only this worker.
    pub(crate) worker: Option<WorkerId>,
    /// Of what is there at the start only the last lines of each worker; 0: all.
    pub(crate) tail: usize,
}

/// Whole lines of one worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) worker: String,
    pub(crate) text: Vec<u8>,
}

/// Where the reading of each file stands.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    at: BTreeMap<Key, u64>,
    started: bool,
}

/// Workers in the order of their launch: `w2` before `w10`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    length: usize,
    worker: String,
}

/// Starts before the first line.
pub(crate) fn follow() -> Follower {
    Follower::default()
}

impl Follower {
    /// What was written since the last call, up to a bound; empty when there is nothing new. `to_the_end` also gives a
    /// last line that has no end yet.
    pub(crate) fn read(&mut self, what: &Follow, to_the_end: bool) -> io::Result<Vec<Piece>> {
        for worker in files(what)? {
            let key = Key { length: worker.len(), worker };
            if !self.at.contains_key(&key) {
                let file = path(&what.logs, &what.job, &WorkerId::from(key.worker.as_str()));
                let start = if self.started || what.tail == 0 { 0 } else { tail_start(&file, what.tail)? };
                self.at.insert(key, start);
            }
        }
        self.started = true;
        let mut pieces = Vec::new();
        for (key, at) in &mut self.at {
            let file = path(&what.logs, &what.job, &WorkerId::from(key.worker.as_str()));
            let text = read_lines(&file, *at, to_the_end)?;
            *at += text.len() as u64;
            pieces.extend(cut(&text).map(|text| Piece { worker: key.worker.clone(), text: text.to_vec() }));
        }
        Ok(pieces)
    }
}

fn files(what: &Follow) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(what.logs.join(&what.job.0)) {
        Ok(entries) => entries,
        // No worker was started yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut workers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let worker = name.to_str().and_then(|name| name.strip_suffix(".log"));
        workers.extend(
            worker.filter(|worker| what.worker.as_ref().is_none_or(|wanted| wanted.0 == *worker)).map(str::to_owned),
        );
    }
    Ok(workers)
}

/// Where the last so many lines begin.
fn tail_start(file: &Path, lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut file = std::fs::File::open(file)?;
    let length = file.metadata()?.len();
    let mut ends = 0;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        (&mut file).take(end - start).read_to_end(&mut block)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let at = start + index as u64;
            // The end of the last line does not begin another.
            if *byte == b'\n' && at + 1 < length {
                ends += 1;
                if ends == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

fn read_lines(file: &Path, at: u64, to_the_end: bool) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(file)?;
    file.seek(SeekFrom::Start(at))?;
    let mut text = Vec::new();
    file.take(TURN_MAX).read_to_end(&mut text)?;
    let full = text.len() as u64 == TURN_MAX;
    match text.iter().rposition(|byte| *byte == b'\n') {
        Some(last) if full || !to_the_end => text.truncate(last + 1),
        None if !full && !to_the_end => text.clear(),
        Some(_) | None => {}
    }
    Ok(text)
}

/// At line ends where there are any.
fn cut(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let end = match text.get(..PIECE_MAX) {
            Some(most) => most.iter().rposition(|byte| *byte == b'\n').map_or(PIECE_MAX, |last| last + 1),
            None => text.len(),
        };
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Bench {
        folder: tempfile::TempDir,
        what: Follow,
    }

    impl Bench {
        fn new(worker: Option<&str>, tail: usize) -> Self {
            let folder = tempfile::tempdir().expect("temp folder");
            let logs = folder.path().to_owned();
            let what = Follow { logs, job: JobId::from("job"), worker: worker.map(WorkerId::from), tail };
            Self { folder, what }
        }

        fn write(&self, worker: &str, text: &str) {
            let folder = self.folder.path().join("job");
            std::fs::create_dir_all(&folder).expect("make the folder");
            let path = folder.join(format!("{worker}.log"));
            let mut file = std::fs::File::options().create(true).append(true).open(path).expect("open");
            file.write_all(text.as_bytes()).expect("write");
        }

        fn read(&self, follower: &mut Follower, to_the_end: bool) -> Vec<(String, String)> {
            let pieces = follower.read(&self.what, to_the_end).expect("read");
            pieces.into_iter().map(|piece| (piece.worker, String::from_utf8(piece.text).expect("text"))).collect()
        }
    }

    fn said(worker: &str, text: &str) -> (String, String) {
        (worker.to_owned(), text.to_owned())
    }

    #[test]
    fn whole_lines_as_they_come_by_worker_in_launch_order() {
        let bench = Bench::new(None, 0);
        let mut follower = follow();
        assert_eq!(bench.read(&mut follower, false), []);
        bench.write("w10", "a\n");
        bench.write("w2", "b\nhal");
        assert_eq!(bench.read(&mut follower, false), [said("w2", "b\n"), said("w10", "a\n")]);
        assert_eq!(bench.read(&mut follower, false), []);
        bench.write("w2", "f\n");
        bench.write("w11", "new");
        assert_eq!(bench.read(&mut follower, false), [said("w2", "half\n")]);
        assert_eq!(bench.read(&mut follower, true), [said("w11", "new")]);
        assert_eq!(bench.read(&mut follower, true), []);
    }

    #[test]
    fn the_tail_holds_for_what_was_there_at_the_start() {
        let bench = Bench::new(None, 2);
        bench.write("w1", "1\n2\n3\n");
        bench.write("w2", "1\n2\n3");
        bench.write("w3", "1\n");
        let mut follower = follow();
        assert_eq!(bench.read(&mut follower, true), [said("w1", "2\n3\n"), said("w2", "2\n3"), said("w3", "1\n")]);
        bench.write("w4", "1\n2\n3\n");
        assert_eq!(bench.read(&mut follower, true), [said("w4", "1\n2\n3\n")]);
    }

    #[test]
    fn one_worker_only() {
        let bench = Bench::new(Some("w2"), 0);
        bench.write("w1", "1\n");
        bench.write("w2", "2\n");
        assert_eq!(bench.read(&mut follow(), true), [said("w2", "2\n")]);
    }

    #[test]
    fn long_logs_come_in_bounded_pieces_and_lose_nothing() {
        let bench = Bench::new(None, 0);
        let text: String = (0..60_000).map(|n| format!("line {n}\n")).chain(["x".repeat(100_000)]).collect();
        bench.write("w1", &text);
        let mut follower = follow();
        let mut all = String::new();
        loop {
            let pieces = bench.read(&mut follower, true);
            if pieces.is_empty() {
                break;
            }
            assert!(pieces.iter().all(|(_, piece)| piece.len() <= PIECE_MAX));
            all.extend(pieces.into_iter().map(|(_, piece)| piece));
        }
        assert!(all == text);
    }
}
