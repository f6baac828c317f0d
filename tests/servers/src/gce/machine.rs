//! What stands for a VM: a metadata server of its own, and, if the test says so, a process that runs "on" it.

use super::metadata::GceMetadata;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What to start for a VM; `None`: nothing.
pub type Boot = Box<dyn Fn(&Booted) -> Option<Command> + Send + Sync>;

/// A VM as it boots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Booted {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its metadata, `user-data` among it.
    pub metadata: BTreeMap<String, String>,
}

impl Booted {
    pub(super) fn new(resource: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = resource["labels"].as_object().into_iter().flatten();
        let items = resource["metadata"]["items"].as_array().into_iter().flatten();
        Self {
            name: text(&resource["name"]),
            labels: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
            metadata: items.map(|item| (text(&item["key"]), text(&item["value"]))).collect(),
        }
    }
}

/// Ends with the VM: its process is killed.
#[derive(Debug)]
pub(super) struct Machine {
    metadata: GceMetadata,
    process: Option<Arc<Mutex<Child>>>,
}

impl Machine {
    /// `ended` is called when the process ends by itself.
    pub(super) fn start(boot: &Boot, booted: &Booted, ended: impl FnOnce() + Send + 'static) -> Self {
        let metadata = GceMetadata::start();
        let process = boot(booted).map(|mut command| {
            let child = command.envs(metadata.environment()).stdin(Stdio::null()).spawn();
            let child = child.unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
            let process = Arc::new(Mutex::new(child));
            let watched = Arc::downgrade(&process);
            std::thread::spawn(move || {
                while let Some(process) = watched.upgrade() {
                    let state = process.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
                    drop(process);
                    if !matches!(state, Ok(None)) {
                        return ended();
                    }
                    std::thread::sleep(BETWEEN_LOOKS);
                }
            });
            process
        });
        Self { metadata, process }
    }

    pub(super) fn metadata(&self) -> &GceMetadata {
        &self.metadata
    }

    /// The button is pressed: what runs hears SIGTERM.
    pub(super) fn shut_down(&self) {
        if let Some(process) = &self.process {
            let id = process.lock().unwrap_or_else(PoisonError::into_inner).id();
            let _ = Command::new("kill").args(["-TERM", &id.to_string()]).status();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
