//! A tar, compressed, that depends on nothing but the names, the modes and the bytes in it.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// What there is to pack.
pub(super) struct Archive {
    /// The folder that everything lies in.
    pub(super) name: String,
    /// In any order.
    pub(super) entries: Vec<Entry>,
}

/// One file.
pub(super) struct Entry {
    /// Below the archive's folder.
    pub(super) name: String,
    /// What it is.
    pub(super) what: What,
}

pub(super) enum What {
    /// A program that is here now.
    Program(PathBuf),
    /// Any other file that is here now.
    File(PathBuf),
    /// Another name for a file beside it.
    Link(String),
}

/// 1 January 2000: some programs warn of times that are much older.
const TIME: u64 = 946_684_800;
/// Beyond it, the libraries get 2 % smaller in twice the time.
const LEVEL: i32 = 12;

/// Writes the file, whole or not at all. Returns its SHA-256 in hex.
pub(super) fn write(archive: &Archive, path: &Path) -> Result<String> {
    let partial = path.with_extension("partial");
    let file = File::create(&partial).with_context(|| format!("create {}", partial.display()))?;
    let hashed = Hashed { inner: BufWriter::new(file), hash: Sha256::new() };
    let compressed = zstd::Encoder::new(hashed, LEVEL).context("start compressing")?;
    let mut tar = Builder::new(compressed);
    let mut entries: Vec<&Entry> = archive.entries.iter().collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        append(&mut tar, &archive.name, entry).with_context(|| format!("pack {}", entry.name))?;
    }
    let wrote = || format!("write {}", partial.display());
    let compressed = tar.into_inner().with_context(wrote)?;
    let Hashed { inner, hash } = compressed.finish().with_context(wrote)?;
    inner.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).with_context(wrote)?;
    fs::rename(&partial, path).with_context(|| format!("rename {} to {}", partial.display(), path.display()))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn append(tar: &mut Builder<impl Write>, folder: &str, entry: &Entry) -> io::Result<()> {
    let name = format!("{folder}/{}", entry.name);
    let mut header = Header::new_ustar();
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    let (from, mode) = match &entry.what {
        What::Program(from) => (from, 0o755),
        What::File(from) => (from, 0o644),
        What::Link(to) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            return tar.append_link(&mut header, name, to);
        }
    };
    let file = File::open(from).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", from.display())))?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(file.metadata()?.len());
    header.set_mode(mode);
    tar.append_data(&mut header, name, file)
}

/// Knows the digest of what went through it.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn archive(folder: &Path, names: &[&str]) -> Archive {
        let entries = names.iter().map(|name| {
            let from = folder.join(name.replace('/', "-"));
            fs::write(&from, format!("bytes of {name}")).expect("write");
            let what = if name.starts_with("bin/") { What::Program(from) } else { What::File(from) };
            Entry { name: (*name).to_owned(), what }
        });
        let link = Entry { name: "lib/c.so".to_owned(), what: What::Link("b.so".to_owned()) };
        Archive { name: "trainctl-1".to_owned(), entries: entries.chain([link]).collect() }
    }

    #[test]
    fn order_and_times_leave_no_trace() {
        let folder = tempfile::tempdir().expect("make a folder");
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        let first = write(&archive(folder.path(), &["lib/b.so", "bin/a", "LICENSE"]), &one).expect("pack");
        let again = archive(folder.path(), &["LICENSE", "lib/b.so", "bin/a"]);
        let old = SystemTime::now() - Duration::from_secs(1_000_000);
        for entry in &again.entries {
            let (What::Program(from) | What::File(from)) = &entry.what else { continue };
            let file = File::options().write(true).open(from).expect("open");
            file.set_modified(old).expect("set the time");
        }
        assert_eq!(write(&again, &two).expect("pack"), first);
        assert_eq!(fs::read(&one).expect("read"), fs::read(&two).expect("read"));
        assert!(!one.with_extension("partial").exists());
    }

    #[test]
    fn it_is_a_tar_that_others_read() {
        let folder = tempfile::tempdir().expect("make a folder");
        let path = folder.path().join("it.tar.zst");
        let digest = write(&archive(folder.path(), &["lib/b.so", "bin/a"]), &path).expect("pack");
        let whole = fs::read(&path).expect("read");
        let expected: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, expected);
        let mut tar = tar::Archive::new(zstd::Decoder::new(&whole[..]).expect("zstd"));
        let seen: Vec<_> = tar
            .entries()
            .expect("a tar")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                let path = entry.path().expect("a path").display().to_string();
                (path, header.mode().expect("a mode"), header.mtime().expect("a time"), header.uid().expect("an owner"))
            })
            .collect();
        let expected = [("bin/a", 0o755), ("lib/b.so", 0o644), ("lib/c.so", 0o777)];
        assert_eq!(seen, expected.map(|(name, mode)| (format!("trainctl-1/{name}"), mode, TIME, 0)));

        tar::Archive::new(zstd::Decoder::new(&whole[..]).expect("zstd")).unpack(folder.path()).expect("unpack");
        let linked = fs::read(folder.path().join("trainctl-1/lib/c.so")).expect("read by its other name");
        assert_eq!(linked, b"bytes of lib/b.so");
    }
}
