//! The cache on this machine's disk: decoded rows of pinned objects, found by what they were decoded from.
//!
//! An entry's name is a digest of its objects' digests and of how they are read, so an entry is right or absent, never
//! out of date; its content has a digest of its own, which is checked when it is mapped. Several processes of one host
//! share a cache: one fetches what all need, under a lock that ends with its holder; entries appear whole, by a rename.
//! The longest unused entries are removed beyond the bound; who has one mapped keeps it.

use crate::block::Block;
use crate::error::DataError;
use crate::manifest::{Dtype, Manifest, Object, Target};
use memmap2::Mmap;
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// Bound of a cache of which nothing else is said.
const DEFAULT_BOUND_BYTES: u64 = 32 << 30;
/// What entries begin with; another program's or version's has another.
const MAGIC: &[u8; 16] = b"trainctl rows 1\n";
/// Magic, length of values, length of labels, digest of both; values start on a cache line.
const HEADER_BYTES: usize = 128;
/// The folder is looked through again when this share of the bound was written since.
const LOOK_AFTER_SHARE: u64 = 20;

/// Where the cache is and how large it may become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheOptions {
    /// Its folder; made when first needed.
    pub folder: PathBuf,
    /// Of its entries, to within a twentieth for each process that writes.
    pub bound_bytes: u64,
}

impl CacheOptions {
    /// `TRAINCTL_CACHE`, or `trainctl` in `XDG_CACHE_HOME` or `~/.cache`; `TRAINCTL_CACHE_BYTES`, or 32 GiB.
    #[must_use]
    pub fn from_environment() -> Self {
        let bytes = std::env::var("TRAINCTL_CACHE_BYTES").ok().and_then(|text| text.parse().ok());
        Self { folder: cache_folder(), bound_bytes: bytes.unwrap_or(DEFAULT_BOUND_BYTES) }
    }
}

/// The folder that the environment names.
pub(crate) fn cache_folder() -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    absolute("TRAINCTL_CACHE")
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("trainctl")))
        .or_else(|| Some(absolute("HOME")?.join(".cache/trainctl")))
        .unwrap_or_else(|| std::env::temp_dir().join("trainctl-cache"))
}

/// A cache in use.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    bound_bytes: u64,
    written_since_look: AtomicU64,
    /// A full disk is said once.
    bypassed: AtomicBool,
}

impl Cache {
    pub(crate) fn open(options: CacheOptions) -> Self {
        Self {
            folder: options.folder.join("rows"),
            bound_bytes: options.bound_bytes,
            // The first entry written looks through the folder: others may have filled it.
            written_since_look: AtomicU64::new(options.bound_bytes),
            bypassed: AtomicBool::new(false),
        }
    }

    pub(crate) fn bound_bytes(&self) -> u64 {
        self.bound_bytes
    }

    /// The block of these objects: the entry, or else what `read` makes, written for next time. Where it can't be
    /// written the block comes as it is, in memory.
    pub(crate) fn get(
        &self,
        manifest: &Manifest,
        objects: &[Object],
        read: impl FnOnce() -> Result<Block, DataError>,
    ) -> Result<Block, DataError> {
        let entry = Entry::of(manifest, objects);
        let path = self.folder.join(&entry.name);
        if let Some(block) = entry.open(&path) {
            return Ok(block);
        }
        let locked = self.lock(&entry);
        if locked.is_ok()
            && let Some(block) = entry.open(&path)
        {
            return Ok(block);
        }
        let block = read()?;
        let written = locked.and_then(|_lock| self.write(&path, &block));
        match written {
            Ok(()) => {
                self.note(block.bytes());
                Ok(entry.open(&path).unwrap_or(block))
            }
            Err(error) => {
                if !self.bypassed.swap(true, Relaxed) {
                    tracing::warn!(
                        "{}: the cache can't be written: {error}; data is kept in memory and fetched again as needed",
                        self.folder.display()
                    );
                }
                Ok(block)
            }
        }
    }

    /// Waits for whoever fetches this entry, or one of the few that share its lock.
    fn lock(&self, entry: &Entry) -> io::Result<File> {
        let folder = self.folder.join("locks");
        fs::create_dir_all(&folder)?;
        let file = OpenOptions::new().create(true).append(true).open(folder.join(&entry.name[..2]))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn write(&self, path: &Path, block: &Block) -> io::Result<()> {
        let Block::Held { values, labels } = block else { return Ok(()) };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = Part(name);
        let mut file = File::create(&part.0)?;
        file.write_all(&[0; HEADER_BYTES])?;
        let mut hasher = blake3::Hasher::new();
        let mut lens = [0_u64; 2];
        for (index, len) in lens.iter_mut().enumerate() {
            let out = |bytes: &[u8]| {
                hasher.update(bytes);
                *len += bytes.len() as u64;
                file.write_all(bytes)
            };
            if index == 0 { values.write(out) } else { labels.write(out) }?;
        }
        let mut header = Vec::from(MAGIC);
        lens.iter().for_each(|len| header.extend(len.to_le_bytes()));
        header.extend(hasher.finalize().as_bytes());
        std::os::unix::fs::FileExt::write_all_at(&file, &header, 0)?;
        fs::rename(&part.0, path)
    }

    /// Counts what was written, and now and then brings the folder back within its bound.
    fn note(&self, bytes: u64) {
        let written = self.written_since_look.fetch_add(bytes, Relaxed) + bytes;
        if written < self.bound_bytes / LOOK_AFTER_SHARE {
            return;
        }
        self.written_since_look.store(0, Relaxed);
        if let Err(error) = self.shrink() {
            tracing::warn!("{}: the cache can't be brought within its bound: {error}", self.folder.display());
        }
    }

    fn shrink(&self) -> io::Result<()> {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // One that somebody else removes meanwhile is no error.
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
            {
                entries.push((meta.modified()?, meta.len(), entry.path()));
            }
        }
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        entries.sort_unstable();
        for (_, bytes, path) in entries {
            if total <= self.bound_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= bytes,
            }
        }
        Ok(())
    }
}

/// A file that is removed unless it was renamed.
struct Part(OsString);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What an entry is called and must hold.
struct Entry {
    name: String,
    dtype: Dtype,
    values_bytes: u64,
    labels_bytes: u64,
}

impl Entry {
    fn of(manifest: &Manifest, objects: &[Object]) -> Self {
        let rows = objects[0].rows;
        let label_bytes = match manifest.target {
            Target::Class { .. } => 2,
            Target::Number { .. } => 4,
            Target::NextByte => 0,
        };
        let elements = if manifest.target == Target::NextByte { 1 } else { manifest.features.elements() };
        let Manifest { format, features, target, csv, table, class_names, tar, reading, .. } = manifest;
        let (shape, dtype) = (&features.shape, features.dtype);
        let mut hasher = blake3::Hasher::new_derive_key("trainctl rows v1");
        // Another version of this program may decode an image to other bits.
        let how = format!("{} {format} {shape:?} {dtype:?} {target:?} {csv:?} {tar:?}", env!("CARGO_PKG_VERSION"));
        hasher.update(how.as_bytes());
        if table.is_some() || class_names.is_some() || reading.is_some() {
            hasher.update(format!("\n{table:?} {class_names:?} {reading:?}").as_bytes());
        }
        for Object { digest, rows, role, .. } in objects {
            hasher.update(format!("\n{digest} {rows} {role:?}").as_bytes());
        }
        Self {
            name: hasher.finalize().to_hex().to_string(),
            dtype,
            values_bytes: rows * elements * dtype.bytes(),
            labels_bytes: rows * label_bytes,
        }
    }

    /// Maps the entry; nothing when there is none, or it is not whole.
    fn open(&self, path: &Path) -> Option<Block> {
        let file = File::open(path).ok()?;
        let map = map(&file).ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(map.get(at..at + 8)?.try_into().ok()?));
        let lens: (Option<u64>, Option<u64>) = (number(16), number(24));
        let whole = map.starts_with(MAGIC)
            && lens == (Some(self.values_bytes), Some(self.labels_bytes))
            && map.len() as u64 == HEADER_BYTES as u64 + self.values_bytes + self.labels_bytes
            && blake3::hash(&map[HEADER_BYTES..]).as_bytes()[..] == map[32..64];
        if !whole {
            tracing::warn!("{}: a damaged entry of the cache is fetched again", path.display());
            let _ = fs::remove_file(path);
            return None;
        }
        // The time of the last use, for who removes the longest unused.
        let _ = file.set_modified(SystemTime::now());
        let end_of_values = HEADER_BYTES + usize::try_from(self.values_bytes).ok()?;
        let (values, labels) = (HEADER_BYTES..end_of_values, end_of_values..map.len());
        Some(Block::Mapped { map, values, labels, dtype: self.dtype })
    }
}

#[expect(unsafe_code, reason = "a mapped file is memory that others could change")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: an entry is never written to once it has its name; it is replaced and removed as a whole, which leaves
    // the mapped file as it is. Its folder is this user's own.
    unsafe { Mmap::map(file) }
}
