//! A libtorch tensor as the memory of a sum. The additions are libtorch's elementwise ones: each float of the result
//! is one IEEE addition of two floats, so their bits don't depend on how a device divides the work.

use crate::device_memory::DeviceMemory;
use std::ffi::c_void;
use std::ops::Range;
use tch::{Device, Kind, TchError, Tensor};
use trainer_collective::{Memory, MemoryError};

/// A contiguous float32 tensor of one dimension, owned here. Views of it are for libtorch's calls.
#[derive(Debug)]
pub struct TorchMemory {
    tensor: Tensor,
    len: usize,
}

impl TorchMemory {
    /// All zero.
    ///
    /// # Errors
    /// When libtorch has no such device, or the device no room.
    pub fn zeros(device: Device, len: usize) -> Result<Self, MemoryError> {
        let tensor = Tensor::f_zeros([len as i64], (Kind::Float, device)).map_err(failed("allocate a sum's memory"))?;
        Ok(Self { tensor, len })
    }

    /// A view of some of it, which shares the memory.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn view(&self, range: &Range<usize>) -> Result<Tensor, MemoryError> {
        self.narrow(range).map_err(failed("view a sum's memory"))
    }

    /// Copies some of it to the host, once what was put on its device before is done.
    ///
    /// # Errors
    /// When libtorch refuses.
    ///
    /// # Panics
    /// When `into` has another length than the range.
    #[expect(unsafe_code, reason = "libtorch is given the host's address")]
    pub fn read(&self, range: &Range<usize>, into: &mut [f32]) -> Result<(), MemoryError> {
        assert_eq!(range.len(), into.len(), "room for the range");
        let mut read = || {
            let size = [into.len() as i64];
            // SAFETY: the tensor is of the slice's floats, lives within this call, and the copy has ended when it returns.
            let mut host =
                unsafe { Tensor::f_from_blob(into.as_mut_ptr().cast(), &size, &[1], Kind::Float, Device::Cpu) }?;
            host.f_copy_(&self.narrow(range)?)
        };
        read().map_err(failed("read a sum"))
    }

    fn narrow(&self, range: &Range<usize>) -> Result<Tensor, TchError> {
        self.tensor.f_narrow(0, range.start as i64, range.len() as i64)
    }
}

fn failed(doing: &'static str) -> impl FnOnce(TchError) -> MemoryError {
    move |error| MemoryError { doing, detail: error.to_string() }
}

impl Memory for TorchMemory {
    fn len(&self) -> usize {
        self.len
    }

    fn add(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError> {
        let add = || self.narrow(&into)?.f_add_(&self.narrow(&from)?).map(drop);
        add().map_err(failed("add partial sums"))
    }

    fn copy(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError> {
        let copy = || self.narrow(&into)?.f_copy_(&self.narrow(&from)?);
        copy().map_err(failed("copy a sum"))
    }
}

// SAFETY: the tensor is contiguous, of float32, never resized, and owned here; libtorch's work on it is on its stream.
#[expect(unsafe_code, reason = "the tensor's address is given to NCCL")]
unsafe impl DeviceMemory for TorchMemory {
    fn device(&self) -> Result<usize, String> {
        match self.tensor.device() {
            Device::Cuda(ordinal) => Ok(ordinal),
            other => Err(format!("on libtorch's device {other:?}")),
        }
    }

    fn address(&self) -> u64 {
        self.tensor.data_ptr().expose_provenance() as u64
    }

    /// libtorch works on the default stream as long as nobody sets another one, which nobody here does.
    fn stream(&self) -> *mut c_void {
        std::ptr::null_mut()
    }
}

/// Of memory on the host, for a transport that reads it there.
impl AsMut<[f32]> for TorchMemory {
    /// # Panics
    /// When it is on a device.
    #[expect(unsafe_code, reason = "libtorch owns the memory")]
    fn as_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.tensor.device(), Device::Cpu, "memory on the host");
        // SAFETY: a contiguous CPU tensor of so many floats, borrowed mutably; libtorch keeps no work on it in progress.
        unsafe { std::slice::from_raw_parts_mut(self.tensor.data_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer_collective::Host;

    #[test]
    fn libtorch_adds_as_the_host_does() {
        const HALF: usize = 4099;
        let bits = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9) ^ 0x1234_5678;
        let values: Vec<f32> =
            (0..2 * HALF).map(|i| f32::from_bits(bits(i))).map(|v| if v.is_nan() { 0.0 } else { v }).collect();
        let mut host = Host::zeros(2 * HALF);
        host.as_mut().copy_from_slice(&values);
        let mut torch = TorchMemory::zeros(Device::Cpu, 2 * HALF).unwrap();
        torch.view(&(0..2 * HALF)).unwrap().copy_(&Tensor::from_slice(&values));
        host.add(0..HALF, HALF..2 * HALF).unwrap();
        torch.add(0..HALF, HALF..2 * HALF).unwrap();
        host.copy(HALF..HALF + 7, 1..8).unwrap();
        torch.copy(HALF..HALF + 7, 1..8).unwrap();
        let mut found = vec![0.0_f32; 2 * HALF];
        torch.read(&(0..2 * HALF), &mut found).unwrap();
        let bits = |v: &[f32]| v.iter().map(|f| if f.is_nan() { u32::MAX } else { f.to_bits() }).collect::<Vec<_>>();
        assert!(bits(host.as_slice()) == bits(&found));
        assert!(bits(torch.as_mut()) == bits(&found));
        assert_eq!(torch.device(), Err("on libtorch's device Cpu".to_owned()));
    }
}
