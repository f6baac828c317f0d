//! Real files in real folders: pinned, opened, broken.

mod csv;
mod dvc;
mod examples;
mod faults;
mod folder;
mod idx;
mod parquet;
mod streaming;
mod tar;
mod text;
