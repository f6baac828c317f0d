//! Real files in real folders: pinned, opened, broken.

mod csv;
mod examples;
mod faults;
mod folder;
mod idx;
mod parquet;
mod text;
