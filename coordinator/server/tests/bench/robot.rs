//! Speaks for the workers of a home as their program would: attaches with the token of each process, attaches again when
//! the coordinator was away, and does what it is told. What it "trains" is nothing; it holds its place and finishes.

use super::{Bench, Hand, hello};
use coordinator_server::CoordinatorFile;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;
use trainctl_proto::v1;
use trainctl_proto::v1::coordinator_message::Body as ToBody;
use trainctl_proto::v1::worker_message::Body as FromBody;

/// Speaks for all workers of the job, also those that come later, until it is dropped.
pub(crate) struct Robots(tokio::task::AbortHandle);

impl Robots {
    /// They finish the job at its last step; with `finish` false they train on for ever.
    pub(crate) fn start(bench: &Bench, job: &str, finish: bool) -> Self {
        let (home, job) = (bench.home().to_owned(), job.to_owned());
        Self(tokio::spawn(speak_for_all(home, job, finish)).abort_handle())
    }
}

impl Drop for Robots {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn speak_for_all(home: PathBuf, job: String, finish: bool) {
    let mut spoken_for = BTreeSet::new();
    let mut robots = JoinSet::new();
    loop {
        for entry in std::fs::read_dir(home.join("logs").join(&job)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix('w').and_then(|name| name.strip_suffix(".log")?.parse().ok());
            let said = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let word = |name| said.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            if let (Some(number), Some(pid), Some(token)) = (number, word("pid "), word("token "))
                && spoken_for.insert(number)
            {
                let robot = Robot { home: home.clone(), number, token, finish, holds: None };
                let pid = pid.parse().expect("a pid");
                robots.spawn(async move {
                    tokio::select! {
                        () = robot.run() => {}
                        // It can't outlive its process.
                        () = died(pid) => {}
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Robot {
    home: PathBuf,
    number: u32,
    token: String,
    finish: bool,
    /// The newest assignment that it trains in.
    holds: Option<(String, u64)>,
}

impl Robot {
    async fn run(mut self) {
        loop {
            // The coordinator may be away at any moment: attach again.
            if let Ok(true) = self.attach().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `true`: it was told to leave.
    async fn attach(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let file: CoordinatorFile = serde_json::from_slice(&std::fs::read(self.home.join("coordinator.json"))?)?;
        let channel = tonic::transport::Endpoint::from_shared(file.address)?.connect().await?;
        let mut hand = Hand::over(channel, &self.token).await?;
        let mut first = hello(self.number);
        if let Some((job, generation)) = &self.holds {
            first = v1::Hello { job: job.clone(), generation: *generation, has_state: true, step: 1, ..first };
        }
        hand.say(FromBody::Hello(first)).await;
        let mut job = self.holds.as_ref().map(|(job, _)| job.clone()).unwrap_or_default();
        let mut beat_every = Duration::from_secs(3_600);
        loop {
            let message = tokio::select! {
                message = hand.hear.message() => message?,
                () = tokio::time::sleep(beat_every) => {
                    self.beat(&mut hand).await;
                    continue;
                }
            };
            let Some(message) = message else { return Ok(false) };
            match message.body {
                Some(ToBody::Welcome(welcome)) => {
                    job = welcome.job;
                    beat_every = Duration::from_millis(welcome.heartbeat_ms.into());
                    if let Some((_, generation)) = self.holds {
                        self.train(&mut hand, generation).await;
                    }
                }
                Some(ToBody::Assign(assign)) if assign.members.is_empty() => {
                    let left = v1::Left { generation: assign.generation, step: 1, ..Default::default() };
                    hand.say(FromBody::Left(left)).await;
                }
                Some(ToBody::Assign(assign)) => {
                    self.holds = Some((job.clone(), assign.generation));
                    self.train(&mut hand, assign.generation).await;
                }
                Some(ToBody::Join(_)) => hand.say(FromBody::Ready(v1::Ready { step: 1 })).await,
                Some(ToBody::Exit(_)) => return Ok(true),
                None => {}
            }
        }
    }

    async fn beat(&self, hand: &mut Hand) {
        let (generation, has_state) = self.holds.as_ref().map_or((0, false), |(_, generation)| (*generation, true));
        let step = u64::from(has_state);
        hand.say(FromBody::Heartbeat(v1::Heartbeat { generation, has_state, step, ..Default::default() })).await;
    }

    async fn train(&self, hand: &mut Hand, generation: u64) {
        hand.say(FromBody::Resumed(v1::Resumed { generation, step: 1, ..Default::default() })).await;
        self.beat(hand).await;
        if self.finish {
            let finished = v1::Finished { step: 100, state_digest: "blake3:00".to_owned(), ..Default::default() };
            hand.say(FromBody::Finished(finished)).await;
        }
    }
}

/// Until the process has ended.
pub(crate) async fn died(pid: u32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The address of the coordinator that listens for this home, if one does.
pub(crate) fn address(home: &Path) -> Option<CoordinatorFile> {
    serde_json::from_slice(&std::fs::read(home.join("coordinator.json")).ok()?).ok()
}
