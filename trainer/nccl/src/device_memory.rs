//! What NCCL must know of memory that it reads and writes.

use std::ffi::c_void;
use std::ops::Range;
use trainer_collective::Memory;

/// Memory on a CUDA device.
///
/// # Safety
/// While it exists, [`DeviceMemory::address`] is that of [`Memory::len`] floats on [`DeviceMemory::device`], which
/// nobody else touches while it is borrowed mutably, apart from work put earlier on its stream.
#[expect(unsafe_code, reason = "NCCL is given the address")]
pub unsafe trait DeviceMemory: Memory {
    /// The device's number, or where it is instead.
    ///
    /// # Errors
    /// The place, in words.
    fn device(&self) -> Result<usize, String>;

    /// Of its first float, in the device's address space.
    fn address(&self) -> u64;

    /// The `cudaStream_t` on which its additions are made, and on which NCCL follows them; null is the default stream.
    fn stream(&self) -> *mut c_void;
}

/// The address of a range of the memory.
pub(crate) fn address<M: DeviceMemory>(memory: &M, range: &Range<usize>) -> *mut c_void {
    assert!(range.start <= range.end && range.end <= memory.len(), "{range:?} of {} floats", memory.len());
    let address = memory.address() + (range.start * size_of::<f32>()) as u64;
    std::ptr::with_exposed_provenance_mut(address as usize)
}
