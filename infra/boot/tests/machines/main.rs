//! What a machine is told, and what it does then.

mod fetch;
mod machine;
mod metadata;
mod text;
