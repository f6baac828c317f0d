//! One GPU, by its primary context, which is the one that libtorch uses too.

use crate::error::NcclError;
use crate::settle::Progress;
use cudarc::driver::{CudaContext, sys};
use std::sync::Arc;

/// An opened CUDA device.
#[derive(Clone, Debug)]
pub struct Device {
    context: Arc<CudaContext>,
}

impl Device {
    /// The device of this number, as CUDA and libtorch count.
    ///
    /// # Errors
    /// [`NcclError::NoDevice`].
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    pub fn open(ordinal: usize) -> Result<Self, NcclError> {
        let none = |detail: String| NcclError::NoDevice { ordinal, detail };
        // SAFETY: the driver's initialisers are meant to be run so. Without the library, the calls below panic.
        if !unsafe { sys::is_culib_present() } {
            return Err(none("there is no NVIDIA driver here (libcuda.so is not found)".to_owned()));
        }
        let count = CudaContext::device_count().map_err(|e| none(e.to_string()))?;
        if usize::try_from(count).unwrap_or(0) <= ordinal {
            return Err(none(format!("the driver has {count} devices")));
        }
        let context = CudaContext::new(ordinal).map_err(|e| none(e.to_string()))?;
        Ok(Self { context })
    }

    /// Its number.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }

    /// Makes it the calling thread's device, which NCCL's calls refer to.
    pub(crate) fn bind(&self) -> Result<(), NcclError> {
        let failed = |e: cudarc::driver::DriverError| NcclError::Failed {
            doing: "make a CUDA device this thread's",
            detail: e.to_string(),
        };
        self.context.bind_to_thread().map_err(failed)
    }

    /// Whether all that was put on this stream of the bound device is done.
    #[expect(unsafe_code, reason = "the driver is called")]
    pub(crate) fn progress(doing: &'static str, stream: sys::CUstream) -> Result<Progress, NcclError> {
        // SAFETY: the caller names a stream of the bound context; null is its default stream.
        match unsafe { sys::cuStreamQuery(stream) } {
            sys::CUresult::CUDA_SUCCESS => Ok(Progress::Done),
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(Progress::Underway),
            code => Err(NcclError::Failed { doing, detail: cudarc::driver::DriverError(code).to_string() }),
        }
    }
}
