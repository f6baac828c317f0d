//! What a folder of files may look like a data set and not be: tables whose columns are in the names of folders, table
//! formats of many files, the same file twice, files that are not read or were never fetched.

use super::names::{format_of, is_underscored, may_hold_data, unzipped, without_unread};
use crate::error::DataError;
use crate::manifest::Format;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Table formats that keep a log of which of their files count, by a name of a folder.
const LOGGED: [(&str, &str); 6] = [
    ("_delta_log", "a Delta table"),
    (".hoodie", "a Hudi table"),
    ("_spark_metadata", "an output of Spark's streaming, which keeps a list of its files"),
    ("_temporary", "an unfinished output of Spark or Hadoop"),
    ("_versions", "a Lance data set"),
    ("_transactions", "a Lance data set"),
];
/// What ends the name of a file that stands for one that DVC keeps elsewhere.
const DVC_POINTER: &str = ".dvc";

/// What is refused of a folder, named in messages.
pub(super) struct Refusals<'a>(pub(super) &'a str);

impl Refusals<'_> {
    /// Tables with a log of their own: which of their files count is not told by their names. `paths` are all files.
    pub(super) fn logged<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Result<(), DataError> {
        for path in paths {
            let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
            let logged = LOGGED.iter().find(|(folder, _)| folders.split('/').any(|part| part == *folder));
            let is_iceberg = folders.split('/').next_back() == Some("metadata")
                && (name.ends_with(".metadata.json") || name == "version-hint.text");
            if let Some(found) = logged.map(|(_, found)| *found).or(is_iceberg.then_some("an Iceberg table")) {
                return Err(self.table(path, found));
            }
        }
        Ok(())
    }

    /// The same for a folder within such a table.
    pub(super) fn within_logged(&self, folder: &Path) -> Result<(), DataError> {
        for above in folder.ancestors().skip(1) {
            if let Some((log, found)) = LOGGED.iter().find(|(log, _)| above.join(log).is_dir()) {
                return Err(self.table(&above.join(log).display().to_string(), found));
            }
        }
        // Only its own folder `data`: `metadata` alone is a common name.
        let metadata = folder.parent().filter(|_| folder.ends_with("data")).map(|above| above.join("metadata"));
        let files = metadata.into_iter().flat_map(std::fs::read_dir).flatten().flatten();
        match files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(".metadata.json")) {
            Some(path) => Err(self.table(&path.display().to_string(), "an Iceberg table")),
            None => Ok(()),
        }
    }

    fn table(&self, path: &str, found: &str) -> DataError {
        let hint = "write the table's rows to Parquet files with the tool that made it, and pin those";
        self.of(path, "files that are all part of the data", found, hint)
    }

    /// Files of DVC that stand for others which are not there. `paths` are all files.
    pub(super) fn unfetched<'p>(&self, paths: impl Iterator<Item = &'p str> + Clone) -> Result<(), DataError> {
        let mut there: Option<BTreeSet<&str>> = None;
        for path in paths.clone() {
            let Some(tracked) = path.strip_suffix(DVC_POINTER).filter(|tracked| may_hold_data(tracked)) else {
                continue;
            };
            let there = there.get_or_insert_with(|| {
                let with_folders = |path: &'p str| {
                    let ends = path.match_indices('/').map(|(at, _)| &path[..at]);
                    ends.chain([path]).collect::<Vec<_>>()
                };
                paths.clone().flat_map(with_folders).collect()
            });
            if !there.contains(tracked) {
                let hint = format!("`dvc pull` fetches it, or pin {path} itself");
                return Err(self.of(path, &format!("{tracked} beside it"), "none", &hint));
            }
        }
        Ok(())
    }

    /// Files of `format`, or of any, in a compression that is not read, where they are not there without it as well.
    pub(super) fn unread<'p>(
        &self,
        paths: impl Iterator<Item = &'p str> + Clone,
        format: Option<Format>,
    ) -> Result<(), DataError> {
        for path in paths.clone() {
            let Some((plain, compression)) = without_unread(path) else { continue };
            let found = format_of(plain);
            let is_wanted = found.is_some() && format.is_none_or(|format| Some(format) == found);
            let is_twin = || paths.clone().any(|other| other == plain || unzipped(other) == *plain);
            if is_wanted && !is_twin() {
                return Err(self.of(path, "files as they are, or in gzip", compression, "unpack it, or use gzip"));
            }
        }
        Ok(())
    }

    /// Objects that are the same data twice, that other tools leave alone, and tables with columns in the names of
    /// their folders. `paths` are those of the format that is read.
    pub(super) fn objects<'p>(
        &self,
        paths: impl Iterator<Item = &'p str> + Clone,
        format: Format,
    ) -> Result<(), DataError> {
        let mut twins = BTreeMap::new();
        for path in paths.clone() {
            if let Some(other) = twins.insert(unzipped(path), path) {
                let hint = "pin one of them, or move the other elsewhere";
                return Err(self.of(path, "each file once", &format!("{other} beside it"), hint));
            }
        }
        if let Some(path) = paths.clone().find(|path| is_underscored(path)) {
            let hint = "name it otherwise if it is data, or move it elsewhere";
            return Err(self.of(
                path,
                "names that don't begin with `_`",
                "one that Spark and pyarrow leave alone",
                hint,
            ));
        }
        if !matches!(format, Format::Csv | Format::Parquet) {
            return Ok(());
        }
        for path in paths {
            let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
            if let Some((column, partition)) = folders.split('/').find_map(partition) {
                let found = format!("the column {column} in the folder's name {partition}");
                let hint = "write the column into the files, or pin one such folder alone";
                return Err(self.of(path, "all columns in the files", &found, hint));
            }
        }
        Ok(())
    }

    fn of(&self, path: &str, expected: &str, found: &str, hint: &str) -> DataError {
        DataError::Malformed {
            object: self.0.to_owned(),
            place: path.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            hint: Some(hint.into()),
        }
    }
}

/// The column and the whole of a folder's name `column=value`, as Hive and Spark name folders; the column may be
/// written with percent signs.
pub(super) fn partition(folder: &str) -> Option<(&str, &str)> {
    folder.split_once('=').map(|(column, _)| (column, folder)).filter(|(column, _)| !column.is_empty())
}
