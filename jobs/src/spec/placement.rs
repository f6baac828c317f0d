//! Where a job may run, where its state is kept, and what it may cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[resources]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesSpec {
    /// How many workers.
    pub workers: WorkersSpec,
    /// In order of preference where prices tie.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub pools: Vec<String>,
    /// Data residency: never outside. Empty: anywhere. Local pools are in every region, so it has no effect on them.
    #[schemars(inner(length(min = 1)))]
    pub regions: Vec<String>,
    /// How many logical shards each worker computes.
    pub shards: ShardsSpec,
    /// Which connections between workers are encrypted.
    pub encryption: EncryptionSpec,
    /// What gradients travel over from worker to worker.
    pub backend: BackendSpec,
    /// A worker that its peers don't hear for longer is lost: `"200 ms"` to `"10 min"`. Longer outlasts longer pauses
    /// of a machine or its network, shorter goes on sooner without one that is really gone. A process that dies is
    /// noticed at once, whatever this says.
    #[schemars(extend("format" = "peer-silence"))]
    pub peer_silence: PeerSilence,
}

impl Default for ResourcesSpec {
    fn default() -> Self {
        Self {
            workers: WorkersSpec::default(),
            pools: vec!["local-spot".to_owned()],
            regions: Vec::new(),
            shards: ShardsSpec::default(),
            encryption: EncryptionSpec::default(),
            backend: BackendSpec::default(),
            peer_silence: PeerSilence::default(),
        }
    }
}

/// `resources.encryption`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncryptionSpec {
    /// Those between two hosts. What has the same address at both ends stays within one.
    #[default]
    BetweenHosts,
    /// All, also those within a host.
    Always,
    /// None: only for networks that nobody else can listen to.
    Never,
}

/// `resources.backend`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BackendSpec {
    /// TCP, and memory that workers of one host share. Gradients of a GPU come to the host first.
    #[default]
    Tcp,
    /// NCCL, from GPU to GPU, in the same exact order. Needs a GPU for each worker and one version of NCCL on all; a
    /// group in which somebody lacks that goes over TCP, and `trainctl show` says why. Since NCCL encrypts nothing,
    /// `encryption` must be `"never"`. It has not run on a GPU yet.
    Nccl,
}

/// `resources.peer_silence`, written as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PeerSilence(Duration);

impl PeerSilence {
    const LEAST: Duration = Duration::from_millis(200);
    const MOST: Duration = Duration::from_secs(600);

    /// The bound.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for PeerSilence {
    fn default() -> Self {
        Self(Duration::from_secs(2))
    }
}

impl TryFrom<String> for PeerSilence {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match humantime::parse_duration(text.trim()) {
            Ok(silence) if (Self::LEAST..=Self::MOST).contains(&silence) => Ok(Self(silence)),
            _ => Err(format!("expected a time from \"200 ms\" to \"10 min\", found {text:?}")),
        }
    }
}

impl From<PeerSilence> for String {
    fn from(silence: PeerSilence) -> Self {
        humantime::format_duration(silence.0).to_string()
    }
}

/// `resources.shards`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ShardsSpec {
    /// As measured: they move from slow workers to fast ones when that shortens a step by more than 10 %. The result
    /// is the same bits.
    #[default]
    BySpeed,
    /// As many as any other worker, or one more.
    Even,
}

/// `resources.workers`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkersSpec {
    /// It starts with so many, and waits when there are fewer.
    #[schemars(range(min = 1, max = 1024))]
    pub min: u32,
    /// It takes up to so many; at most `logical_shards`.
    #[schemars(range(min = 1, max = 1024))]
    pub max: u32,
}

impl Default for WorkersSpec {
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

/// `[checkpoint]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// `file:///path`, `s3://bucket/path` or `gs://bucket/path`; the job's files go into a folder of its name below it.
    /// Absent: the coordinator's own folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "folder-uri"))]
    pub root: Option<String>,
    /// `"500 steps"`, `"5 min"` or `"auto"`.
    pub every: CheckpointEvery,
    /// Older ones are removed.
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_last: u32,
    /// Of each so many steps the first checkpoint stays for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_every: Option<u64>,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self { root: None, every: CheckpointEvery::Auto, keep_last: 3, keep_every: None }
    }
}

/// `checkpoint.every`, written as text.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "checkpoint-every"))]
pub enum CheckpointEvery {
    /// From the measured cost of a save and the rate of evictions (Young 1974, Daly 2006).
    #[default]
    Auto,
    /// At fixed steps.
    Steps(u64),
    /// At the first step boundary after so many seconds.
    Seconds(u64),
}

impl TryFrom<String> for CheckpointEvery {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if text.ends_with("steps") || text.ends_with("step") {
            return match count_of_steps(text) {
                Some(n) if n > 0 => Ok(Self::Steps(n)),
                _ => Err(format!("expected a count of steps above 0, found {text:?}")),
            };
        }
        match humantime::parse_duration(text) {
            Ok(d) if d.as_secs() > 0 => Ok(Self::Seconds(d.as_secs())),
            _ => Err(format!("expected \"auto\", \"N steps\" or a time such as \"5 min\", found {text:?}")),
        }
    }
}

/// `500 steps`, `1_000 steps`, `1 step`.
pub(super) fn count_of_steps(text: &str) -> Option<u64> {
    let count = text.strip_suffix("steps").or_else(|| text.strip_suffix("step"))?;
    count.trim().replace('_', "").parse().ok()
}

impl From<CheckpointEvery> for String {
    fn from(every: CheckpointEvery) -> Self {
        match every {
            CheckpointEvery::Auto => "auto".to_owned(),
            CheckpointEvery::Steps(n) => format!("{n} steps"),
            CheckpointEvery::Seconds(n) => format!("{n} s"),
        }
    }
}

/// `[policy]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySpec {
    /// From the submission, such as `"6h"`. The job is done by then if capacity that is not taken away can do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration"))]
    pub deadline: Option<String>,
    /// The job stops before it has paid more for instances, coordinator and storage: it saves, and fails. Submitted again
    /// with a larger budget it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub budget_usd: Option<f64>,
    /// When dearer capacity that is not taken away may be bought.
    pub on_demand: OnDemandSpec,
    /// When capacity is short, jobs of a higher priority come first, and others yield the workers that they can spare.
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// When capacity is short, jobs of equal priority take turns by queue: the one that has the fewest workers first.
    /// Within a queue, by submission. Absent: the queue of all that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub queue: Option<String>,
}

impl PolicySpec {
    /// `deadline` in milliseconds. Its form was checked when the job was parsed.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let deadline = humantime::parse_duration(self.deadline.as_deref()?).ok()?;
        u64::try_from(deadline.as_millis()).ok()
    }
}

/// `policy.on_demand`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDemandSpec {
    /// Spot only.
    #[default]
    Never,
    /// As late as the deadline allows, and given back when spot will do again.
    ToMeetDeadline,
    /// From the start, where spot has nothing to give; spot takes over when it has.
    Always,
}
