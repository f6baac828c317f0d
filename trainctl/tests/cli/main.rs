//! The real binary, as its users meet it: what it prints, where, and with which exit code.

mod checkpoints;
mod coordinator;
mod data;
mod errors;
mod help;
mod local;
mod place;
