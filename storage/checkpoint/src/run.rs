//! `run.json`: what ran. It is written once, by the first worker, and every attempt that goes on with the run must agree
//! with it: only equal pins give equal bits.

use crate::error::CheckpointError;
use crate::events::RunEvent;
use crate::folder::RunFolder;
use crate::manifest::{parse_versioned, to_json};
use crate::names;
use object_store::PutMode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The newest format of run records that this program reads, and the one that it writes.
pub const RUN_FORMAT_VERSION: u32 = 1;

/// The sections of a job spec that decide the result. Resources, policy and checkpointing may change between two
/// attempts at a job.
const PINNED_SECTIONS: [&str; 4] = ["name", "data", "model", "train"];
/// How often another worker may have changed the record before a note is given up.
const NOTE_TRIES_MAX: usize = 8;
/// Where manifest and module lie does not matter: their digests are pinned. What is computed twice gives the same bits.
const NOT_PINNED: [&str; 3] = ["job.data.manifest", "job.model.path", "job.train.audit"];

/// What ran, or runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_FORMAT_VERSION`] of the program that wrote it.
    pub format_version: u32,
    /// The job spec, resolved.
    pub job: Value,
    /// Of the data manifest, `blake3:...`.
    pub data_digest: String,
    /// Of trainctl.
    pub program_version: String,
    /// Of libtorch.
    pub libtorch_version: String,
    /// Computed again from the same pins, the run would give the same bits. Not with `train.numerics = "fast"`: then
    /// machines of any fingerprint took part, and sums were made in no fixed order.
    #[serde(default = "yes")]
    pub reproducible: bool,
    /// Numerics fingerprint of the first group; with `fast` numerics, of the worker that wrote this.
    pub fingerprint: String,
    /// What it was measured on: threads, device.
    #[serde(default)]
    pub fingerprint_detail: String,
    /// Parameters, sample order and dropout follow from it.
    pub seed: u64,
    /// Unix milliseconds.
    pub submitted_ms: i64,
    /// What a reader of the result should know of the way to it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<RunEvent>,
}

/// Records from before there was any other kind.
fn yes() -> bool {
    true
}

/// How [`RunFolder::claim_run`] found the folder.
#[derive(Clone, PartialEq, Debug)]
pub enum Claim {
    /// Empty; it is this run's now.
    New,
    /// This run's already. The record is the one written then.
    Resumed(Box<RunRecord>),
}

impl RunFolder {
    /// Writes the record if the folder has none, and says whether it did.
    ///
    /// # Errors
    /// [`CheckpointError::Full`], [`CheckpointError::Io`].
    pub async fn write_run(&self, record: &RunRecord) -> Result<bool, CheckpointError> {
        self.put(&self.run_path(), to_json(record), PutMode::Create).await
    }

    /// The folder's record, if it has one.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`], [`CheckpointError::FormatVersion`], [`CheckpointError::Io`].
    pub async fn read_run(&self) -> Result<Option<RunRecord>, CheckpointError> {
        let path = self.run_path();
        let Some(bytes) = self.get(&path).await? else { return Ok(None) };
        parse_versioned(&self.shown(&path), &bytes, RUN_FORMAT_VERSION, "a run record").map(Some)
    }

    /// Takes the folder for this run, or finds that it is this run's already.
    ///
    /// # Errors
    /// [`CheckpointError::PinDiffers`] names the first pin in which the run there differs; else as
    /// [`write_run`](Self::write_run) and [`read_run`](Self::read_run).
    pub async fn claim_run(&self, record: &RunRecord) -> Result<Claim, CheckpointError> {
        if self.write_run(record).await? {
            return Ok(Claim::New);
        }
        let Some(recorded) = self.read_run().await? else {
            return Err(CheckpointError::io(
                "read",
                self.shown(&self.run_path()),
                "removed while it was being claimed",
            ));
        };
        let (expected, found) = (record.pins(), recorded.pins());
        let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for pin in names {
            if expected.get(pin) != found.get(pin) {
                let text =
                    |pins: &BTreeMap<String, Value>| pins.get(pin).map_or("nothing".to_owned(), Value::to_string);
                return Err(CheckpointError::PinDiffers {
                    object: self.shown(&self.run_path()),
                    pin: pin.clone(),
                    expected: text(&expected),
                    found: text(&found),
                });
            }
        }
        Ok(Claim::Resumed(Box::new(recorded)))
    }

    /// Adds events to the record, or what became known of a corruption since: who was wrong, where the run went on.
    /// Nothing if the folder has no record. Several workers may do this at once.
    ///
    /// # Errors
    /// As [`read_run`](Self::read_run) and [`write_run`](Self::write_run); [`CheckpointError::Io`] as well when others
    /// change the record again and again.
    pub async fn note(&self, events: &[RunEvent]) -> Result<(), CheckpointError> {
        let path = self.run_path();
        let object = self.shown(&path);
        for _ in 0..NOTE_TRIES_MAX {
            let Some((bytes, version)) = self.get_version(&path).await? else { return Ok(()) };
            let mut record: RunRecord = parse_versioned(&object, &bytes, RUN_FORMAT_VERSION, "a run record")?;
            let before = record.events.clone();
            record.add(events);
            if record.events == before || self.put(&path, to_json(&record), PutMode::Update(version)).await? {
                return Ok(());
            }
        }
        Err(CheckpointError::io("write", object, format!("changed by others {NOTE_TRIES_MAX} times meanwhile")))
    }

    fn run_path(&self) -> object_store::path::Path {
        self.base.clone().join(names::RUN)
    }
}

impl RunRecord {
    /// What must be equal for the bits to be: each pin by its path.
    pub fn pins(&self) -> BTreeMap<String, Value> {
        let mut pins = BTreeMap::new();
        for section in PINNED_SECTIONS {
            flatten(&format!("job.{section}"), &self.job[section], &mut pins);
        }
        for pin in NOT_PINNED {
            pins.remove(pin);
        }
        let mut pin = |name: &str, value: Value| pins.insert(name.to_owned(), value);
        pin("data_digest", self.data_digest.clone().into());
        pin("program_version", self.program_version.clone().into());
        pin("seed", self.seed.into());
        // A job with `numerics = "fast"` mixes machines and promises no bits.
        if self.job["train"]["numerics"] != "fast" {
            pin("libtorch_version", self.libtorch_version.clone().into());
            pin("fingerprint", self.fingerprint.clone().into());
        }
        pins
    }
}

fn flatten(path: &str, value: &Value, pins: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{path}.{key}"), value, pins);
            }
        }
        Value::Null => {}
        value => {
            pins.insert(path.to_owned(), value.clone());
        }
    }
}
