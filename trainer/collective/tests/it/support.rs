//! A worker whose door is open, and how it meets others.

use std::net::TcpListener;
use std::time::{Duration, Instant};
use trainer_collective::{Identity, Inbox, Links, Meeting, Mesh, MeshError, Poller, listen};
use trainer_core::{Assignment, Member};

/// Bounds what waits for others.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Of the job that all are of who don't say otherwise.
const SECRET: [u8; 32] = [5; 32];

pub(crate) struct Worker {
    pub(crate) poller: Poller,
    pub(crate) inbox: Inbox,
    /// As others see it; its shard is the one of its rank's number.
    pub(crate) member: Member,
}

impl Worker {
    pub(crate) fn new(name: &str, rank: u32) -> Self {
        Self::with(name, rank, SECRET, Links::default())
    }

    pub(crate) fn with(name: &str, rank: u32, secret: [u8; 32], links: Links) -> Self {
        let poller = Poller::new().unwrap();
        let me = Identity { worker: name.to_owned(), secret };
        let inbox = Inbox::new(me, links, poller.bell()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listen(listener, inbox.clone());
        Self { poller, inbox, member: Member { worker: name.to_owned(), address, shards: rank..rank + 1 } }
    }
}

/// So many, w0 and on, each with its one shard.
pub(crate) fn workers(count: u32) -> Vec<Worker> {
    (0..count).map(|rank| Worker::new(&format!("w{rank}"), rank)).collect()
}

pub(crate) fn members(workers: &[Worker]) -> Vec<Member> {
    workers.iter().map(|worker| worker.member.clone()).collect()
}

pub(crate) fn assignment(generation: u64, members: Vec<Member>) -> Assignment {
    Assignment { generation, immediate: true, members, reason: String::new() }
}

pub(crate) fn meet(worker: &mut Worker, assignment: &Assignment) -> Result<Mesh, MeshError> {
    let mut meeting = Meeting::start(&worker.inbox, assignment)?;
    let deadline = Instant::now() + SOON;
    while !meeting.advance(&mut worker.poller, &worker.inbox)? {
        assert!(Instant::now() < deadline, "{:?} did not come", meeting.missing());
        worker.poller.wait(Some(SOON))?;
    }
    Ok(meeting.complete())
}
