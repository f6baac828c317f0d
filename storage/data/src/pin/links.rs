//! Links and other things in a folder that are no files: those to files that are not there, which git-annex and DVC
//! leave for what was not fetched, and those by which the same files are there twice.

use super::names::{is_aside, may_hold_data};
use crate::error::DataError;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Refuses a folder in which not all that looks like data is a file, once.
pub(super) fn check_links(folder: &Path) -> Result<(), DataError> {
    let root = folder.canonicalize().map_err(|source| failed(folder, source))?;
    Walk { seen: BTreeSet::from([root]) }.walk(folder)
}

struct Walk {
    /// The folder itself, and those that links led to.
    seen: BTreeSet<PathBuf>,
}

impl Walk {
    fn walk(&mut self, folder: &Path) -> Result<(), DataError> {
        for entry in std::fs::read_dir(folder).map_err(|source| failed(folder, source))? {
            let entry = entry.map_err(|source| failed(folder, source))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|source| failed(&path, source))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_aside(&name) || kind.is_file() {
                continue;
            }
            if kind.is_dir() {
                self.walk(&path)?;
            } else if kind.is_symlink() {
                if may_hold_data(&name) {
                    check_link(&path)?;
                }
                if path.is_dir() {
                    self.follow(&path)?;
                }
            } else if may_hold_data(&name) {
                return Err(refused(&path, "kind", "a file", "a pipe, a socket or a device", "move it elsewhere"));
            }
        }
        Ok(())
    }

    fn follow(&mut self, link: &Path) -> Result<(), DataError> {
        let target = link.canonicalize().map_err(|source| failed(link, source))?;
        if self.seen.iter().any(|seen| target.starts_with(seen) || seen.starts_with(&target)) {
            let found = format!("a link to {}, whose files are there already", target.display());
            let hint = "pin the folder that it leads to, or remove the link";
            return Err(refused(link, "link", "each file once", &found, hint));
        }
        self.seen.insert(target);
        self.walk(link)
    }
}

/// Refuses a link to a file that is not there.
pub(super) fn check_link(path: &Path) -> Result<(), DataError> {
    match std::fs::read_link(path) {
        Ok(target) if !path.exists() => {
            let found = format!("a link to {}, which is not there", target.display());
            Err(refused(path, "link", "a file", &found, "`git annex get` or `dvc pull` brings what was not fetched"))
        }
        _ => Ok(()),
    }
}

fn refused(path: &Path, place: &str, expected: &str, found: &str, hint: &str) -> DataError {
    DataError::Malformed {
        object: path.display().to_string(),
        place: place.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        hint: Some(hint.into()),
    }
}

fn failed(path: &Path, source: io::Error) -> DataError {
    DataError::File { path: path.display().to_string(), done: "read", source }
}
