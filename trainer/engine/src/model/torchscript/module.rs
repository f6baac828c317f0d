//! A loaded TorchScript module through the shim: its tensors, and passes over them. libtorch's JIT neither profiles nor
//! optimises here, so that a graph's first run uses the kernels of its thousandth.

use crate::torch::Said;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use tch::{TchError, Tensor};
use torch_sys::C_tensor;

/// How a module holds a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Parameter,
    Buffer,
    /// An attribute that is neither.
    Attribute,
}

/// One of the module's tensors: libtorch's own, not a copy.
pub(super) struct Named {
    /// With the names of the modules that it lies in, such as `blocks.0.norm.weight`.
    pub(super) name: String,
    pub(super) kind: Held,
    /// Its number among the module's tensors.
    pub(super) number: usize,
    pub(super) tensor: Tensor,
}

/// A module.
pub(super) struct Module {
    handle: NonNull<c_void>,
    tensors: usize,
}

// SAFETY: the shim's object has no tie to a thread, and passes take `&mut self`.
#[expect(unsafe_code, reason = "a handle to the shim's object")]
unsafe impl Send for Module {}

impl Module {
    /// Reads what `torch.jit.save` wrote.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn load(bytes: &[u8]) -> Result<Self, TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: the bytes are read during the call only.
        let handle = unsafe { trainctl_module_load(bytes.as_ptr().cast(), bytes.len(), error, capacity) };
        Ok(Self { handle: NonNull::new(handle).ok_or_else(|| said.error())?, tensors: 0 })
    }

    /// All tensors that it holds, in its own order.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn tensors(&mut self) -> Result<Vec<Named>, TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        let mut tensors: Vec<Named> = Vec::new();
        // SAFETY: `visit` is called during the call only, with `tensors` borrowed by nobody else.
        let done = unsafe {
            trainctl_module_tensors(
                self.handle.as_ptr(),
                visit,
                std::ptr::from_mut(&mut tensors).cast(),
                error,
                capacity,
            )
        };
        self.tensors = tensors.len();
        if done { Ok(tensors) } else { Err(said.error()) }
    }

    /// Has it compute with the tensors of another module of the same file. What else it holds stays its own.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn share(&mut self, of: &Self) -> Result<(), TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: both handles are the shim's, and the other one is read during the call only.
        let done = unsafe { trainctl_module_share(self.handle.as_ptr(), of.handle.as_ptr(), error, capacity) };
        self.tensors = of.tensors;
        if done { Ok(()) } else { Err(said.error()) }
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
    pub(super) fn forward(&mut self, input: &Tensor, training: bool) -> Result<Tensor, TchError> {
        self.run(input, training, false)
    }

    /// A training pass after which tensors may be other ones, of other shapes: what is lazy in it takes shape.
    pub(super) fn first_pass(&mut self, input: &Tensor) -> Result<Tensor, TchError> {
        self.run(input, true, true)
    }

    #[expect(unsafe_code, reason = "calls the shim")]
    fn run(&mut self, input: &Tensor, training: bool, adopt: bool) -> Result<Tensor, TchError> {
        let mut said = Said::default();
        let (error, capacity) = said.room();
        // SAFETY: the input is read during the call only; the result is a tensor of its own.
        unsafe {
            let output =
                trainctl_module_forward(self.handle.as_ptr(), input.as_ptr(), training, adopt, error, capacity);
            if output.is_null() { Err(said.error()) } else { Ok(Tensor::from_ptr(output)) }
        }
    }

    /// Whether the last pass wrote to the tensor of this number, by an operation that says so. BatchNorm's says nothing
    /// of its running statistics.
    #[expect(unsafe_code, reason = "calls the shim")]
    pub(super) fn changed(&self, tensor: usize) -> bool {
        assert!(tensor < self.tensors, "tensor {tensor} of {}", self.tensors);
        // SAFETY: there is such a tensor.
        unsafe { trainctl_module_changed(self.handle.as_ptr(), tensor) }
    }
}

/// A digest of a tensor's values, as they are in memory.
#[expect(unsafe_code, reason = "calls the shim")]
pub(super) fn digest(tensor: &Tensor) -> Result<blake3::Hash, TchError> {
    let mut hasher = blake3::Hasher::new();
    let mut said = Said::default();
    let (error, capacity) = said.room();
    // SAFETY: `take` is called during the call only, with the hasher borrowed by nobody else.
    let done = unsafe {
        trainctl_tensor_bytes(tensor.as_ptr(), take, std::ptr::from_mut(&mut hasher).cast(), error, capacity)
    };
    if done { Ok(hasher.finalize()) } else { Err(said.error()) }
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
extern "C" fn visit(context: *mut c_void, name: *const c_char, kind: u8, tensor: *mut C_tensor) {
    // SAFETY: the context is that of `tensors`, the name ends with a zero, and the tensor is handed over.
    let (tensors, name, tensor) =
        unsafe { (&mut *context.cast::<Vec<Named>>(), CStr::from_ptr(name), Tensor::from_ptr(tensor)) };
    let kind = match kind {
        0 => Held::Parameter,
        1 => Held::Buffer,
        _ => Held::Attribute,
    };
    tensors.push(Named { name: name.to_string_lossy().into_owned(), kind, number: tensors.len(), tensor });
}

/// Takes a tensor's bytes in.
#[expect(unsafe_code, reason = "called by the shim")]
extern "C" fn take(context: *mut c_void, bytes: *const c_void, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: the context is that of `digest`, and the shim shows so many bytes for the time of the call.
    let (hasher, bytes) =
        unsafe { (&mut *context.cast::<blake3::Hasher>(), std::slice::from_raw_parts(bytes.cast::<u8>(), len)) };
    hasher.update(bytes);
}

#[expect(unsafe_code, reason = "the shim")]
unsafe extern "C" {
    fn trainctl_module_load(bytes: *const c_char, len: usize, error: *mut c_char, capacity: usize) -> *mut c_void;
    fn trainctl_module_save(handle: *const c_void, path: *const c_char, error: *mut c_char, capacity: usize) -> bool;
    fn trainctl_module_free(handle: *mut c_void);
    fn trainctl_module_tensors(
        handle: *mut c_void,
        visit: extern "C" fn(*mut c_void, *const c_char, u8, *mut C_tensor),
        context: *mut c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
    fn trainctl_module_share(handle: *mut c_void, of: *const c_void, error: *mut c_char, capacity: usize) -> bool;
    fn trainctl_module_to_cuda(handle: *mut c_void, number: i8, error: *mut c_char, capacity: usize) -> bool;
    fn trainctl_module_forward(
        handle: *mut c_void,
        input: *const C_tensor,
        training: bool,
        adopt: bool,
        error: *mut c_char,
        capacity: usize,
    ) -> *mut C_tensor;
    fn trainctl_module_changed(handle: *const c_void, tensor: usize) -> bool;
    fn trainctl_tensor_bytes(
        tensor: *const C_tensor,
        take: extern "C" fn(*mut c_void, *const c_void, usize),
        context: *mut c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
}
