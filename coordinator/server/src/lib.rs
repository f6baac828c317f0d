//! The coordinator as a process: it drives the pure scheduler, keeps its records, runs workers through providers and
//! speaks gRPC to people and workers. [`serve`] starts one.

mod auth;
mod clock;
mod convert;
mod driver;
mod home;
mod job_keys;
mod logs;
mod pools;
mod prepare;
mod providers;
mod records;
mod refusal;
mod serve;
mod services;
mod stop;
mod store;
mod views;
mod whole;

pub use coordinator_provider::table::{Problem, Problems};
pub use driver::DriverError;
pub use home::{CoordinatorFile, HomeError};
pub use records::RecordError;
pub use serve::{Options, Running, ServeError, Tls, default_worker_program, serve};
pub use store::{FAIL_AT_VARIABLE, FailAt, MemoryStore, SledStore, Store, StoreError};
