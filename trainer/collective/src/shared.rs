//! Memory that other processes of this host can read: a worker's vectors lie in it, and a peer takes what it needs
//! without a copy through a socket.
//!
//! Each process writes only its own. A reader can't stop a writer that gave up a round and goes on to the next, so each
//! vector has a stamp (a sequence lock): the writer clears it before it overwrites anything, and sets a new one when it
//! publishes; a reader copies first, and then looks whether the stamp is still the one that it was told. What it
//! copied is good only then.

use crate::order::Put;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Vectors that one arena holds at most: all partial sums of a worker and the last result.
pub(crate) const SLOTS_MAX: usize = 128;
/// Length of an [`Arena::address`].
pub(crate) const ADDRESS: usize = 64;
/// Where the first vector begins in the file; before it: the nonce, the vectors' length, the stamps.
const FIRST: usize = 4096;
/// Vectors of this size or more are aligned for pages of this size.
const HUGE: usize = 2 << 20;
/// The stamp of a vector that is being written.
const WRITING: u64 = 0;

/// This process's vectors.
#[derive(Debug)]
pub(crate) struct Arena {
    file: OwnedFd,
    nonce: [u8; 16],
    control: Mapping,
    vectors: Vec<Mapping>,
    length: usize,
    stamp: u64,
}

/// Another process's vectors.
#[derive(Debug)]
pub(crate) struct Foreign {
    file: File,
    control: Mapping,
    vectors: Vec<Option<Mapping>>,
    length: usize,
}

impl Arena {
    /// For vectors of so many floats; none yet.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("trainctl", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, FIRST as u64)?;
        // A file that can't shrink can't take memory away from a peer that reads it.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)?;
        let mut control = Mapping::new(&file, 0, FIRST, ProtFlags::READ | ProtFlags::WRITE)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|e| io::Error::other(e.to_string()))?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(control.floats_mut(0..FIRST / size_of::<f32>()));
        bytes[..16].copy_from_slice(&nonce);
        bytes[16..24].copy_from_slice(&(length as u64).to_le_bytes());
        Ok(Self { file, nonce, control, vectors: Vec::new(), length, stamp: WRITING })
    }

    /// Makes so many vectors, of zeros where they are new.
    pub(crate) fn grow_to(&mut self, count: usize) -> io::Result<()> {
        if count > SLOTS_MAX {
            return Err(io::Error::other(format!("{count} vectors, expected {SLOTS_MAX} at most")));
        }
        while self.vectors.len() < count {
            let place = place(self.length, self.vectors.len());
            rustix::fs::ftruncate(&self.file, place.end as u64)?;
            let mapping = Mapping::new(&self.file, place.start, place.len(), ProtFlags::READ | ProtFlags::WRITE)?;
            self.vectors.push(mapping);
        }
        Ok(())
    }

    pub(crate) fn slice(&self, slot: usize, range: Range<usize>) -> &[f32] {
        self.vectors[slot].floats(range)
    }

    pub(crate) fn slice_mut(&mut self, slot: usize, range: Range<usize>) -> &mut [f32] {
        self.vectors[slot].floats_mut(range)
    }

    /// Two different vectors' parts: the first to write, the second to read.
    pub(crate) fn pair(&mut self, into: usize, from: usize, range: Range<usize>) -> (&mut [f32], &[f32]) {
        let [into, from] = self.vectors.get_disjoint_mut([into, from]).unwrap_or_else(|e| panic!("{e}"));
        (into.floats_mut(range.clone()), from.floats(range))
    }

    /// A whole vector for somebody who writes it while other parts of it are already read and replaced through this
    /// arena: cells, since nobody has it alone.
    ///
    /// # Safety
    /// The borrow ends before the arena does, and while a slice of this arena is in use, nobody writes to the same
    /// floats through the cells.
    #[expect(unsafe_code, reason = "the borrow is of the mapping, not of the arena")]
    pub(crate) unsafe fn lend<'a>(&self, slot: usize) -> &'a [Cell<f32>] {
        // SAFETY: as the caller promises; an arena keeps its mappings for as long as it lives.
        unsafe { self.vectors[slot].cells(self.length) }
    }

    /// Readers of this vector are told that it changes. Comes before any write to a vector that was published.
    pub(crate) fn unpublish(&mut self, slot: usize) {
        stamp_of(&self.control, slot).store(WRITING, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// What is announced of these vectors from now on stays as it is, until they are unpublished: the stamp that says
    /// so.
    pub(crate) fn publish(&mut self, slots: &[usize]) -> u64 {
        self.stamp += 1;
        for slot in slots {
            stamp_of(&self.control, *slot).store(self.stamp, Ordering::Release);
        }
        self.stamp
    }

    /// Distinguishes it from all others.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// What a peer needs to find it.
    pub(crate) fn address(&self) -> Option<[u8; ADDRESS]> {
        let mut address = [0; ADDRESS];
        let descriptor = u32::try_from(self.file.as_raw_fd()).ok()?;
        address[..24].copy_from_slice(&host()?);
        address[24..28].copy_from_slice(&std::process::id().to_le_bytes());
        address[28..32].copy_from_slice(&descriptor.to_le_bytes());
        address[32..48].copy_from_slice(&self.nonce);
        Some(address)
    }
}

impl Foreign {
    /// The memory at this address; `None` when it isn't this host's, or may not be read, or isn't what it should be.
    pub(crate) fn open(address: &[u8; ADDRESS], length: usize) -> Option<Self> {
        let (here, rest) = address.split_first_chunk::<24>()?;
        let (process, rest) = rest.split_first_chunk::<4>()?;
        let (descriptor, rest) = rest.split_first_chunk::<4>()?;
        if *here != host()? {
            return None;
        }
        let (process, descriptor) = (u32::from_le_bytes(*process), u32::from_le_bytes(*descriptor));
        let path = format!("/proc/{process}/fd/{descriptor}");
        // Whoever has this process number now may have a pipe or a terminal there.
        let access = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, access, Mode::empty()).ok()?);
        // Sealed files alone: mapping one that its owner can shorten could end this process.
        if !rustix::fs::fcntl_get_seals(&file).ok()?.contains(SealFlags::SHRINK)
            || file.metadata().ok()?.size() < FIRST as u64
        {
            return None;
        }
        let control = Mapping::new(&file, 0, FIRST, ProtFlags::READ).ok()?;
        let mut bytes = [0_u8; 24];
        control.put(0..6, Put::Over(bytemuck::cast_slice_mut(&mut bytes)));
        if bytes[..16] != rest[..16] || bytes[16..] != (length as u64).to_le_bytes() {
            return None;
        }
        Some(Self { file, control, vectors: (0..SLOTS_MAX).map(|_| None).collect(), length })
    }

    /// Makes this vector readable. The owner said that it is there.
    pub(crate) fn map(&mut self, slot: usize) -> io::Result<()> {
        let Some(vector) = self.vectors.get_mut(slot) else {
            return Err(io::Error::other(format!("vector {slot} of {SLOTS_MAX} in shared memory")));
        };
        if vector.is_none() {
            let place = place(self.length, slot);
            let size = self.file.metadata()?.size();
            if size < place.end as u64 {
                return Err(io::Error::other(format!("vector {slot} beyond the {size} bytes of shared memory")));
            }
            *vector = Some(Mapping::new(&self.file, place.start, place.len(), ProtFlags::READ)?);
        }
        Ok(())
    }

    /// Puts a part of a mapped vector. Good only if [`Foreign::still`] afterwards.
    pub(crate) fn put(&self, slot: usize, range: Range<usize>, put: Put<'_>) {
        match &self.vectors[slot] {
            Some(vector) => vector.put(range, put),
            None => panic!("vector {slot} in shared memory is read before it is mapped"),
        }
    }

    /// Whether the vector was not changed since its owner gave this stamp.
    pub(crate) fn still(&self, slot: usize, stamp: u64) -> bool {
        fence(Ordering::Acquire);
        stamp != WRITING && stamp_of(&self.control, slot).load(Ordering::Relaxed) == stamp
    }
}

/// The bytes of the file in which a vector lies.
fn place(length: usize, slot: usize) -> Range<usize> {
    let bytes = length * size_of::<f32>();
    let page = if bytes < HUGE { FIRST } else { HUGE };
    let stride = bytes.next_multiple_of(page).max(page);
    page + slot * stride..page + slot * stride + bytes.max(1)
}

/// Which host this is, and which process numbers are meant.
fn host() -> Option<[u8; 24]> {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::metadata("/proc/self/ns/pid").ok()?.ino();
    let mut host = [0; 24];
    host[..16].copy_from_slice(&blake3::hash(&boot).as_bytes()[..16]);
    host[16..].copy_from_slice(&namespace.to_le_bytes());
    Some(host)
}

/// A part of a file in this process's memory, until it is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<f32>,
    bytes: usize,
}

#[expect(
    unsafe_code,
    reason = "the memory belongs to the mapping alone, and is freed with it, whichever thread has it"
)]
// SAFETY: as the reason says.
unsafe impl Send for Mapping {}

impl Mapping {
    #[expect(unsafe_code, reason = "a new mapping, at an address that the system chooses")]
    fn new(file: impl std::os::fd::AsFd, offset: usize, bytes: usize, access: ProtFlags) -> io::Result<Self> {
        // SAFETY: no address is asked for, so that nothing of this process is replaced.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file, offset as u64)? };
        if bytes >= HUGE {
            // SAFETY: it changes nothing but the size of pages. A system without large pages refuses, and is right.
            let _ = unsafe { rustix::mm::madvise(start, bytes, Advice::LinuxHugepage) };
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    fn check(&self, range: &Range<usize>) {
        let floats = self.bytes / size_of::<f32>();
        assert!(range.start <= range.end && range.end <= floats, "{range:?} of {floats} floats");
    }

    #[expect(unsafe_code, reason = "floats of this process's own vectors, which nobody else writes")]
    fn floats(&self, range: Range<usize>) -> &[f32] {
        self.check(&range);
        // SAFETY: within the mapping; any bits are a float; only this process writes, through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }

    #[expect(unsafe_code, reason = "floats of this process's own vectors, which nobody else writes")]
    fn floats_mut(&mut self, range: Range<usize>) -> &mut [f32] {
        self.check(&range);
        // SAFETY: as above, and other processes copy in the way of `copy`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// # Safety
    /// The mapping outlives the borrow, and no slice of it is in use while the same floats are written through this.
    #[expect(unsafe_code, reason = "the engine writes one part of a vector while the exchange has another")]
    unsafe fn cells<'a>(&self, floats: usize) -> &'a [Cell<f32>] {
        self.check(&(0..floats));
        // SAFETY: within the mapping, which one thread writes; a cell is laid out as what it holds. The rest is the
        // caller's.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), floats) }
    }

    #[expect(unsafe_code, reason = "another process may write what is read here")]
    fn put(&self, range: Range<usize>, put: Put<'_>) {
        self.check(&range);
        let (Put::Over(into) | Put::Onto(into)) = &put;
        assert_eq!(range.len(), into.len());
        // SAFETY: within the mapping. There is no reference to memory that may change, only a copy of each float, of
        // any bits; what comes of it is thrown away when the stamp says that they did change.
        unsafe {
            let from = self.start.as_ptr().add(range.start);
            match put {
                Put::Over(into) => std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()),
                Put::Onto(into) => into.iter_mut().enumerate().for_each(|(i, float)| *float += from.add(i).read()),
            }
        }
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "the end of the mapping")]
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nothing borrows from it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[expect(unsafe_code, reason = "the stamps are shared with other processes, so they are atomic and nothing else")]
fn stamp_of(control: &Mapping, slot: usize) -> &AtomicU64 {
    assert!(slot < SLOTS_MAX && control.bytes >= FIRST, "vector {slot} of {SLOTS_MAX}");
    // SAFETY: aligned (a mapping begins at a page) and within the first page; another process's is only loaded.
    unsafe { &*control.start.as_ptr().cast::<u8>().add(32 + slot * size_of::<u64>()).cast::<AtomicU64>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overwritten_while_it_is_read_is_noticed() {
        let mut arena = Arena::new(1000).unwrap();
        arena.grow_to(2).unwrap();
        arena.slice_mut(1, 0..1000).fill(3.0);
        let stamp = arena.publish(&[1]);
        let mut foreign = Foreign::open(&arena.address().unwrap(), 1000).unwrap();
        foreign.map(1).unwrap();
        let mut copy = vec![0.0; 1000];
        foreign.put(1, 0..1000, Put::Over(&mut copy));
        assert!(foreign.still(1, stamp));
        assert!(copy.iter().all(|f| *f == 3.0));
        arena.unpublish(1);
        assert!(!foreign.still(1, stamp));
        arena.slice_mut(1, 0..1000).fill(4.0);
        assert_eq!(arena.publish(&[1]), stamp + 1);
        assert!(!foreign.still(1, stamp));
    }

    #[test]
    fn only_the_memory_that_is_meant_is_opened() {
        let mut arena = Arena::new(10).unwrap();
        arena.grow_to(1).unwrap();
        let address = arena.address().unwrap();
        assert!(Foreign::open(&address, 11).is_none());
        for at in [0, 23, 24, 28, 32, 47] {
            let mut other = address;
            other[at] ^= 0x40;
            assert!(Foreign::open(&other, 10).is_none(), "byte {at}");
        }
        // A pipe that nobody writes to: to open it as usual is to wait for ever.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        let mut other = address;
        other[28..32].copy_from_slice(&reader.as_raw_fd().to_le_bytes());
        assert!(Foreign::open(&other, 10).is_none());
        let mut foreign = Foreign::open(&address, 10).unwrap();
        foreign.map(0).unwrap();
        assert!(foreign.map(1).is_err());
        assert!(foreign.map(SLOTS_MAX).is_err());
    }

    #[test]
    fn memory_outlives_its_owner() {
        let mut arena = Arena::new(HUGE).unwrap();
        arena.grow_to(1).unwrap();
        arena.slice_mut(0, HUGE - 1..HUGE).fill(7.0);
        let stamp = arena.publish(&[0]);
        let mut foreign = Foreign::open(&arena.address().unwrap(), HUGE).unwrap();
        foreign.map(0).unwrap();
        drop(arena);
        let mut last = [0.0];
        foreign.put(0, HUGE - 1..HUGE, Put::Over(&mut last));
        assert_eq!(last, [7.0]);
        assert!(foreign.still(0, stamp));
    }
}
