//! From a loss to its gradient, written straight into the caller's vector: each parameter's part is moved there the
//! moment autograd has it, so that no second copy of the whole gradient ever exists, and the caller can send what is
//! final while the rest is still computed.

use crate::layout::Place;
use crate::torch::Said;
use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use tch::{TchError, Tensor};
use torch_sys::C_tensor;

/// The hooks on a replica's parameters.
pub(crate) struct Gradients {
    handle: NonNull<c_void>,
    len: usize,
}

// SAFETY: the shim's object has no tie to a thread, and all calls take `&mut self`.
#[expect(unsafe_code, reason = "a handle to the shim's object")]
unsafe impl Send for Gradients {}

impl Gradients {
    /// Hooks these leaves of autograd's graph. `places` are theirs in the vector, in rising order.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(crate) fn new(leaves: &[Tensor], places: &[Place]) -> Result<Self, TchError> {
        assert_eq!(leaves.len(), places.len(), "a place for each leaf");
        let pointers: Vec<*const C_tensor> = leaves.iter().map(Tensor::as_ptr).collect();
        let offsets: Vec<usize> = places.iter().map(|place| place.offset).collect();
        let padded_lens: Vec<usize> = places.iter().map(|place| place.padded_len).collect();
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: the three lists have `leaves.len()` elements and are read during the call only.
        let handle = unsafe {
            trainctl_gradients_new(
                pointers.as_ptr(),
                offsets.as_ptr(),
                padded_lens.as_ptr(),
                pointers.len(),
                error,
                capacity,
            )
        };
        let len = places.last().map_or(0, |place| place.offset + place.padded_len);
        NonNull::new(handle).map(|handle| Self { handle, len }).ok_or_else(|| said.error())
    }

    /// The backward pass. `ready` is told, on this thread and during the pass, from which element on `out` is final; it
    /// hears ever lower ones. A parameter that the loss does not depend on has a gradient of zero.
    ///
    /// # Panics
    /// When `out` has not the places' length; and on with a panic of `ready`, when the pass is over.
    pub(crate) fn backward(
        &mut self,
        loss: &Tensor,
        out: &[Cell<f32>],
        ready: &mut dyn FnMut(usize),
    ) -> Result<(), TchError> {
        assert_eq!(out.len(), self.len, "length of the gradient");
        self.run(loss, out.as_ptr().cast_mut().cast(), std::ptr::null(), ready)
    }

    /// The same into a flat float32 tensor on any device. What is put on the device need not be done yet.
    ///
    /// # Panics
    /// When `out` has not the places' length.
    pub(crate) fn backward_into(&mut self, loss: &Tensor, out: &Tensor) -> Result<(), TchError> {
        assert_eq!(out.numel(), self.len, "length of the gradient");
        self.run(loss, std::ptr::null_mut(), out.as_ptr(), &mut |_| {})
    }

    /// Into a vector of the places' length, or, where that is null, a tensor of it.
    #[expect(unsafe_code, reason = "calls the shim")]
    fn run(
        &mut self,
        loss: &Tensor,
        out: *mut f32,
        elsewhere: *const C_tensor,
        ready: &mut dyn FnMut(usize),
    ) -> Result<(), TchError> {
        let mut listener = Listener { ready, panic: None };
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: `out` spans all places and its cells may be written, or it is null and the tensor is there; `listener`
        // outlives the call, which calls `hear` on this thread only.
        let done = unsafe {
            trainctl_gradients_backward(
                self.handle.as_ptr(),
                loss.as_ptr(),
                out,
                elsewhere,
                hear,
                std::ptr::from_mut(&mut listener).cast(),
                error,
                capacity,
            )
        };
        if let Some(panic) = listener.panic {
            resume_unwind(panic);
        }
        if done { Ok(()) } else { Err(said.error()) }
    }
}

impl Drop for Gradients {
    #[expect(unsafe_code, reason = "calls the shim")]
    fn drop(&mut self) {
        // SAFETY: the handle came from the shim and is not used again; leaves that live on keep what their hooks need.
        unsafe { trainctl_gradients_free(self.handle.as_ptr()) }
    }
}

struct Listener<'a> {
    ready: &'a mut dyn FnMut(usize),
    panic: Option<Box<dyn Any + Send>>,
}

/// Passes on what the shim says. A panic must not unwind through C++: it waits until the pass is over.
#[expect(unsafe_code, reason = "called by the shim")]
extern "C" fn hear(context: *mut c_void, from: usize) {
    // SAFETY: the context of `backward`, borrowed by nobody else during the pass.
    let listener = unsafe { &mut *context.cast::<Listener<'_>>() };
    if listener.panic.is_none() {
        listener.panic = catch_unwind(AssertUnwindSafe(|| (listener.ready)(from))).err();
    }
}

#[expect(unsafe_code, reason = "the shim")]
unsafe extern "C" {
    fn trainctl_gradients_new(
        leaves: *const *const C_tensor,
        offsets: *const usize,
        padded_lens: *const usize,
        count: usize,
        error: *mut c_char,
        capacity: usize,
    ) -> *mut c_void;
    fn trainctl_gradients_free(handle: *mut c_void);
    fn trainctl_gradients_backward(
        handle: *mut c_void,
        loss: *const C_tensor,
        out: *mut f32,
        elsewhere: *const C_tensor,
        ready: extern "C" fn(*mut c_void, usize),
        context: *mut c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
}
