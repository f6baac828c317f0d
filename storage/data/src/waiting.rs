//! Where calls of a store run: one runtime for the whole crate, so that connections are kept from call to call, and a
//! way to wait for them from any thread.

use crate::error::DataError;
use std::io;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that speak with stores and take digests.
const THREADS: usize = 2;

/// The runtime. `shown` is what an error names.
pub(crate) fn runtime(shown: &str) -> Result<&'static Runtime, DataError> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let make = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("data").enable_all().build();
    RUNTIME.get_or_init(make).as_ref().map_err(|error| DataError::File {
        path: shown.to_owned(),
        done: "read",
        source: io::Error::new(error.kind(), error.to_string()),
    })
}

/// Runs a call of the store to its end, whether or not the caller runs in a runtime of its own.
pub(crate) fn wait<T: Send>(
    shown: &str,
    call: impl Future<Output = Result<T, DataError>> + Send,
) -> Result<T, DataError> {
    let runtime = runtime(shown)?;
    if Handle::try_current().is_err() {
        return runtime.block_on(call);
    }
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| runtime.block_on(call));
        caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
