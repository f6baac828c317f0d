//! Real files in real folders: pinned, opened, broken.

mod archives;
mod csv;
mod dvc;
mod examples;
mod faults;
mod folder;
mod idx;
mod images;
mod notes;
mod old;
mod parquet;
mod streaming;
mod tables;
mod tar;
mod text;
mod trees;
