//! The members of a tar archive, one after another, names of any length within a bound.

use super::Bad;
use std::io::{self, BufRead, Read};
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// A name, or what else is said of a member, of more bytes is refused.
const NAME_MAX_BYTES: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 512;
const SAY_PLAIN: &str = "write the archive anew, with `tar --format=gnu`, of whole files alone";

/// What a member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    File,
    /// A link to another member, or to anything else.
    Link(String),
    Folder,
    /// A device, a file with holes, or a kind that tar doesn't know.
    Other,
}

/// One member.
pub(super) struct Member<'m> {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) content: &'m mut dyn Read,
}

/// How archives are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rules {
    /// As the first version of this program did: up to the first end mark, and no further.
    ToFirstEnd,
    /// Archives that follow each other in one file are read on, and one without an end mark is cut.
    Whole,
}

/// Hands each member to `each`, in order.
pub(super) fn members(
    input: &mut dyn BufRead,
    rules: Rules,
    each: &mut dyn FnMut(Member<'_>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    let mut tail = Tail { input, zeros: 0, bytes: 0 };
    walk(Archive::new(&mut tail), rules, each)?;
    if rules == Rules::Whole && tail.bytes > 0 && tail.zeros < BLOCK_BYTES {
        let hint = "it may be cut; `tar` writes the mark";
        return Err(Bad::new("archive", "an end mark (blocks of zeros) at the end", "none").hint(hint));
    }
    Ok(())
}

fn walk(
    mut archive: Archive<impl Read>,
    rules: Rules,
    each: &mut dyn FnMut(Member<'_>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    archive.set_ignore_zeros(rules == Rules::Whole);
    let (mut long_name, mut pax_name) = (None, None);
    for entry in archive.entries().map_err(|error| torn(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| torn(&error))?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long_name = Some(text(&short(&mut entry)?)),
            // Of links, whose targets are looked at in messages only.
            EntryType::GNULongLink => drop(short(&mut entry)?),
            EntryType::XHeader => pax_name = path_of(&short(&mut entry)?, rules)?,
            // Said of all members that follow: nothing of it matters here.
            EntryType::XGlobalHeader => {}
            kind => {
                let path = long_name.take().or(pax_name.take());
                let path = path.unwrap_or_else(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned());
                let link = || entry.link_name_bytes().map(|name| text(&name)).unwrap_or_default();
                let kind = match kind {
                    kind if kind.is_file() => Kind::File,
                    EntryType::Directory => Kind::Folder,
                    EntryType::Link | EntryType::Symlink => Kind::Link(link()),
                    _ => Kind::Other,
                };
                let size = entry.size();
                each(Member { path, kind, size, content: &mut entry })?;
            }
        }
    }
    Ok(())
}

pub(super) fn torn(error: &io::Error) -> Bad {
    Bad::new("archive", "a whole tar archive", error)
}

/// What is said of the next member.
fn short(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, Bad> {
    let size = entry.size();
    if size > NAME_MAX_BYTES {
        let hint = "write the archive anew, with shorter names";
        return Err(Bad::new("archive", format!("names of at most {NAME_MAX_BYTES} bytes"), size).hint(hint));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| torn(&error))?;
    Ok(bytes)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned()
}

/// The name that a PAX header gives the next member.
fn path_of(header: &[u8], rules: Rules) -> Result<Option<String>, Bad> {
    let mut path = None;
    for extension in PaxExtensions::new(header) {
        let extension = extension.map_err(|error| torn(&error))?;
        match extension.key_bytes() {
            b"path" => path = Some(text(extension.value_bytes())),
            b"size" => return Err(Bad::new("archive", "members of less than 8 GiB", "a larger one").hint(SAY_PLAIN)),
            key if key.starts_with(b"GNU.sparse.") && rules == Rules::Whole => {
                return Err(Bad::new("archive", "files without holes", "a sparse one").hint(SAY_PLAIN));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// Counts the zeros at the end.
struct Tail<'a> {
    input: &'a mut dyn BufRead,
    zeros: u64,
    bytes: u64,
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let zeros = buffer[..count].iter().rev().take_while(|&&byte| byte == 0).count();
        self.zeros = if zeros == count { self.zeros + zeros as u64 } else { zeros as u64 };
        self.bytes += count as u64;
        Ok(count)
    }
}
