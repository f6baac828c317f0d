//! The store on disk: sled, in one folder.
//!
//! sled 0.34 calls a batch flushed when `sync_file_range` returns, which neither writes the file's length nor empties the
//! disk's own cache, and it never syncs the files that it puts large pages into. So a commit here also syncs those files
//! and the log itself before it is acknowledged.

use super::{Store, StoreError};
use coordinator_core::Record;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Much more than all records of many jobs take.
const CACHE_BYTES: u64 = 16 << 20;
/// How long the threads of a closed sled may take to let go of its file.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Records in a folder.
pub struct SledStore {
    path: PathBuf,
    open: Mutex<Option<Open>>,
}

struct Open {
    db: sled::Db,
    log: File,
    /// Files of large pages that are known to be on disk.
    synced: BTreeSet<OsString>,
    /// A commit failed: sled would wait for ever for what it can't write, were it closed in order.
    failed: bool,
}

impl SledStore {
    /// Opens the store in this folder, which is made if it is not there.
    ///
    /// # Errors
    /// Another process holds it, or it can't be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open { path: path.to_owned(), source };
        // Its flushing thread is also what gives back the space of records that were written over.
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).mode(sled::Mode::LowSpace);
        let db = match config.open() {
            Ok(db) => db,
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                return Err(StoreError::InUse { path: path.to_owned() });
            }
            Err(error) => return Err(failed(Box::new(error))),
        };
        let log = File::open(path.join("db")).map_err(|error| failed(Box::new(error)))?;
        let open = Open { db, log, synced: BTreeSet::new(), failed: false };
        sync_folder(path).and_then(|()| path.parent().map_or(Ok(()), sync_folder)).map_err(|e| failed(Box::new(e)))?;
        Ok(Self { path: path.to_owned(), open: Mutex::new(Some(open)) })
    }

    fn with_open<T>(
        &self,
        wrong: impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> StoreError,
        work: impl FnOnce(&mut Open) -> Result<T, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<T, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.as_mut() {
            Some(open) => work(open).map_err(wrong),
            None => Err(wrong("it is closed".into())),
        }
    }
}

impl Store for SledStore {
    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let wrong = |source| StoreError::Read { path: self.path.clone(), source };
        let pairs = self.with_open(wrong, |open| {
            Ok(open.db.scan_prefix(prefix).collect::<Result<Vec<(sled::IVec, sled::IVec)>, _>>()?)
        })?;
        pairs
            .into_iter()
            .map(|(key, value)| {
                let key = String::from_utf8(key.to_vec())
                    .map_err(|error| StoreError::Key { path: self.path.clone(), found: error.into_bytes() })?;
                Ok((key, value.to_vec()))
            })
            .collect()
    }

    fn commit(&self, batch: &[Record]) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for record in batch {
            match &record.value {
                Some(value) => writes.insert(record.key.as_bytes(), value.as_slice()),
                None => writes.remove(record.key.as_bytes()),
            }
        }
        let wrong = |source| StoreError::Write { path: self.path.clone(), source };
        self.with_open(wrong, |open| {
            let outcome = open.write(writes, &self.path);
            open.failed |= outcome.is_err();
            outcome
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        let wrong = |source| StoreError::Write { path: self.path.clone(), source };
        let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        if open.failed {
            // Its files stay taken until the process ends, which the failure is the end of.
            std::mem::forget(open.db);
            return Ok(());
        }
        open.db.flush().map_err(|error| wrong(Box::new(error)))?;
        let Open { db, log, .. } = open;
        drop(db);
        let since = Instant::now();
        // sled's own threads hold the file a little longer than its handle; whoever opens it next would be refused.
        while let Err(error) = log.try_lock() {
            if since.elapsed() > RELEASE_MAX {
                return Err(wrong(Box::new(error)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Open {
    fn write(&mut self, batch: sled::Batch, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        self.sync_large_pages(path)?;
        Ok(self.log.sync_data()?)
    }

    fn sync_large_pages(&mut self, path: &Path) -> std::io::Result<()> {
        let folder = path.join("blobs");
        let mut present = BTreeSet::new();
        let mut synced_any = false;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if !self.synced.contains(&entry.file_name()) {
                match File::open(entry.path()) {
                    Ok(file) => file.sync_all()?,
                    // Its page was written anew and the file removed meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                synced_any = true;
            }
            present.insert(entry.file_name());
        }
        self.synced = present;
        if synced_any { sync_folder(&folder) } else { Ok(()) }
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
