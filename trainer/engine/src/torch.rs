//! libtorch's process-wide settings: threads, the random generator, and what it says about itself.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::TchError;

/// Bits depend on how a sum is cut among threads, so there is one.
pub(crate) const THREADS: i32 = 1;

/// Holds the thread count for the calling thread. OpenMP counts per thread, so each entry point calls it.
pub(crate) fn pin_threads() {
    if tch::get_num_threads() != THREADS {
        tch::set_num_threads(THREADS);
    }
}

static GENERATOR: Mutex<()> = Mutex::new(());

/// Seeds libtorch's generator and keeps other engines of this process off it until the guard is dropped.
pub(crate) fn seeded(seed: u64) -> MutexGuard<'static, ()> {
    let guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed.cast_signed());
    guard
}

/// Room for the reason why a call of the shim failed.
pub(crate) struct Said {
    text: Box<[u8; 8192]>,
}

impl Default for Said {
    fn default() -> Self {
        Self { text: Box::new([0; 8192]) }
    }
}

impl Said {
    /// Where the shim writes it, and how much fits with the zero at its end.
    pub(crate) fn room(&mut self) -> (*mut c_char, usize) {
        (self.text.as_mut_ptr().cast(), self.text.len())
    }

    /// What the shim wrote.
    pub(crate) fn error(&self) -> TchError {
        let end = self.text.iter().position(|&byte| byte == 0).unwrap_or(self.text.len());
        TchError::Torch(String::from_utf8_lossy(&self.text[..end]).into_owned())
    }
}

/// From now on GPUs give the same bits for the same input: libtorch takes deterministic kernels only, and refuses
/// operations that have none.
#[expect(unsafe_code, reason = "calls the shim")]
pub(crate) fn compute_alike_on_gpus() -> Result<(), TchError> {
    unsafe extern "C" {
        fn trainctl_torch_deterministic(error: *mut c_char, capacity: usize) -> bool;
    }
    let mut said = Said::default();
    let (error, capacity) = said.room();
    // SAFETY: the shim writes at most `capacity` bytes to `error` and keeps no pointer.
    if unsafe { trainctl_torch_deterministic(error, capacity) } { Ok(()) } else { Err(said.error()) }
}

/// From now on memory that is freed stays with the process, and the main thread's lies on huge pages where the system has
/// them for who asks. A pass frees its activations, and the next one allocates as much again: what had gone back to the
/// system meanwhile would come page by page, cleared each time.
#[expect(unsafe_code, reason = "calls the shim")]
pub(crate) fn keep_memory() {
    unsafe extern "C" {
        fn trainctl_torch_keep_memory(huge_pages: bool);
    }
    // 2: addresses count as memory, and other processes would be left with the rest.
    let accounting = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    let huge_pages = accounting.is_ok_and(|mode| mode.trim() != "2");
    // SAFETY: keeps no pointer, and may be called at any time from any thread.
    unsafe { trainctl_torch_keep_memory(huge_pages) }
}

/// What libtorch says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Such as `2.13.0`.
    pub(crate) version: String,
    /// The instruction set that its own kernels use here, such as `AVX512`.
    pub(crate) cpu_capability: String,
}

/// Asks libtorch.
#[expect(unsafe_code, reason = "the shim's one function")]
pub(crate) fn config() -> Config {
    unsafe extern "C" {
        fn trainctl_torch_config(out: *mut std::ffi::c_char, capacity: usize) -> usize;
    }
    let mut text = [0u8; 256];
    // SAFETY: the shim writes at most `capacity` bytes to `out` and keeps no pointer.
    let length = unsafe { trainctl_torch_config(text.as_mut_ptr().cast(), text.len()) };
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
    let (version, cpu_capability) = text.split_once('\n').unwrap_or((&text, ""));
    Config { version: version.to_owned(), cpu_capability: cpu_capability.to_owned() }
}
