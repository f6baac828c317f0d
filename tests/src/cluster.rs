//! One coordinator with its workers in a temporary home.

use crate::programs::{kill, processes_of, program};
use crate::wait::eventually;
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Generous: a busy machine with two cores runs four workers and the compiler.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a coordinator is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `pools.toml`; empty: the default pools.
    pub pools: String,
    /// Environment of the coordinator, and so of its workers.
    pub environment: Vec<(String, String)>,
}

/// A home, and the coordinator that serves it.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    options: Options,
    /// Where it listens; port 0: any that is free.
    listen: String,
    encrypted: bool,
    coordinator: Option<Child>,
}

impl Cluster {
    /// Starts a coordinator with these options, and waits until it listens.
    #[must_use]
    pub fn up(options: Options) -> Self {
        let mut cluster = Self::prepare(options);
        cluster.start();
        cluster
    }

    /// The home without a coordinator.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn prepare(options: Options) -> Self {
        let Ok(folder) = tempfile::Builder::new().prefix("trainctl-test-").tempdir() else {
            panic!("no room for a temporary folder")
        };
        if !options.pools.is_empty() {
            let written = std::fs::write(folder.path().join("pools.toml"), &options.pools);
            assert!(written.is_ok(), "can't write pools.toml");
        }
        Self { folder, options, listen: "127.0.0.1:0".to_owned(), encrypted: false, coordinator: None }
    }

    /// Starts the coordinator (again), and waits until it listens.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start(&mut self) {
        // A killed one can't remove its file.
        let _ = std::fs::remove_file(self.home().join("coordinator.json"));
        self.spawn();
        eventually("the coordinator listens", PATIENCE, || {
            let ended = self.coordinator.as_mut().and_then(|c| c.try_wait().ok().flatten());
            assert!(ended.is_none(), "the coordinator ended: {ended:?}\n{}", self.coordinator_log());
            self.home().join("coordinator.json").is_file().then_some(())
        });
    }

    /// Starts the coordinator and doesn't wait.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn(&mut self) {
        let mut command = self.command(&["up", "--listen", &self.listen]);
        if self.encrypted {
            command.args(["--tls", "always"]);
        }
        if !self.options.pools.is_empty() {
            command.arg("--pools").arg(self.folder.path().join("pools.toml"));
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("up.log"));
        let Ok(log) = log else { panic!("can't write a log") };
        let Ok(errors) = log.try_clone() else { panic!("can't write a log") };
        let child = command.stdout(log).stderr(errors).stdin(Stdio::null()).spawn();
        self.coordinator = Some(child.unwrap_or_else(|e| panic!("can't start trainctl up: {e}")));
    }

    /// From now on the coordinator is started where it listens at the moment.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn keep_address(&mut self) {
        let url = self.url();
        self.listen = url.split_once("://").unwrap_or_else(|| panic!("no coordinator runs")).1.to_owned();
    }

    /// Where the coordinator listens, with its scheme; empty when none does.
    #[must_use]
    pub fn url(&self) -> String {
        let text = std::fs::read(self.home().join("coordinator.json")).unwrap_or_default();
        let file: Value = serde_json::from_slice(&text).unwrap_or_default();
        file["address"].as_str().unwrap_or_default().to_owned()
    }

    /// Coordinators that are started from now on answer over TLS only.
    pub fn encrypt(&mut self) {
        self.encrypted = true;
    }

    /// The coordinator is to listen there, `HOST:PORT`.
    pub fn listen_at(&mut self, address: &str) {
        address.clone_into(&mut self.listen);
    }

    /// `kill -9` of the coordinator.
    pub fn kill_coordinator(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How the coordinator ended; `None` while it runs.
    pub fn coordinator_status(&mut self) -> Option<ExitStatus> {
        self.coordinator.as_mut().and_then(|c| c.try_wait().ok().flatten())
    }

    /// Whether the coordinator has ended by itself.
    pub fn coordinator_ended(&mut self) -> bool {
        self.coordinator.is_none() || self.coordinator_status().is_some()
    }

    /// Sets an environment variable for coordinators started from now on; empty: not set.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.options.environment.retain(|(n, _)| n != name);
        if !value.is_empty() {
            self.options.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The home folder.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A folder for this test's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `trainctl` with this home.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("trainctl"));
        command.arg("--home").arg(self.home()).args(arguments);
        command.env_remove("TRAINCTL_COORDINATOR").env_remove("TRAINCTL_TOKEN_FILE").env_remove("TRAINCTL_CERTIFICATE");
        command.env("TRAINCTL_WORKER", program("trainctl-worker"));
        command.envs(self.options.environment.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs `trainctl --output json`.
    ///
    /// # Panics
    /// When it can't be run.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(&["--output", "json"]).args(arguments).stdin(Stdio::null()).output();
        output.unwrap_or_else(|e| panic!("can't run trainctl: {e}"))
    }

    /// What `trainctl --output json` prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "trainctl {arguments:?} failed:\n{errors}\n{}", self.coordinator_log());
        let parsed = serde_json::from_slice(&output.stdout);
        parsed.unwrap_or_else(|e| panic!("trainctl {arguments:?}: {e}\n{}", String::from_utf8_lossy(&output.stdout)))
    }

    /// Submits a job file of this text.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit(&self, toml: &str) -> Value {
        let path = self.folder.path().join("job.toml");
        assert!(std::fs::write(&path, toml).is_ok(), "can't write a job file");
        self.json(&["submit", &path.to_string_lossy()])
    }

    /// `trainctl show`; `None` while no coordinator answers.
    #[must_use]
    pub fn show(&self, job: &str) -> Option<Value> {
        let output = self.run(&["show", job]);
        if !output.status.success() {
            return None;
        }
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the job's status is as wanted.
    #[must_use]
    pub fn wait_for(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.show(job) {
                if wanted(&status) {
                    return status;
                }
                last = status;
            }
            if std::time::Instant::now() > deadline {
                panic!("{job} was to be {what} within {PATIENCE:?}, is {last:#}\n{}", self.report(job));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the job has so many steps.
    #[must_use]
    pub fn wait_for_step(&self, job: &str, step: u64) -> Value {
        self.wait_for(job, &format!("at step {step}"), |s| s["step"].as_u64() >= Some(step))
    }

    /// Waits until the job succeeded.
    ///
    /// # Panics
    /// When it ends otherwise.
    #[must_use]
    pub fn wait_for_success(&self, job: &str) -> Value {
        let status = self.wait_for(job, "ended", |s| !s["ended"].is_null());
        assert_eq!(status["state"], "succeeded", "{status:#}\n{}", self.report(job));
        status
    }

    /// The job's workers that are not gone.
    #[must_use]
    pub fn workers(&self, job: &str) -> Vec<Value> {
        let all = self.json(&["worker", "ls", "--job", job]);
        let live = |w: &&Value| w["state"] != "gone";
        all.as_array().map(|all| all.iter().filter(live).cloned().collect()).unwrap_or_default()
    }

    /// Ids of the processes of a job's workers, by their status.
    #[must_use]
    pub fn worker_pids(&self, job: &str) -> Vec<u32> {
        self.workers(job).iter().filter_map(|w| u32::try_from(w["pid"].as_u64()?).ok()).filter(|p| *p > 0).collect()
    }

    /// Decisions and logs, for a failed test's message.
    #[must_use]
    pub fn report(&self, job: &str) -> String {
        let explained = self.command(&["explain", job]).output().map(|o| o.stdout).unwrap_or_default();
        let mut text = String::from_utf8_lossy(&explained).into_owned();
        let logs = std::fs::read_dir(self.home().join("logs").join(job)).into_iter().flatten().flatten();
        for log in logs {
            text.push_str(&format!("--- {}\n", log.path().display()));
            text.push_str(&std::fs::read_to_string(log.path()).unwrap_or_default());
        }
        text + &self.coordinator_log()
    }

    /// What the coordinator wrote.
    #[must_use]
    pub fn coordinator_log(&self) -> String {
        format!("--- coordinator\n{}", std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_coordinator();
        for pid in processes_of(self.folder.path()) {
            kill(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            // A failed test's folder is kept for whoever looks into it.
            self.folder.disable_cleanup(true);
        }
    }
}
