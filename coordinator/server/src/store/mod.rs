//! Where the coordinator's records are kept. A store does three things: give all records below a prefix, apply a batch
//! wholly or not at all and durably, and close. Every implementation passes the suite in `conformance`.

mod fail_at;
mod memory;
mod sled;

#[cfg(test)]
mod conformance;

pub use self::sled::SledStore;
pub use fail_at::{FAIL_AT_VARIABLE, FailAt};
pub use memory::MemoryStore;

use coordinator_core::Record;
use std::path::PathBuf;

/// A place for records. Calls block: a commit waits for the disk.
pub trait Store: Send + Sync {
    /// All records whose key starts so, ordered by key.
    ///
    /// # Errors
    /// The store can't be read.
    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Writes and removes records, all of them or none; when it returns, they outlive a loss of power. Of two records
    /// with one key the later counts.
    ///
    /// # Errors
    /// Nothing can be said of the batch then: open the store again to see whether it is there.
    fn commit(&self, batch: &[Record]) -> Result<(), StoreError>;

    /// Gives the files back, so that the next coordinator can open them; after a commit that failed, the end of the
    /// process does.
    ///
    /// # Errors
    /// The store can't be written.
    fn close(&self) -> Result<(), StoreError>;
}

/// A store can't do its work. There is no going on without it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it.
    #[error("store {path}: expected it to be free, found it open in another process", path = .path.display())]
    InUse {
        /// Its folder.
        path: PathBuf,
    },
    /// It can't be opened.
    #[error("open store {path}", path = .path.display())]
    Open {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It can't be read.
    #[error("read store {path}", path = .path.display())]
    Read {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It can't be written: the disk is full or broken.
    #[error(
        "write store {path}: {source}\n\
         hint: see that its disk has space and works, and start the coordinator again; jobs go on then",
        path = .path.display()
    )]
    Write {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record's key is not text, so this is not one of our stores.
    #[error("store {path}: expected keys of text, found {found:?}", path = .path.display())]
    Key {
        /// Its folder.
        path: PathBuf,
        /// The key.
        found: Vec<u8>,
    },
}
