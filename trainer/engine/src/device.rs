//! What passes are computed on: this machine's processor, or one of its GPUs.

use crate::error::{Doing, EngineError};
use crate::torch;
use cudarc::driver::{result, sys};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::error::Error as _;
use std::fmt;
use std::str::FromStr;

/// The part of libtorch that computes on GPUs. It is loaded only where a GPU is asked for, since it and what it loads
/// are gigabytes.
const CUDA_PART: &str = "libtorch_cuda.so";
/// cuBLAS adds in one order only if its work space is of a fixed size, which it asks the environment for.
const CUBLAS: (&str, &str) = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8");

/// Where a worker computes; see [`Wanted::find`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// This machine's processor.
    Cpu,
    /// The GPU of this number, as CUDA counts those that it may see (`CUDA_VISIBLE_DEVICES`).
    Cuda(u32),
    /// This machine's processor in the place of a GPU: with a copy of the parameters, and vectors of its own. It gives the
    /// processor's bits, and shows what a GPU would add to a worker.
    CpuAsGpu,
}

impl Device {
    /// Where libtorch computes on it.
    #[must_use]
    pub fn to_torch(self) -> tch::Device {
        match self {
            Self::Cpu | Self::CpuAsGpu => tch::Device::Cpu,
            Self::Cuda(number) => tch::Device::Cuda(number as usize),
        }
    }
}

/// Where a worker is asked to compute: `auto`, `cpu`, `cuda` for the first GPU, `cuda:1`, `cpu-as-gpu`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wanted {
    /// On the first GPU, if this libtorch can and there is one.
    #[default]
    Auto,
    /// There and nowhere else.
    On(Device),
}

/// Where a replica's parameters and buffers lie in a pass.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Placement {
    /// In the state itself.
    InState,
    /// In a copy, on this device.
    Beside(tch::Device),
}

impl From<Device> for Placement {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::InState,
            Device::Cuda(_) | Device::CpuAsGpu => Self::Beside(device.to_torch()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::CpuAsGpu => f.write_str("cpu-as-gpu"),
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse().map_err(|_| "expected auto, cpu, cuda, cuda:NUMBER or cpu-as-gpu".to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::On(Device::Cpu)),
            "cuda" => Ok(Self::On(Device::Cuda(0))),
            "cpu-as-gpu" => Ok(Self::On(Device::CpuAsGpu)),
            _ => Ok(Self::On(Device::Cuda(number(text.strip_prefix("cuda:").unwrap_or_default())?))),
        }
    }
}

impl Wanted {
    /// The device, ready to be computed on. To be called once, before anything else of this crate: libtorch looks for
    /// its part for GPUs when it is first used, and never again; and what is allocated later stays with the process.
    ///
    /// # Errors
    /// [`EngineError::Device`] when a GPU is asked for that can't be had.
    pub fn find(self) -> Result<Device, EngineError> {
        torch::keep_memory();
        match self {
            Self::On(device @ (Device::Cpu | Device::CpuAsGpu)) => Ok(device),
            Self::On(Device::Cuda(number)) => open(number).map(|()| Device::Cuda(number)),
            Self::Auto => Ok(open(0).map_or(Device::Cpu, |()| Device::Cuda(0))),
        }
    }
}

fn open(number: u32) -> Result<(), EngineError> {
    let error =
        |expected: &str, found: String, hint| EngineError::Device { expected: expected.to_owned(), found, hint };
    // The driver first: libtorch's part takes half a second and half a gigabyte.
    let count = devices().map_err(|why| error("an NVIDIA driver", why, "install one, or use --device cpu"))?;
    load_cuda_part().map_err(|why| {
        let hint = "set LIBTORCH to a libtorch that was built for CUDA, and build trainctl with it";
        error("a libtorch that can compute on GPUs", why, hint)
    })?;
    if number >= count || i64::from(number) >= tch::Cuda::device_count() {
        let found = format!("{count} of the driver's, {} of libtorch's", tch::Cuda::device_count());
        let hint = "look at `nvidia-smi`, at CUDA_VISIBLE_DEVICES, and whether the driver is new enough for libtorch";
        return Err(error(&format!("a GPU of number {number}"), found, hint));
    }
    torch::compute_alike_on_gpus().doing("fix the kernels")
}

#[expect(unsafe_code, reason = "loading a library runs its initialisers; the environment is changed")]
fn load_cuda_part() -> Result<(), String> {
    if std::env::var_os(CUBLAS.0).is_none() {
        // SAFETY: the caller calls this before it starts threads that could read the environment.
        unsafe { std::env::set_var(CUBLAS.0, CUBLAS.1) };
    }
    // SAFETY: its initialisers add its kernels to libtorch, which is what it is made for. It stays for good.
    match unsafe { Library::open(Some(CUDA_PART), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        // Its own words say only that it failed.
        Err(error) => Err(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

/// How many the driver has.
#[expect(unsafe_code, reason = "loading a library runs its initialisers")]
fn devices() -> Result<u32, String> {
    // SAFETY: the driver's initialisers are meant to be run so. Without the library, the calls below panic.
    if !unsafe { sys::is_culib_present() } {
        return Err("none (libcuda.so is not found)".to_owned());
    }
    let count = result::init().and_then(|()| result::device::get_count());
    count.map(|count| u32::try_from(count).unwrap_or(0)).map_err(|error| format!("one that says {error}"))
}

/// What the driver calls a GPU that was found.
pub(crate) fn name(number: u32) -> String {
    let ordinal = i32::try_from(number).unwrap_or(i32::MAX);
    let name = result::device::get(ordinal).and_then(result::device::get_name);
    name.unwrap_or_else(|error| format!("a GPU that says {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_in_few_ways() {
        let parse = |text: &str| text.parse::<Wanted>();
        assert_eq!(parse("auto"), Ok(Wanted::Auto));
        assert_eq!(parse("cpu"), Ok(Wanted::On(Device::Cpu)));
        assert_eq!(parse("cpu-as-gpu"), Ok(Wanted::On(Device::CpuAsGpu)));
        assert_eq!(parse("cuda"), parse("cuda:0"));
        assert_eq!(parse("cuda:3"), Ok(Wanted::On(Device::Cuda(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA", "cuda:99999999999"] {
            assert_eq!(parse(wrong), Err("expected auto, cpu, cuda, cuda:NUMBER or cpu-as-gpu".to_owned()), "{wrong}");
        }
    }
}
