//! Groups of threads that meet over real sockets.

use std::net::TcpListener;
use std::time::Duration;
use trainer_collective::{Identity, Inbox, Links, Meeting, Mesh, Poller, listen};
use trainer_core::tree::Shards;
use trainer_core::{Assignment, Member, Phase, Round};

pub(crate) const ROUND: Round = Round { step: 0, phase: Phase::Train };

/// A worker's end of the data plane.
pub(crate) struct Worker {
    pub(crate) poller: Poller,
    pub(crate) inbox: Inbox,
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Worker {
    pub(crate) fn new(name: &str) -> Self {
        let poller = Poller::new().unwrap();
        let me = Identity { worker: name.to_owned(), secret: [5; 32] };
        let inbox = Inbox::new(me, Links::default(), poller.bell()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listen(listener, inbox.clone());
        Self { poller, inbox, name: name.to_owned(), address }
    }

    pub(crate) fn meet(&mut self, assignment: &Assignment) -> Mesh {
        let mut meeting = Meeting::start(&self.inbox, assignment).unwrap();
        while !meeting.advance(&mut self.poller, &self.inbox).unwrap() {
            self.poller.wait(Some(Duration::from_secs(10))).unwrap();
        }
        meeting.complete()
    }
}

/// The workers of these shards, by rank.
pub(crate) fn workers(count: usize) -> Vec<Worker> {
    (0..count).map(|i| Worker::new(&format!("w{i}"))).collect()
}

pub(crate) fn assignment(generation: u64, workers: &[Worker], owned: &[Shards]) -> Assignment {
    let member = |(worker, shards): (&Worker, &Shards)| Member {
        worker: worker.name.clone(),
        address: worker.address.clone(),
        shards: shards.clone(),
    };
    let members = workers.iter().zip(owned).map(member).collect();
    Assignment { generation, immediate: true, members, reason: String::new() }
}
