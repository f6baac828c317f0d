//! Google Compute Engine, as far as the coordinator and its workers see it. There is no emulator of it by others; this
//! one follows the API's reference, with the faults that a real cloud has.

mod cloud;
mod compute;
mod machine;
mod metadata;

pub use cloud::{Fault, How};
pub use machine::{Boot, Booted};
pub use metadata::GceMetadata;

use crate::web::{Misbehaviour, Mood, Web};
use cloud::Cloud;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A running Compute API with no VMs.
#[derive(Debug)]
pub struct FakeGce {
    web: Web,
    mood: Mood,
    cloud: Arc<Cloud>,
}

impl FakeGce {
    /// Starts one whose VMs do nothing.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Box::new(|_| None))
    }

    /// Starts one that starts what `boot` says for each VM. A VM whose process ends powers itself off.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start_with(boot: Boot) -> Self {
        let (cloud, mood) = (Arc::new(Cloud::new(boot)), Mood::default());
        let web = Web::serve(mood.over(compute::routes(Arc::clone(&cloud))));
        Self { web, mood, cloud }
    }

    /// Its endpoint, without a path.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.web.address())
    }

    /// How long operations take from now on.
    pub fn operations_take(&self, time: Duration) {
        self.cloud.lock().operation_takes = time;
    }

    /// How many VMs a page of a list has at most from now on.
    pub fn page(&self, length: usize) {
        self.cloud.lock().page = length;
    }

    /// Refuses insertions from now on; the newest that fits holds.
    pub fn fail(&self, fault: Fault) {
        self.cloud.lock().faults.insert(0, fault);
    }

    /// Refuses nothing any more.
    pub fn mend(&self) {
        self.cloud.lock().faults.clear();
    }

    /// Fails at everything from now on; `None`: behaves again.
    pub fn misbehave(&self, misbehaviour: Option<Misbehaviour>) {
        self.mood.set(misbehaviour);
    }

    /// Answers the next so many insertions after the VM is made with a cut connection.
    pub fn lose_answers(&self, insertions: u32) {
        self.cloud.lock().lost_answers = insertions;
    }

    /// For how long new VMs are in no list from now on.
    pub fn list_late(&self, time: Duration) {
        self.cloud.lock().unlisted_for = time;
    }

    /// Makes a VM of somebody else, as a JSON resource with a name.
    pub fn make(&self, project: &str, zone: &str, resource: Value) {
        self.cloud.make(project, zone, resource);
    }

    /// Takes a Spot VM: its metadata server says so now, and after the notice it is gone.
    ///
    /// # Panics
    /// There is no such VM.
    pub fn preempt(&self, name: &str, notice: Duration) {
        self.cloud.preempt(name, notice);
    }

    /// The VM stops by itself.
    ///
    /// # Panics
    /// There is no such VM.
    pub fn power_off(&self, name: &str) {
        self.cloud.power_off(name);
    }

    /// The VM is gone, and nothing tells why.
    pub fn vanish(&self, name: &str) {
        self.cloud.vanish(name);
    }

    /// All VMs, as the API lists them.
    #[must_use]
    pub fn vms(&self) -> Vec<Value> {
        self.cloud.lock().vms()
    }

    /// VMs that were made since it started, whoever asked.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.cloud.lock().made
    }

    /// Requests to insert since it started.
    #[must_use]
    pub fn insertions(&self) -> u32 {
        self.cloud.lock().insertions
    }
}
