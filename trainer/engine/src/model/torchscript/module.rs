//! A loaded TorchScript module through the shim: its tensors, and passes over them. libtorch's JIT neither profiles nor
//! optimises here, so that a graph's first run uses the kernels of its thousandth.

use crate::torch::Said;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use tch::{TchError, Tensor};
use torch_sys::C_tensor;

/// One of the module's tensors: libtorch's own, not a copy.
pub(super) struct Named {
    /// With the names of the modules that it lies in, such as `blocks.0.norm.weight`.
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// What a module holds, in its own order.
#[derive(Default)]
pub(super) struct Tensors {
    pub(super) parameters: Vec<Named>,
    pub(super) buffers: Vec<Named>,
}

/// A module.
pub(super) struct Module {
    handle: NonNull<c_void>,
    buffers: usize,
}

// SAFETY: the shim's object has no tie to a thread, and passes take `&mut self`.
#[expect(unsafe_code, reason = "a handle to the shim's object")]
unsafe impl Send for Module {}

impl Module {
    /// Reads what `torch.jit.save` wrote.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn load(bytes: &[u8]) -> Result<(Self, Tensors), TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: the bytes are read during the call only.
        let handle = unsafe { trainctl_module_load(bytes.as_ptr().cast(), bytes.len(), error, capacity) };
        let mut module = Self { handle: NonNull::new(handle).ok_or_else(|| said.error())?, buffers: 0 };
        let mut tensors = Tensors::default();
        let (error, capacity) = said.room();
        // SAFETY: `visit` is called during the call only, with `tensors` borrowed by nobody else.
        let done = unsafe {
            trainctl_module_tensors(
                module.handle.as_ptr(),
                visit,
                std::ptr::from_mut(&mut tensors).cast(),
                error,
                capacity,
            )
        };
        if !done {
            return Err(said.error());
        }
        module.buffers = tensors.buffers.len();
        Ok((module, tensors))
    }

    /// Writes it as `torch.jit.save` does; an existing file is replaced.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn save(&self, path: &Path) -> Result<(), TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the path is read during the call only.
        let done = unsafe { trainctl_module_save(self.handle.as_ptr(), path.as_ptr(), error, capacity) };
        if done { Ok(()) } else { Err(said.error()) }
    }

    /// Moves its tensors to the GPU of this number, those that [`Module::load`] gave with them.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn move_to_cuda(&mut self, number: usize) -> Result<(), TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        let number = i8::try_from(number).map_err(|_| TchError::Torch(format!("there is no GPU {number}")))?;
        // SAFETY: the handle is the shim's.
        let done = unsafe { trainctl_module_to_cuda(self.handle.as_ptr(), number, error, capacity) };
        if done { Ok(()) } else { Err(said.error()) }
    }

    /// Runs `forward`.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn forward(&mut self, input: &Tensor, training: bool) -> Result<Tensor, TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: the input is read during the call only; the result is a tensor of its own.
        unsafe {
            let output = trainctl_module_forward(self.handle.as_ptr(), input.as_ptr(), training, error, capacity);
            if output.is_null() { Err(said.error()) } else { Ok(Tensor::from_ptr(output)) }
        }
    }

    /// Whether the last pass wrote to the buffer of this number, by an operation that says so. BatchNorm's says nothing
    /// of its running statistics.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn changed(&self, buffer: usize) -> bool {
        assert!(buffer < self.buffers, "buffer {buffer} of {}", self.buffers);
        // SAFETY: there is such a buffer.
        unsafe { trainctl_module_changed(self.handle.as_ptr(), buffer) }
    }
}

impl Drop for Module {
    #[expect(unsafe_code, reason = "calls the shim")]
    fn drop(&mut self) {
        // SAFETY: the handle came from the shim and is not used again.
        unsafe { trainctl_module_free(self.handle.as_ptr()) }
    }
}

/// Takes one tensor over from the shim.
#[expect(unsafe_code, reason = "called by the shim")]
extern "C" fn visit(context: *mut c_void, name: *const c_char, is_parameter: bool, tensor: *mut C_tensor) {
    // SAFETY: the context is `load`'s, the name ends with a zero, and the tensor is handed over.
    let (tensors, name, tensor) =
        unsafe { (&mut *context.cast::<Tensors>(), CStr::from_ptr(name), Tensor::from_ptr(tensor)) };
    let into = if is_parameter { &mut tensors.parameters } else { &mut tensors.buffers };
    into.push(Named { name: name.to_string_lossy().into_owned(), tensor });
}

#[expect(unsafe_code, reason = "the shim")]
unsafe extern "C" {
    fn trainctl_module_load(bytes: *const c_char, len: usize, error: *mut c_char, capacity: usize) -> *mut c_void;
    fn trainctl_module_save(handle: *const c_void, path: *const c_char, error: *mut c_char, capacity: usize) -> bool;
    fn trainctl_module_free(handle: *mut c_void);
    fn trainctl_module_tensors(
        handle: *mut c_void,
        visit: extern "C" fn(*mut c_void, *const c_char, bool, *mut C_tensor),
        context: *mut c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
    fn trainctl_module_to_cuda(handle: *mut c_void, number: i8, error: *mut c_char, capacity: usize) -> bool;
    fn trainctl_module_forward(
        handle: *mut c_void,
        input: *const C_tensor,
        training: bool,
        error: *mut c_char,
        capacity: usize,
    ) -> *mut C_tensor;
    fn trainctl_module_changed(handle: *const c_void, buffer: usize) -> bool;
}
