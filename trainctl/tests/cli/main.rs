//! The real binary, as its users meet it: what it prints, where, and with which exit code.

mod buckets;
mod checkpoints;
mod coordinator;
mod data;
mod errors;
mod guide;
mod help;
mod local;
mod model;
mod place;
mod plan;
mod runs;
mod saved;
mod tls;
