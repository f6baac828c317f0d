//! A worker: whether it can be talked to, where it stands in its job, and why it should go.

use crate::decision::ReplaceCause;
use crate::event::{DownCause, Progress};
use crate::ids::{Generation, InstanceId, JobId, Timestamp, WorkerId};
use crate::state::Speed;
use serde::{Deserialize, Serialize};

/// One worker process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) instance: InstanceId,
    pub(crate) job: JobId,
    /// Launch order over all jobs; ids sort as text, this sorts in time.
    pub(crate) number: u64,
    pub(crate) link: Link,
    pub(crate) standing: Standing,
    /// Set: it shall go, as soon as its job can spare it.
    pub(crate) departure: Option<Departure>,
    /// Started to take this one's place as soon as it can.
    #[serde(default)]
    pub(crate) replaces: Option<WorkerId>,
    /// Its provider sees that it may take it before long.
    #[serde(default)]
    pub(crate) at_risk: bool,
    /// What it said about itself when it attached.
    pub(crate) hello: Option<Hello>,
    /// Heard since the coordinator started.
    #[serde(skip)]
    pub(crate) progress: Option<Progress>,
    /// As the scheduler has measured it.
    #[serde(skip)]
    pub(crate) speed: Speed,
    /// Who saw it go, and can't tell whether it went on to a newer generation. Said again after a restart.
    #[serde(skip)]
    pub(crate) suspicion: Option<Suspicion>,
    /// Why it failed, in its own words.
    pub(crate) failure: Option<String>,
    /// The last lines of its log, when the driver read them.
    pub(crate) last_lines: Option<String>,
}

/// The stream between a worker and the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Link {
    /// It has not attached yet; the wait runs from here.
    Never {
        since: Timestamp,
    },
    Attached {
        heard: Timestamp,
    },
    Detached {
        since: Timestamp,
    },
}

/// Where a worker stands in its job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Nothing was asked of it yet.
    Waiting,
    /// It was told to fetch the state.
    Joining { donor: WorkerId },
    /// It holds the state and follows its donor.
    Ready { donor: Option<WorkerId>, step: u64, since: Timestamp },
    /// In the newest assignment.
    Member,
    /// It was in an earlier generation, the newest assignment is without it, and it has not said that it is out.
    Leaving { since: Timestamp },
    /// It is out, and keeps the state until the generation without it is known to train.
    Aside,
    /// It left or was told to exit; only the end of its instance is awaited.
    Done,
    /// Treated as dead.
    Lost { cause: LossCause },
}

/// A lost connection that may mean nothing.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Suspicion {
    /// In which it was lost.
    pub(crate) generation: Generation,
    pub(crate) by: WorkerId,
    pub(crate) detail: String,
}

/// Why a worker shall go.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Departure {
    /// Its pool takes the instance.
    Notice { deadline: Timestamp },
    /// Someone asked for it.
    Drain,
    /// Its numerics are not the group's.
    OtherNumerics,
    /// A job that comes first needs the capacity.
    GiveBack { to: JobId },
    /// Another was started in its place.
    Replaced { by: WorkerId, cause: ReplaceCause },
    /// The deadline is met without it.
    NotNeeded { slack_ms: u64 },
    /// The deadline can't wait for it to start.
    TooLate,
}

/// Why a worker is treated as dead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LossCause {
    /// A peer lost its connection to it.
    PeerLost {
        /// Who says so.
        by: WorkerId,
        /// What it saw.
        detail: String,
    },
    /// It was attached and said nothing for too long.
    Silent {
        /// For so long.
        ms: u64,
    },
    /// It never attached.
    NeverAttached {
        /// For so long after its launch.
        ms: u64,
    },
    /// Its stream broke and it did not come back.
    NotBack {
        /// For so long.
        ms: u64,
    },
    /// It says that it can't go on.
    Failed {
        /// In its words.
        reason: String,
    },
    /// It held another state than those who are right, or computed another vector of a logical shard.
    Corrupt {
        /// Updates applied.
        step: u64,
        /// The logical shard, if it is about one's vector.
        #[serde(default)]
        shard: Option<u32>,
        /// Of what it held or computed.
        found: String,
        /// Of what it should have.
        expected: String,
    },
    /// It came back without the state that it held.
    StateGone,
    /// It left without having been asked to.
    LeftUnasked,
    /// It was asked to save and leave, or its peers have finished, and it did not follow.
    StopTimedOut {
        /// For so long.
        ms: u64,
    },
    /// Its instance is gone.
    Down(DownCause),
}

/// A worker about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) pid: u32,
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    pub(crate) fingerprint_detail: String,
}

impl Worker {
    pub(crate) fn attached(&self) -> bool {
        matches!(self.link, Link::Attached { .. })
    }

    /// Not written off and not on its way out.
    pub(crate) fn counts(&self) -> bool {
        self.departure.is_none()
            && matches!(
                self.standing,
                Standing::Waiting | Standing::Joining { .. } | Standing::Ready { .. } | Standing::Member
            )
    }

    /// It may still be at work in some generation.
    pub(crate) fn takes_part(&self) -> bool {
        matches!(self.standing, Standing::Member | Standing::Leaving { .. })
    }

    /// A member, or one that was and can be again.
    pub(crate) fn may_regroup(&self) -> bool {
        self.takes_part() || self.standing == Standing::Aside
    }

    /// It was on its way out, and its process ended by itself as it should.
    pub(crate) fn left_well(&self, cause: &DownCause) -> bool {
        matches!(self.standing, Standing::Leaving { .. } | Standing::Aside) && *cause == DownCause::Exited(0)
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.standing, Standing::Lost { .. })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.standing == Standing::Done
    }

    pub(crate) fn address(&self) -> &str {
        self.hello.as_ref().map_or("", |hello| &hello.address)
    }

    /// The donor of a worker that fetches or follows the state.
    pub(crate) fn donor(&self) -> Option<&WorkerId> {
        match &self.standing {
            Standing::Joining { donor } => Some(donor),
            Standing::Ready { donor, .. } => donor.as_ref(),
            _ => None,
        }
    }
}
