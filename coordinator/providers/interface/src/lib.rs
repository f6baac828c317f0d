//! What the driver asks of whoever runs instances. What to launch and where is decided in the scheduler; a provider does
//! it and tells what became of it, as [`coordinator_core::Event`]s on the one channel that it was made with.
//!
//! # The shape of a provider's crate
//!
//! ```text
//! /// One `[pools.NAME]` of its kind; `kind` has been read. Problems are noted in the table; `None`: there are some.
//! pub fn parse(table: &mut Table<'_>) -> Option<XPoolConfig>;
//!
//! pub struct XConfig {
//!     pub cluster: String,                        // tags every instance
//!     pub coordinator_url: String,                // how machines reach the coordinator
//!     pub token: WorkerToken,                     // makes the token of an instance's worker
//!     pub bundle: Bundle,                         // what a machine fetches and runs
//!     pub pools: Vec<XPoolConfig>,                // each with the name of its table
//!     pub events: mpsc::UnboundedSender<Event>,   // the one channel
//! }
//!
//! /// Returns at once, in a tokio runtime; an API that does not answer is asked again, and told of in the log.
//! pub fn start(config: XConfig) -> Arc<dyn Provider>;
//! ```
//!
//! [`table`] reads the tables; the module `conformance`, of the feature with that name, is the test of what every provider
//! must do.

#[cfg(feature = "conformance")]
pub mod conformance;
mod provider;
pub mod table;

pub use provider::{Bundle, LaunchRequest, PoolView, Provider, UnknownPool, WorkerToken};
