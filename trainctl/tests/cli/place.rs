//! A temporary place with a home of its own, and the binary run in it.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// Nothing that the binary does in these tests takes as long as this; past it a test fails instead of hanging.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A folder that goes when the test ends.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// What one run of the binary left.
pub(crate) struct Ran {
    /// Exit code.
    pub(crate) code: i32,
    /// With the changing parts named: `[PLACE]`, `[PORT]`.
    pub(crate) stdout: String,
    /// The same.
    pub(crate) stderr: String,
}

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary with these arguments, in this place, with no settings of the tester's own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainctl"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if ["TRAINCTL_", "AWS_", "STORAGE_EMULATOR_HOST"].iter().any(|of| name_text.starts_with(of)) {
                command.env_remove(name);
            }
        }
        command.env("TRAINCTL_HOME", self.path("home")).env_remove("NO_COLOR");
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.finish(self.command(args).output().unwrap())
    }

    /// Runs it, expects success, and reads its stdout as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        let output = self.command(&args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}\n{stderr}", output.status);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// Names the changing parts of an output.
    pub(crate) fn finish(&self, output: Output) -> Ran {
        let named = |bytes: &[u8]| self.name_parts(std::str::from_utf8(bytes).unwrap());
        Ran { code: output.status.code().unwrap_or(-1), stdout: named(&output.stdout), stderr: named(&output.stderr) }
    }

    fn name_parts(&self, text: &str) -> String {
        let text = text.replace(self.folder.path().to_str().unwrap(), "[PLACE]");
        let text = name_number(&text, "127.0.0.1:", 5, "[PORT]");
        name_number(&text, "pid ", 1, "[PID]")
    }

    /// A small table of numbers, pinned as `points.manifest.json`; gives the manifest's digest.
    pub(crate) fn pin_points(&self) -> String {
        let rows: String = (0..60).map(|row| format!("{},{},{}\n", row % 7, row * 3 % 11, row % 2)).collect();
        self.write("points.csv", &format!("x,y,label\n{rows}"));
        let pinned = self.json(&["data", "pin", "points.csv", "-o", "points.manifest.json"]);
        pinned["digest"].as_str().unwrap().to_owned()
    }

    /// A job over that table, as `job.toml`.
    pub(crate) fn write_job(&self, digest: &str) -> PathBuf {
        self.write(
            "job.toml",
            &format!(
                r#"name = "points"

[data]
manifest = "points.manifest.json"
digest = "{digest}"

[model]
kind = "mlp"
hidden = [8]

[train]
steps = 20
global_batch = 8
logical_shards = 4
"#
            ),
        )
    }

    /// Starts a coordinator whose pools give nothing, so that jobs wait and no worker is started.
    pub(crate) fn coordinator(&self) -> Running {
        self.write("pools.toml", "[pools.local-spot]\nkind = \"local\"\nspot = true\ncapacity = 0\n");
        self.start(&["up", "--pools", "pools.toml", "--output", "json"])
    }

    /// Starts the binary and reads its first line, which is JSON.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let first = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("{args:?} printed {line:?} and said {stderr}")
        });
        Running { child, first }
    }
}

/// Puts a name in place of numbers of at least so many digits that follow a prefix. System-given ports have five.
fn name_number(text: &str, prefix: &str, digits_min: usize, name: &str) -> String {
    let mut named = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, after) = rest.split_at(at + prefix.len());
        let without = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let digits = after.len() - without.len();
        named.push_str(before);
        named.push_str(if digits >= digits_min { name } else { &after[..digits] });
        rest = without;
    }
    named + rest
}

/// A process of the binary's, ended when dropped.
pub(crate) struct Running {
    child: Child,
    /// The JSON value that it printed first.
    pub(crate) first: Value,
}

impl Running {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self, place: &Place) -> Ran {
        let mut stderr = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        place.finish(Output { status, stdout: Vec::new(), stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            drop(self.child.wait());
        }
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Exit code, stdout and stderr as one text, for snapshots.
pub(crate) fn told(ran: &Ran) -> String {
    format!("exit code: {}\n--- stdout\n{}--- stderr\n{}", ran.code, ran.stdout, ran.stderr)
}

/// The keys of a JSON object, in its order.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
