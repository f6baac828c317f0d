//! The exported file: that it is the pinned one, and what is wrong with one that libtorch can't load.

use crate::error::EngineError;
use std::io::Cursor;
use tch::TchError;
use trainctl_jobs::ModuleFile;

const EXPORT: &str = "export the module with torch.jit.script(module).save(path)";

/// Reads the file. What is verified is what is loaded.
pub(super) fn read(path: &str, digest: &str) -> Result<Vec<u8>, EngineError> {
    let bytes = std::fs::read(path).map_err(|error| EngineError::Spec {
        field: "model.path",
        expected: "a file that this worker can read".to_owned(),
        found: format!("{path}: {error}"),
        hint: "put the exported module where all workers find it under the same path",
    })?;
    let found = format!("blake3:{}", blake3::hash(&bytes).to_hex());
    if found != digest {
        return Err(EngineError::Spec {
            field: "model.digest",
            expected: format!("{digest}, as the job pins it"),
            found: format!("{found} in {path}"),
            hint: "restore the file that the job was submitted with, or submit a new job with the new digest",
        });
    }
    // Bytes in memory can be read; what can't be told is left to libtorch.
    let file = ModuleFile::look(Cursor::new(&bytes)).unwrap_or(ModuleFile::Torchscript);
    match file.found() {
        None => Ok(bytes),
        Some(found) => Err(EngineError::Spec {
            field: "model.path",
            expected: "a TorchScript file".to_owned(),
            found: format!("{found}, in {path}"),
            hint: file.hint(),
        }),
    }
}

/// Why libtorch can't load it.
pub(super) fn not_loaded(path: &str, error: TchError) -> EngineError {
    let text = match error {
        TchError::Torch(text) => text,
        other => other.to_string(),
    };
    let spec = |expected: &str, found: String, hint| EngineError::Spec {
        field: "model.path",
        expected: expected.to_owned(),
        found,
        hint,
    };
    if let Some(operator) = text.strip_prefix("Unknown builtin op: ") {
        let operator = operator.trim_end_matches('.');
        return spec(
            "a module of torch's own operators",
            format!("the operator {operator} in {path}"),
            "workers have libtorch alone: write it with torch's own operators",
        );
    }
    // The sentence after the first says that it is an internal error.
    let reason = text.split(". ").next().unwrap_or_default();
    spec("a module that libtorch loads", format!("{path}: {reason}"), EXPORT)
}
