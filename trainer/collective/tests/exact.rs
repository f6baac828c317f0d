//! Real sockets between threads: any number of members gives the same bits, a member's death is seen at once, and a
//! joiner that follows ends where its donor is.

use proptest::prelude::*;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use trainer_collective::{
    Bell, Buffers, Destination, Donor, Follow, Followed, Identity, Inbox, Meeting, Mesh, MeshError, Point, Poller,
    listen,
};
use trainer_core::membership::Header;
use trainer_core::tree::Shards;
use trainer_core::{Assignment, Member, Phase, Round};

const SECRET: [u8; 32] = [5; 32];

struct Worker {
    poller: Poller,
    inbox: Inbox,
    address: String,
}

impl Worker {
    fn new(name: &str) -> Self {
        let poller = Poller::new().unwrap();
        let inbox = Inbox::new(Identity { worker: name.to_owned(), secret: SECRET }, poller.bell());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listen(listener, inbox.clone());
        Self { poller, inbox, address }
    }
}

fn group(owned: &[Shards]) -> (Vec<Worker>, Assignment) {
    let workers: Vec<Worker> = (0..owned.len()).map(|i| Worker::new(&format!("w{i}"))).collect();
    let members = workers.iter().zip(owned).enumerate().map(|(i, (worker, shards))| Member {
        worker: format!("w{i}"),
        address: worker.address.clone(),
        shards: shards.clone(),
    });
    let members = members.collect();
    (workers, Assignment { generation: 1, immediate: true, members, reason: String::new() })
}

fn meet(worker: &mut Worker, assignment: &Assignment) -> Mesh {
    let mut meeting = Meeting::start(&worker.inbox, assignment).unwrap();
    while !meeting.advance(&mut worker.poller, &worker.inbox).unwrap() {
        worker.poller.wait(Some(Duration::from_secs(10))).unwrap();
    }
    meeting.complete()
}

fn shares(logical_shards: u32, world_size: u32) -> Vec<Shards> {
    (0..world_size).map(|r| r * logical_shards / world_size..(r + 1) * logical_shards / world_size).collect()
}

fn vector(shard: u32, round: u64, length: usize) -> impl Iterator<Item = f32> {
    let seed = u64::from(shard) * 7919 + round * 104_729;
    (0..length as u64).map(move |i| {
        let bits = (seed + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (bits as f32 / 8192.0 - 1024.0) * 1.000_13
    })
}

fn run(logical_shards: u32, owned: &[Shards], length: usize, rounds: u64) -> Vec<Vec<u32>> {
    let (workers, assignment) = group(owned);
    let threads = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let (assignment, shards) = (assignment.clone(), owned[rank].clone());
        thread::spawn(move || {
            let mut mesh = meet(&mut worker, &assignment);
            let mut buffers = Buffers::new(length);
            for step in 0..rounds {
                let round = Round { step, phase: Phase::Train };
                buffers.begin(logical_shards, &shards);
                for shard in shards.clone() {
                    let target = buffers.next_vector();
                    target.iter_mut().zip(vector(shard, step, length)).for_each(|(t, v)| *t = v);
                    buffers.push(shard);
                }
                let header = Header { newest_generation: rank as u64, ..Header::default() };
                let poller = &mut worker.poller;
                let headers = mesh.exchange(poller, round, header, &mut buffers, &|| false, &mut |_| {}).unwrap();
                let seen: Vec<u64> = headers.iter().map(|h| h.newest_generation).collect();
                assert_eq!(seen, (0..assignment.members.len() as u64).collect::<Vec<_>>());
            }
            buffers.sum().iter().map(|f| f.to_bits()).collect::<Vec<u32>>()
        })
    });
    threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
}

#[test]
fn every_world_size_gives_the_same_bits() {
    for logical_shards in [1, 5, 8] {
        let alone = run(logical_shards, &shares(logical_shards, 1), 1003, 2).remove(0);
        for world_size in 2..=logical_shards {
            for sum in run(logical_shards, &shares(logical_shards, world_size), 1003, 2) {
                assert!(sum == alone, "{world_size} workers over {logical_shards} shards");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_division_gives_the_same_bits(
        logical_shards in 2_u32..12,
        cuts in prop::collection::btree_set(1_u32..12, 1..4),
        length in 1_usize..300,
    ) {
        let mut at: Vec<u32> = cuts.into_iter().filter(|c| *c < logical_shards).collect();
        at.insert(0, 0);
        at.push(logical_shards);
        let owned: Vec<Shards> = at.windows(2).map(|w| w[0]..w[1]).collect();
        let alone = run(logical_shards, &shares(logical_shards, 1), length, 1).remove(0);
        for sum in run(logical_shards, &owned, length, 1) {
            prop_assert_eq!(&sum, &alone);
        }
    }
}

#[test]
fn vectors_larger_than_socket_buffers_pass() {
    let sums = run(4, &shares(4, 3), 3_000_001, 2);
    assert!(sums.iter().all(|s| *s == sums[0]));
}

#[test]
fn a_death_is_seen_by_all_others() {
    let owned = shares(3, 3);
    let (workers, assignment) = group(&owned);
    let threads = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let (assignment, shards) = (assignment.clone(), owned[rank].clone());
        thread::spawn(move || {
            let mut mesh = meet(&mut worker, &assignment);
            if rank == 1 {
                return None;
            }
            let mut buffers = Buffers::new(10);
            buffers.begin(3, &shards);
            buffers.next_vector().fill(1.0);
            buffers.push(shards.start);
            let round = Round { step: 0, phase: Phase::Train };
            let header = Header::default();
            let poller = &mut worker.poller;
            Some(mesh.exchange(poller, round, header, &mut buffers, &|| false, &mut |_| {}))
        })
    });
    let outcomes: Vec<_> = threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect();
    assert!(matches!(&outcomes[0], Some(Err(MeshError::Lost { .. }))), "{:?}", outcomes[0]);
    assert!(matches!(&outcomes[2], Some(Err(MeshError::Lost { .. }))), "{:?}", outcomes[2]);
}

#[test]
fn the_bell_interrupts_a_wait() {
    let (workers, assignment) = group(&shares(2, 2));
    let (met, all_met) = channel();
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let threads: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            let (assignment, met) = (assignment.clone(), met.clone());
            thread::spawn(move || {
                let mut mesh = meet(&mut worker, &assignment);
                met.send(worker.poller.bell()).unwrap();
                if mesh.rank() == 0 {
                    let round = Round { step: 0, phase: Phase::Train };
                    let interrupted = || stop.load(Ordering::SeqCst);
                    let outcome = mesh.notes(&mut worker.poller, round, [0; 4], &interrupted);
                    assert!(matches!(outcome, Err(MeshError::Interrupted)), "{outcome:?}");
                } else {
                    while !stop.load(Ordering::SeqCst) {
                        worker.poller.wait(Some(Duration::from_secs(10))).unwrap();
                    }
                }
                mesh
            })
        })
        .collect();
    let bells: Vec<Bell> = all_met.iter().take(2).collect();
    stop.store(true, Ordering::SeqCst);
    bells.iter().for_each(Bell::ring);
    threads.into_iter().for_each(|t| drop(t.join().unwrap()));
}

struct Copy {
    state: Vec<f32>,
    sum: Vec<f32>,
}

impl Destination for Copy {
    fn state(&mut self) -> &mut [f32] {
        &mut self.state
    }
    fn sum(&mut self, _: Round) -> &mut [f32] {
        &mut self.sum
    }
}

#[test]
fn a_joiner_ends_where_its_donor_is() {
    const LENGTH: usize = 200_000;
    let mut donor = Worker::new("w0");
    let member = Member { worker: "w0".into(), address: donor.address.clone(), shards: 0..1 };
    let (done, wait) = channel();
    let joiner = thread::spawn(move || {
        let mut joiner = Worker::new("w1");
        let mut follow = Follow::start(&joiner.inbox, member);
        let mut copy = Copy { state: vec![0.0; LENGTH], sum: vec![0.0; LENGTH] };
        let mut at = None;
        while at != Some(Round { step: 20, phase: Phase::Train }) {
            match follow.advance(&mut joiner.poller, &joiner.inbox, &mut copy).unwrap() {
                Followed::Nothing => joiner.poller.wait(Some(Duration::from_secs(10))).unwrap(),
                Followed::State(round) => at = Some(round),
                Followed::Sum(round) => {
                    assert_eq!(at, Some(round));
                    copy.state.iter_mut().zip(&copy.sum).for_each(|(s, u)| *s += *u);
                    at = Some(Round { step: round.step + 1, phase: Phase::Train });
                }
            }
        }
        done.send(()).unwrap();
        copy.state
    });
    let mut serving = Donor::default();
    let mut state = vec![1.0_f32; LENGTH];
    let mut admitted = 0;
    donor.poller.wait(Some(Duration::from_secs(10))).unwrap();
    for step in 0..20 {
        let round = Round { step, phase: Phase::Train };
        serving.admit(&donor.inbox, round, &state, LENGTH, &mut || admitted += 1);
        let sum: Vec<f32> = vector(0, step, LENGTH).collect();
        state.iter_mut().zip(&sum).for_each(|(s, u)| *s += *u);
        serving.publish(round, &sum);
    }
    wait.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(admitted, 1);
    assert!(joiner.join().unwrap() == state);
}

/// Two members of which the first is interrupted within its second round, while the other waits at that `point` of it:
/// the round whose sum the first still holds.
fn held_after_interruption_at(point: Point) -> Option<Round> {
    // A chunk is more than sockets hold, so that no hop ends while one side waits.
    const LENGTH: usize = 8_000_000;
    let (workers, assignment) = group(&shares(2, 2));
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let (over, wait) = channel::<()>();
    let mut wait = Some(wait);
    let threads: Vec<_> = workers
        .into_iter()
        .enumerate()
        .map(|(rank, mut worker)| {
            let assignment = assignment.clone();
            let wait = if rank == 1 { wait.take() } else { None };
            thread::spawn(move || {
                let mut mesh = meet(&mut worker, &assignment);
                let mut buffers = Buffers::new(LENGTH);
                let mut outcome = Ok(Vec::new());
                for step in 0..2 {
                    let shard = mesh.shards();
                    buffers.begin(2, &shard);
                    buffers.next_vector().fill(step as f32);
                    buffers.push(shard.start);
                    let round = Round { step, phase: Phase::Train };
                    let bell = worker.poller.bell();
                    let mut at = |now| {
                        if step == 1 && now == point {
                            match &wait {
                                Some(wait) => drop(wait.recv()),
                                None => {
                                    stop.store(true, Ordering::SeqCst);
                                    bell.ring();
                                }
                            }
                        }
                    };
                    let interrupted = || rank == 0 && stop.load(Ordering::SeqCst);
                    let poller = &mut worker.poller;
                    outcome = mesh.exchange(poller, round, Header::default(), &mut buffers, &interrupted, &mut at);
                    if outcome.is_ok() {
                        buffers.sum_is(round);
                    }
                }
                (outcome, buffers.sum_of())
            })
        })
        .collect();
    let mut threads = threads.into_iter();
    let (outcome, held) = threads.next().unwrap().join().unwrap();
    assert!(matches!(outcome, Err(MeshError::Interrupted)), "{outcome:?}");
    drop(over);
    threads.for_each(|t| drop(t.join().unwrap()));
    held
}

#[test]
fn a_sum_that_is_half_replaced_is_not_given_to_anybody() {
    assert_eq!(held_after_interruption_at(Point::Reduce), Some(Round { step: 0, phase: Phase::Train }));
    assert_eq!(held_after_interruption_at(Point::Gather), None);
}

#[test]
fn a_joiner_that_asks_twice_follows_its_newest_connection() {
    const LENGTH: usize = 100;
    let mut donor = Worker::new("w0");
    let member = Member { worker: "w0".into(), address: donor.address.clone(), shards: 0..1 };
    let (done, over) = channel();
    let serving = thread::spawn(move || {
        let mut serving = Donor::default();
        for step in 0.. {
            let round = Round { step, phase: Phase::Train };
            serving.admit(&donor.inbox, round, &[1.0; LENGTH], LENGTH, &mut || {});
            serving.publish(round, &[1.0; LENGTH]);
            donor.poller.wait(Some(Duration::from_millis(1))).unwrap();
            if over.try_recv().is_ok() {
                return;
            }
        }
    });
    let mut joiner = Worker::new("w1");
    let first = Follow::start(&joiner.inbox, member.clone());
    let mut follow = Follow::start(&joiner.inbox, member);
    drop(first);
    let mut copy = Copy { state: vec![0.0; LENGTH], sum: vec![0.0; LENGTH] };
    let mut sums = 0;
    while sums < 50 {
        match follow.advance(&mut joiner.poller, &joiner.inbox, &mut copy).unwrap() {
            Followed::Nothing => joiner.poller.wait(Some(Duration::from_secs(10))).unwrap(),
            Followed::State(_) => assert_eq!(sums, 0),
            Followed::Sum(_) => sums += 1,
        }
    }
    done.send(()).unwrap();
    serving.join().unwrap();
}
