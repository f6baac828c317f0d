//! Savers that are killed at any moment. Whatever they leave, the newest checkpoint is whole and none is damaged.

use crate::support::{folder, info, layout, names, state, step_folder, values};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use trainctl_checkpoint::{TensorInfo, state_digest};

const ROOT: &str = "TRAINCTL_TEST_KILLED_ROOT";
const PARTS: u32 = 3;
/// Kills that hit a save under way.
const HITS: u32 = 20;
const ROUNDS_MAX: u32 = 200;

/// Files of one request and of several.
fn tensors() -> (Vec<TensorInfo>, usize) {
    layout(&[&[2_300_000], &[400_000], &[30_000], &[30_000], &[7], &[7]])
}

#[tokio::test]
async fn after_each_kill_the_newest_checkpoint_is_whole() {
    let (tensors, len) = tensors();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let saver = Saver::start(root.path());
    let three_saves = saver.time_to_commit(3);
    let mut committed = saver.kill().or(Some(3));

    let mut out = vec![0.0; len];
    let (mut hits, mut round) = (0, 0);
    while hits < HITS {
        round += 1;
        assert!(round <= ROUNDS_MAX, "only {hits} of {ROUNDS_MAX} kills hit a save");
        let saver = Saver::start(root.path());
        // Anywhere in three saves, each round elsewhere. The time is the fault's, nothing is waited for.
        std::thread::sleep(three_saves * (round * 37 % 100) / 100);
        committed = saver.kill().or(committed);

        let loaded = folder.load_newest(&tensors, &mut out).await.unwrap();
        let loaded = loaded.expect("a commit was reported");
        let step = loaded.manifest.step;
        assert!(loaded.skipped.is_empty(), "round {round}: {:?}", loaded.skipped);
        assert!(Some(step) >= committed, "round {round}: step {committed:?} was reported, found {step}");
        assert!(values(&tensors, &out) == values(&tensors, &state(len, step)), "round {round}: other values");
        assert_eq!(state_digest(&tensors, &out, step), loaded.manifest.state_digest);
        for step in folder.steps().await.unwrap() {
            folder.verify(step).await.unwrap_or_else(|error| panic!("round {round}: step {step} is visible: {error}"));
        }
        hits += u32::from(!names(&step_folder(root.path(), step + 1)).is_empty());
    }

    let steps = folder.steps().await.unwrap();
    let newest = *steps.last().unwrap();
    folder.prune(1).await.unwrap();
    let left: Vec<u64> =
        names(step_folder(root.path(), 0).parent().unwrap()).iter().map(|n| n.parse().unwrap()).collect();
    assert!(left.iter().all(|&step| step >= newest), "leftovers of {left:?} below {newest}");
}

/// The process that is killed, and what it says.
struct Saver {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Saver {
    /// Returns when it is about to save.
    fn start(root: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::saver", "--ignored", "--nocapture"])
            .env(ROOT, root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for line in lines.filter_map(|line| line.split("saver: ").nth(1).map(str::to_owned)) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let saver = Self { process, lines };
        assert_eq!(saver.next().as_deref(), Some("ready"));
        saver
    }

    fn next(&self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_secs(60)).ok()
    }

    fn time_to_commit(&self, count: usize) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            self.next().expect("the saver commits");
        }
        start.elapsed()
    }

    /// The newest step that it said was committed before it died.
    fn kill(mut self) -> Option<u64> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        // Ends with the pipe.
        self.lines.iter().last().map(|line| line.parse().unwrap())
    }
}

/// The process that is killed: goes on where the last one was, saves, prunes, says so, until it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child of after_each_kill_the_newest_checkpoint_is_whole"]
async fn saver() {
    let root = std::env::var_os(ROOT).expect("started by its parent");
    let folder = folder(Path::new(&root));
    let (tensors, len) = tensors();
    let mut step = match folder.load_newest(&tensors, &mut vec![0.0; len]).await.unwrap() {
        Some(loaded) => loaded.manifest.step,
        None => 0,
    };
    report("ready");
    loop {
        step += 1;
        let mut workers = JoinSet::new();
        for part in 0..PARTS {
            let (folder, tensors) = (folder.clone(), tensors.clone());
            workers.spawn(async move {
                let state = state(len, step);
                folder.write_part(step, part, PARTS, &tensors, &state).await.unwrap();
                let info = info(state_digest(&tensors, &state, step));
                folder.try_commit(step, PARTS, &info).await.unwrap()
            });
        }
        assert!(workers.join_all().await.into_iter().flatten().count() > 0);
        report(&step.to_string());
        folder.prune(2).await.unwrap();
    }
}

fn report(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "saver: {line}").unwrap();
    stdout.flush().unwrap();
}
