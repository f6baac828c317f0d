//! Machines of EC2: for each instance that runs, the process that its user data starts, which hears of its end from a
//! metadata service of its own, as on a real one.

use crate::cloud_init::{decoded, worker};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use trainctl_test_servers::{Moto, MotoInstance};

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Goes on until dropped; then all machines are gone.
pub(crate) struct Ec2Machines {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ec2Machines {
    /// Starts what runs and what will. Logs go to this folder, one for each machine.
    pub(crate) fn start(moto: Arc<Moto>, logs: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut machines = Machines { moto, logs, running: BTreeMap::new(), addresses: 0 };
            while !stopping.load(Ordering::Relaxed) {
                machines.look();
                std::thread::sleep(BETWEEN_LOOKS);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ec2Machines {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Machines {
    moto: Arc<Moto>,
    logs: PathBuf,
    running: BTreeMap<String, Machine>,
    addresses: u8,
}

/// The process on an instance; `None`: it ended, and the machine powered itself off.
struct Machine(Option<Child>);

impl Machines {
    fn look(&mut self) {
        for instance in self.moto.instances() {
            match instance.state.as_str() {
                "running" if !self.running.contains_key(&instance.id) => self.boot(&instance),
                "running" | "pending" => {}
                // Without a warning: what warns is the metadata service.
                _ => drop(self.running.remove(&instance.id)),
            }
        }
        for (id, machine) in &mut self.running {
            if machine.ended() {
                machine.0 = None;
                self.moto.power_off(id);
            }
        }
    }

    fn boot(&mut self, instance: &MotoInstance) {
        self.addresses += 1;
        let log = File::create(self.logs.join(format!("{}.log", instance.id))).expect("write a log");
        // Each machine has an address of its own, as in a real network.
        let mut command = worker(&decoded(&instance.user_data), &format!("127.0.1.{}", self.addresses));
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.moto.metadata(&instance.id));
        self.running.insert(instance.id.clone(), Machine::start(&mut command, log));
    }
}

impl Machine {
    fn start(command: &mut Command, log: File) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(Some(child.expect("start a worker")))
    }

    fn ended(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
