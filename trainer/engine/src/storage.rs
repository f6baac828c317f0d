//! Tensors whose memory is also a Rust slice: the state, and the inputs that samples are written into. The only place
//! where libtorch's memory is touched from Rust.

use std::marker::PhantomData;
use tch::kind::Element;
use tch::{Device, Kind, TchError, Tensor};

/// A contiguous CPU tensor of `T`, owned here, at a 64-byte boundary.
///
/// Tensors that share the memory ([`Storage::tensor`], [`Storage::part`]) are for libtorch calls only. Those calls
/// don't outlive the call, and slices are borrowed from the owner, so no slice is alive while libtorch writes as long
/// as the owner is borrowed mutably around calls that write.
pub(crate) struct Storage<T> {
    tensor: Tensor,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Storage<T> {
    /// All zero.
    pub(crate) fn zeros(shape: &[i64]) -> Result<Self, TchError> {
        let tensor = Tensor::f_zeros(shape, (T::KIND, Device::Cpu))?;
        assert!(tensor.data_ptr().addr().is_multiple_of(64), "libtorch allocates at 64-byte boundaries");
        let len = tensor.numel();
        Ok(Self { tensor, len, element: PhantomData })
    }

    /// The whole of it.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The memory.
    #[expect(unsafe_code, reason = "libtorch owns the memory")]
    pub(crate) fn as_slice(&self) -> &[T] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the tensor is contiguous, zeroed at first, holds `len` elements of T's kind and is never resized;
        // see the type for why nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.tensor.data_ptr().cast(), self.len) }
    }

    /// The memory, to write.
    #[expect(unsafe_code, reason = "libtorch owns the memory")]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: as above, and the owner is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.tensor.data_ptr().cast(), self.len) }
    }
}

impl Storage<f32> {
    /// A leaf of autograd's graph over `numel(shape)` elements from `offset` on, sharing the memory.
    pub(crate) fn part(&self, offset: usize, shape: &[i64]) -> Result<Tensor, TchError> {
        part(&self.tensor, offset, shape)
    }
}

/// A leaf of autograd's graph over `numel(shape)` elements of a flat tensor from `offset` on, sharing the memory.
pub(crate) fn part(of: &Tensor, offset: usize, shape: &[i64]) -> Result<Tensor, TchError> {
    let len = shape.iter().product();
    of.f_narrow(0, offset as i64, len)?.f_view(shape)?.f_detach()
}

/// The kind of all parameters, buffers and slots.
pub(crate) const MASTER: Kind = Kind::Float;
