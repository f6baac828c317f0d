//! What the cloud holds: VMs and operations, and how both go on by themselves.

use super::machine::{Boot, Booted, Machine};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const BASE: &str = "https://www.googleapis.com/compute/v1";

/// A refusal to make VMs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// In this zone only.
    pub zone: Option<String>,
    /// For Spot VMs only, or for the others only.
    pub spot: Option<bool>,
    /// How it is told.
    pub how: How,
    /// `ZONE_RESOURCE_POOL_EXHAUSTED`, `quotaExceeded`.
    pub code: String,
    /// In words.
    pub message: String,
    /// How many times; `None`: until it is mended.
    pub times: Option<u32>,
}

/// How a refusal is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The request itself is refused with this status.
    Request(u16),
    /// The request is accepted, and the operation fails.
    Operation,
}

pub(super) struct Cloud {
    books: Mutex<Books>,
    boot: Boot,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("books", &self.books).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Books {
    /// By project, zone and name.
    vms: BTreeMap<(String, String, String), Vm>,
    /// By name.
    pub(super) operations: BTreeMap<String, Value>,
    /// What a request's id led to.
    pub(super) requests: BTreeMap<String, String>,
    pub(super) faults: Vec<Fault>,
    pub(super) operation_takes: Duration,
    pub(super) page: usize,
    pub(super) lost_answers: u32,
    /// New VMs are in no list for so long.
    pub(super) unlisted_for: Duration,
    pub(super) made: u32,
    pub(super) insertions: u32,
    number: u64,
}

#[derive(Debug)]
struct Vm {
    resource: Value,
    made: Instant,
    machine: Option<Machine>,
}

/// What an operation does when it is done.
pub(super) enum Effect {
    Run,
    Remove,
    Fail { code: String, message: String },
}

impl Cloud {
    pub(super) fn new(boot: Boot) -> Self {
        let books = Books {
            vms: BTreeMap::new(),
            operations: BTreeMap::new(),
            requests: BTreeMap::new(),
            faults: Vec::new(),
            operation_takes: Duration::from_millis(20),
            page: 500,
            lost_answers: 0,
            unlisted_for: Duration::ZERO,
            made: 0,
            insertions: 0,
            number: 1000,
        };
        Self { books: Mutex::new(books), boot }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn make(&self, project: &str, zone: &str, resource: Value) {
        self.lock().enter(project, zone, resource, "RUNNING");
    }

    pub(super) fn preempt(self: &Arc<Self>, name: &str, notice: Duration) {
        let key = {
            let mut books = self.lock();
            let key = books.key(name);
            let vm = books.vms.get_mut(&key).expect("just found");
            if let Some(machine) = &vm.machine {
                // The button is pressed too: a real machine shuts down while it is taken.
                machine.metadata().preempt();
                machine.shut_down();
            }
            vm.resource["status"] = json!("STOPPING");
            let (project, zone) = (key.0.clone(), key.1.clone());
            books.operation(&project, &zone, "compute.instances.preempted", name, "DONE");
            key
        };
        let cloud = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(notice);
            let mut books = cloud.lock();
            let deletes = |vm: &Vm| vm.resource["scheduling"]["instanceTerminationAction"] == "DELETE";
            match books.vms.get_mut(&key) {
                Some(vm) if deletes(vm) => drop(books.vms.remove(&key)),
                Some(vm) => vm.stop(),
                None => {}
            }
        });
    }

    pub(super) fn power_off(&self, name: &str) {
        let mut books = self.lock();
        let key = books.key(name);
        books.vms.get_mut(&key).expect("just found").stop();
    }

    pub(super) fn vanish(&self, name: &str) {
        let mut books = self.lock();
        books.vms.retain(|(_, _, known), _| known != name);
    }

    /// Lets an operation on a VM take its time, and then its effect.
    pub(super) fn go_on(self: &Arc<Self>, operation: String, key: (String, String, String), effect: Effect) {
        let (cloud, takes) = (Arc::clone(self), self.lock().operation_takes);
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            let booted = cloud.lock().finish(&operation, &key, effect);
            if booted {
                cloud.boot(&key);
            }
        });
    }

    fn boot(self: &Arc<Self>, key: &(String, String, String)) {
        let resource = self.lock().vms.get(key).map(|vm| vm.resource.clone());
        let Some(resource) = resource else { return };
        let (cloud, name) = (Arc::clone(self), key.2.clone());
        let ended = move || {
            let mut books = cloud.lock();
            if let Some(vm) = books.vms.values_mut().find(|vm| vm.resource["name"] == name.as_str()) {
                vm.stop();
            }
        };
        let machine = Machine::start(&self.boot, &Booted::new(&resource), ended);
        if let Some(vm) = self.lock().vms.get_mut(key) {
            vm.machine = Some(machine);
        }
    }
}

impl Vm {
    fn stop(&mut self) {
        self.resource["status"] = json!("TERMINATED");
        self.machine = None;
    }
}

impl Books {
    pub(super) fn vms(&self) -> Vec<Value> {
        self.vms.values().map(|vm| vm.resource.clone()).collect()
    }

    pub(super) fn vm(&self, key: &(String, String, String)) -> Option<&Value> {
        self.vms.get(key).map(|vm| &vm.resource)
    }

    pub(super) fn of_project<'b>(&'b self, project: &'b str) -> impl Iterator<Item = &'b Value> {
        let listed = move |((of, ..), vm): &(&(String, String, String), &Vm)| {
            of == project && vm.made.elapsed() >= self.unlisted_for
        };
        self.vms.iter().filter(listed).map(|(_, vm)| &vm.resource)
    }

    fn key(&self, name: &str) -> (String, String, String) {
        let key = self.vms.keys().find(|(_, _, known)| known == name);
        key.unwrap_or_else(|| panic!("there is no VM {name}")).clone()
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The fault for an insertion, if there is one; its count goes down.
    pub(super) fn fault(&mut self, zone: &str, resource: &Value) -> Option<Fault> {
        let spot = resource["scheduling"]["provisioningModel"] == "SPOT";
        let fits = |fault: &&mut Fault| {
            fault.zone.as_ref().is_none_or(|of| of == zone)
                && fault.spot.is_none_or(|of| of == spot)
                && fault.times != Some(0)
        };
        let fault = self.faults.iter_mut().find(fits)?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.clone())
    }

    /// Enters a VM and gives its key.
    pub(super) fn enter(
        &mut self,
        project: &str,
        zone: &str,
        mut resource: Value,
        status: &str,
    ) -> (String, String, String) {
        let name = resource["name"].as_str().expect("a VM has a name").to_owned();
        let id = self.next().to_string();
        let place = format!("{BASE}/projects/{project}/zones/{zone}");
        resource["kind"] = json!("compute#instance");
        resource["id"] = json!(id);
        resource["status"] = json!(status);
        resource["zone"] = json!(place);
        resource["creationTimestamp"] = json!(now());
        resource["selfLink"] = json!(format!("{place}/instances/{name}"));
        if let Some(machine_type) = resource["machineType"].as_str() {
            let last = machine_type.rsplit('/').next().unwrap_or_default();
            resource["machineType"] = json!(format!("{place}/machineTypes/{last}"));
        }
        let key = (project.to_owned(), zone.to_owned(), name);
        self.vms.insert(key.clone(), Vm { resource, made: Instant::now(), machine: None });
        self.made += 1;
        key
    }

    pub(super) fn stopping(&mut self, key: &(String, String, String)) {
        if let Some(vm) = self.vms.get_mut(key) {
            vm.resource["status"] = json!("STOPPING");
            if let Some(machine) = &vm.machine {
                machine.shut_down();
            }
        }
    }

    /// A new operation's name.
    pub(super) fn operation(&mut self, project: &str, zone: &str, kind: &str, target: &str, status: &str) -> String {
        let (number, id) = (self.next(), self.next().to_string());
        let name = format!("operation-{number}");
        let place = format!("{BASE}/projects/{project}/zones/{zone}");
        let operation = json!({
            "kind": "compute#operation", "id": id, "name": name, "operationType": kind, "status": status,
            "zone": place, "targetLink": format!("{place}/instances/{target}"), "progress": 0, "user": "tests@example.com",
            "insertTime": now(), "startTime": now(), "selfLink": format!("{place}/operations/{name}"),
        });
        self.operations.insert(name.clone(), operation);
        name
    }

    /// Whether a VM runs now.
    fn finish(&mut self, operation: &str, key: &(String, String, String), effect: Effect) -> bool {
        let Some(done) = self.operations.get_mut(operation) else { return false };
        done["status"] = json!("DONE");
        done["progress"] = json!(100);
        done["endTime"] = json!(now());
        match effect {
            Effect::Run => {
                if let Some(vm) = self.vms.get_mut(key) {
                    vm.resource["status"] = json!("RUNNING");
                    return true;
                }
            }
            Effect::Remove => drop(self.vms.remove(key)),
            Effect::Fail { code, message } => {
                done["error"] = json!({ "errors": [{ "code": code, "message": message }] });
                done["httpErrorStatusCode"] = json!(503);
                done["httpErrorMessage"] = json!("SERVICE UNAVAILABLE");
                self.vms.remove(key);
            }
        }
        false
    }
}

/// As the API writes times.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string();
    time.trim_end_matches('Z').to_owned() + "-00:00"
}
