//! The provider does what every provider must, with real processes.

use coordinator_core::{Event, InstanceId, LaunchError, LaunchErrorKind, PoolName, Scope};
use coordinator_local::{LocalConfig, LocalProvider, PoolConfig};
use coordinator_provider::Provider;
use coordinator_provider::conformance::{Foreign, World};
use rustix::process::{Pid, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// A folder, and the processes that have its name as their cluster.
struct Processes {
    folder: tempfile::TempDir,
    foreign: Option<Child>,
}

impl Processes {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/drains.sh");
        std::fs::copy(script, folder.path().join("worker")).expect("copy the worker");
        Self { folder, foreign: None }
    }

    fn cluster(&self) -> String {
        self.folder.path().file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// Process ids and command lines of those who lead a group and live.
    fn leaders(&self) -> Vec<(Pid, Vec<String>)> {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            (fields[0] != "Z" && fields[2] == pid.to_string()).then_some((Pid::from_raw(pid)?, words))
        })
        .collect()
    }

    fn own(&self) -> Vec<(Pid, InstanceId)> {
        let after = |words: &[String], flag: &str| -> Option<String> {
            Some(words.get(words.iter().position(|word| word == flag)? + 1)?.clone())
        };
        let own = self.leaders().into_iter().filter_map(|(pid, words)| {
            let cluster = after(&words, "--cluster")?;
            (cluster == self.cluster()).then_some((pid, InstanceId(after(&words, "--instance")?)))
        });
        own.collect()
    }
}

impl World for Processes {
    fn start(&mut self, events: UnboundedSender<Event>) -> Arc<dyn Provider> {
        let pool = PoolConfig {
            name: self.pool(),
            capacity: 2,
            notice: Duration::from_millis(50),
            ..coordinator_local::default_pools().remove(0)
        };
        let folder = self.folder.path();
        let config = LocalConfig {
            cluster: self.cluster(),
            program: folder.join("worker"),
            coordinator_file: folder.join("coordinator.json"),
            logs: folder.join("logs"),
            token: Arc::new(|_| "token".to_owned()),
            pools: vec![pool],
            running_for: BTreeMap::new(),
            events,
        };
        Arc::new(LocalProvider::start(config).expect("start the provider"))
    }

    fn pool(&self) -> PoolName {
        PoolName::from("spot")
    }

    async fn instances(&mut self) -> BTreeSet<InstanceId> {
        self.own().into_iter().map(|(_, instance)| instance).collect()
    }

    async fn foreign(&mut self) -> Option<Foreign> {
        let child = Command::new(self.folder.path().join("worker"))
            .args(["run", "--cluster", "another", "--instance", "i77", "--worker", "w77"])
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start a process of another cluster");
        self.foreign = Some(child);
        Some(Foreign("i77".to_owned()))
    }

    async fn lives(&mut self, _foreign: &Foreign) -> bool {
        self.foreign.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_none())
    }

    async fn refuse(&mut self) -> LaunchError {
        std::fs::remove_file(self.folder.path().join("worker")).expect("remove the program");
        LaunchError { kind: LaunchErrorKind::Configuration, scope: Scope::Provider, message: String::new() }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (pid, _) in self.own() {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        if let Some(mut foreign) = self.foreign.take() {
            let _ = rustix::process::kill_process_group(Pid::from_child(&foreign), Signal::KILL);
            let _ = foreign.wait();
        }
    }
}

coordinator_provider::conforms!(async || Processes::new());
