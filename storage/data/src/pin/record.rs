//! What was learned of a bucket's objects when they were last read, kept in the local cache: an object whose version is
//! still the same is not read again, and an interrupted pinning goes on where it was.
//!
//! One file for each place and way of reading, a line of JSON for each object. It only saves time: what can't be read
//! or written is done without.

use super::find::Listed;
use crate::decode::Layout;
use crate::manifest::Role;
use crate::reader::Content;
use crate::survey::{Survey, Wanted};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What is known of one object.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    /// Below the root.
    stored: String,
    role: Option<Role>,
    version: String,
    pub(super) size: u64,
    pub(super) digest: String,
    pub(super) survey: Survey,
}

/// Those of one place.
pub(super) struct Record {
    known: HashMap<String, Known>,
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Record {
    /// The record of `root`, read in this way, in the cache's folder.
    pub(super) fn open(cache: &Path, root: &str, layout: &Layout, wanted: Wanted) -> Self {
        let layout = Layout { role: None, ..layout.clone() };
        let what = format!("trainctl pins 3 {} {root} {layout:?} {wanted:?}", env!("CARGO_PKG_VERSION"));
        let path = cache.join("pins").join(format!("{}.jsonl", blake3::hash(what.as_bytes()).to_hex()));
        let lines = File::open(&path).map(|file| BufReader::new(file).lines()).into_iter().flatten();
        // The last line may be half of one, after a crash.
        let known = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str::<Known>(&line).ok());
        let known = known.map(|known| (known.stored.clone(), known)).collect();
        Self { known, path, file: Mutex::new(None) }
    }

    /// What is known of an object that is still the same.
    pub(super) fn get(&self, listed: &Listed) -> Option<&Known> {
        let known = self.known.get(listed.source.stored())?;
        let same = listed.version.as_ref() == Some(&known.version) && listed.source.size == Some(known.size);
        (same && listed.role == known.role).then_some(known)
    }

    /// Notes what was just learned, where the store tells versions apart.
    pub(super) fn add(&self, listed: &Listed, content: &Content, survey: &Survey) {
        let Some(version) = content.version.clone() else { return };
        let known = Known {
            stored: listed.source.stored().to_owned(),
            role: listed.role,
            version,
            size: content.size,
            digest: content.digest.clone(),
            survey: survey.clone(),
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(&self.path, &mut file, &known) {
            tracing::debug!("{}: not noted: {error}", self.path.display());
        }
    }
}

fn append(path: &Path, file: &mut Option<File>, known: &Known) -> std::io::Result<()> {
    if file.is_none() {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let mut opened = OpenOptions::new().create(true).append(true).open(path)?;
        // Ends a line that a crash may have cut.
        opened.write_all(b"\n")?;
        *file = Some(opened);
    }
    let mut line = serde_json::to_vec(known)?;
    line.push(b'\n');
    if let Some(file) = file { file.write_all(&line) } else { Ok(()) }
}
