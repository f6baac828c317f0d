//! The gRPC services.

mod jobs;
mod logs;
mod machines;
mod submit;
mod watch;
mod workers;

pub(crate) use jobs::JobsService;
pub(crate) use machines::MachinesService;
pub(crate) use workers::WorkersService;

use std::pin::Pin;
use tokio_stream::Stream;
use tonic::Status;

/// Messages that a request may hold, such as a manifest of many objects.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Bytes of what a worker says at once: much more than any failure's reason takes. It goes into records.
pub(crate) const WORKER_MESSAGE_BYTES_MAX: usize = 256 << 10;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
