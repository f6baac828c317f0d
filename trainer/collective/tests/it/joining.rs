//! Real sockets between threads: joiners that take the state from several donors while these go on, and what becomes
//! of them when a donor is not there, dies, lies, or serves others at the same time.

use crate::support::{Worker, assignment, meet, members, workers};
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use trainer_collective::{Destination, Donor, Follow, FollowError, Followed};
use trainer_core::membership::Header;
use trainer_core::{Assignment, Member, Phase, Round};

const PATIENCE: Duration = Duration::from_secs(20);

fn at(step: u64) -> Round {
    Round { step, phase: Phase::Train }
}

/// Floats of a sum: few, so that no joiner falls behind; each is added all over the state.
const SUM: usize = 16;

fn sum(step: u64) -> [f32; SUM] {
    std::array::from_fn(|i| ((i as u64 * 31 + step * 17) % 1024) as f32)
}

fn apply(state: &mut [f32], sum: &[f32]) {
    for part in state.chunks_mut(SUM) {
        part.iter_mut().zip(sum).for_each(|(s, u)| *s += *u);
    }
}

fn state(steps: u64, length: usize) -> Vec<f32> {
    let mut part = [1.0; SUM];
    (0..steps).for_each(|step| apply(&mut part, &sum(step)));
    part.into_iter().cycle().take(length).collect()
}

/// A group that steps on until it is told to stop; `gave` hears of each donor that gives something.
struct Group {
    members: Vec<Member>,
    stop: Vec<Sender<()>>,
    threads: Vec<thread::JoinHandle<()>>,
    gave: Receiver<String>,
}

impl Group {
    fn start(count: usize, length: usize) -> Self {
        let workers = workers(u32::try_from(count).unwrap());
        let members = members(&workers);
        let assignment = assignment(1, members.clone());
        let (giving, gave) = channel();
        let (stop, stops): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let threads = workers.into_iter().zip(stops).map(|(worker, stop)| {
            let (assignment, giving) = (assignment.clone(), giving.clone());
            thread::spawn(move || step_on(worker, &assignment, length, &giving, &stop))
        });
        Self { members, stop, threads: threads.collect(), gave }
    }

    fn end(self) {
        self.stop.into_iter().for_each(|stop| stop.send(()).unwrap());
        self.threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

fn step_on(mut worker: Worker, assignment: &Assignment, length: usize, giving: &Sender<String>, stop: &Receiver<()>) {
    let mut mesh = meet(&mut worker, assignment).unwrap();
    let mut state = vec![1.0_f32; length];
    let mut donor = Donor::default();
    for step in 0.. {
        // All stop at the same step, or whoever goes on would see the others' death.
        let header = Header {
            joiner: donor.offer(&worker.inbox, length),
            newest_generation: u64::from(stop.try_recv().is_ok()),
            ..Header::default()
        };
        let notes = mesh.notes(&mut worker.poller, at(step), header.to_bytes(), &|| false).unwrap();
        let headers: Vec<Header> = notes.iter().map(|note| Header::from_bytes(note).unwrap()).collect();
        let sum = sum(step);
        apply(&mut state, &sum);
        donor.publish(at(step), &sum);
        donor.admit(&headers, at(step + 1), &state, SUM, &mut || {
            // Whoever started the group may not listen any more.
            let _ = giving.send(worker.member.worker.clone());
        });
        if headers.iter().any(|h| h.newest_generation == 1) {
            return;
        }
    }
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

/// Follows until so many sums were taken, and compares with what the donors' state must be.
fn join(worker: &mut Worker, donors: &[Member], length: usize, sums: usize) -> Result<(), FollowError> {
    let mut follow = Follow::start(&worker.inbox, donors)?;
    let mut copy = Copy { state: vec![0.0; length], sum: vec![0.0; SUM] };
    let (mut position, mut taken) = (None, 0);
    while taken < sums || position.is_none() {
        match follow.advance(&mut worker.poller, &worker.inbox, &mut copy)? {
            Followed::Nothing => {
                let left = follow.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
                worker.poller.wait(Some(left.unwrap_or(PATIENCE))).unwrap();
            }
            Followed::Part => {}
            Followed::State(round) => {
                assert!(copy.state == state(round.step, length), "the shares are not of one state");
                position = Some(round);
            }
            Followed::Sum(round) => {
                assert_eq!(position, Some(round));
                apply(&mut copy.state, &copy.sum);
                position = Some(at(round.step + 1));
                taken += 1;
            }
        }
    }
    assert!(copy.state == state(position.unwrap().step, length));
    Ok(())
}

#[test]
fn a_joiner_ends_where_its_donors_are() {
    // Shorter than one share's grain, and longer than what sockets hold.
    for (donors, length) in [(1, 5), (1, 400_003), (2, 40), (3, 40), (3, 400_003)] {
        let group = Group::start(donors, length);
        join(&mut Worker::new("j", 0), &group.members, length, 3).unwrap();
        let mut gave: Vec<String> = group.gave.try_iter().collect();
        gave.sort();
        assert_eq!(gave, (0..donors).map(|i| format!("w{i}")).collect::<Vec<_>>(), "{length}");
        group.end();
    }
}

#[test]
fn several_joiners_at_once_are_served_by_all_donors() {
    const LENGTH: usize = 300_000;
    let group = Group::start(3, LENGTH);
    let joiners = (0..4).map(|i| {
        let mut donors = group.members.clone();
        donors.rotate_left(i % 3);
        if i == 3 {
            // One of them knows fewer donors than the others.
            donors.pop();
        }
        thread::spawn(move || join(&mut Worker::new(&format!("j{i}"), 0), &donors, LENGTH, 2))
    });
    for joiner in joiners.collect::<Vec<_>>() {
        joiner.join().unwrap().unwrap();
    }
    group.end();
}

#[test]
fn a_joiner_that_asks_twice_is_served_what_it_asked_for_last() {
    const LENGTH: usize = 1000;
    let group = Group::start(2, LENGTH);
    let mut joiner = Worker::new("j", 0);
    drop(Follow::start(&joiner.inbox, &group.members).unwrap());
    drop(Follow::start(&joiner.inbox, &group.members[1..]).unwrap());
    join(&mut joiner, &group.members, LENGTH, 3).unwrap();
    group.end();
}

#[test]
fn a_donor_that_is_not_there_is_named_and_the_others_are_enough() {
    const LENGTH: usize = 1000;
    let group = Group::start(2, LENGTH);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut donors = group.members.clone();
    donors.push(Member { worker: "w9".into(), address: nobody.to_string(), shards: 2..3 });
    let mut joiner = Worker::new("j", 0);
    match join(&mut joiner, &donors, LENGTH, 1) {
        Err(FollowError::Lost { donor, .. }) => assert_eq!(donor, "w9"),
        other => panic!("{other:?}"),
    }
    assert_eq!(group.gave.try_iter().count(), 0, "the others gave a share that nobody can use");
    join(&mut joiner, &group.members, LENGTH, 1).unwrap();
    group.end();
}

/// A cable to `address` that passes so many bytes from there, and is cut then, or passes nothing more.
fn cable(address: &str, bytes: u64, cut: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = (listener.local_addr().unwrap().to_string(), address.to_owned());
    thread::spawn(move || {
        let (joiner, _) = listener.accept().unwrap();
        let donor = TcpStream::connect(there).unwrap();
        let (mut up, mut down) = (joiner.try_clone().unwrap(), donor.try_clone().unwrap());
        let asked = thread::spawn(move || io::copy(&mut up, &mut down));
        io::copy(&mut (&donor).take(bytes), &mut &joiner).unwrap();
        if cut {
            joiner.shutdown(Shutdown::Both).unwrap();
            donor.shutdown(Shutdown::Both).unwrap();
        }
        drop(asked.join());
    });
    here
}

#[test]
fn a_donor_that_goes_in_the_middle_is_named_and_the_other_is_enough() {
    const LENGTH: usize = 4_000_000;
    let group = Group::start(2, LENGTH);
    let mut joiner = Worker::new("j", 0);
    for (gone, cut) in [(0, true), (1, true), (1, false)] {
        let mut donors = group.members.clone();
        donors[gone].address = cable(&donors[gone].address, 2_000_000, cut);
        match join(&mut joiner, &donors, LENGTH, 1) {
            Err(FollowError::Lost { donor, detail }) => {
                assert_eq!(donor, format!("w{gone}"));
                assert!(detail.contains(if cut { "of 8000000 bytes" } else { "sent nothing for" }), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        join(&mut joiner, &group.members[1 - gone..2 - gone], LENGTH, 1).unwrap();
    }
    group.end();
}

#[test]
fn a_request_that_not_all_donors_hear_of_keeps_nobody_waiting() {
    const LENGTH: usize = 1000;
    let group = Group::start(2, LENGTH);
    // A joiner that reaches one of its two donors and then goes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = Member { worker: "w9".into(), address: silent.local_addr().unwrap().to_string(), shards: 2..3 };
    let hung = Worker::new("hung", 0);
    let follow = Follow::start(&hung.inbox, &[group.members[0].clone(), absent]).unwrap();
    drop(follow);
    drop(hung);
    join(&mut Worker::new("j", 0), &group.members, LENGTH, 1).unwrap();
    group.end();
}

#[test]
fn a_donor_of_another_state_is_refused() {
    let group = Group::start(1, 1000);
    match join(&mut Worker::new("j", 0), &group.members, 1001, 1) {
        Err(FollowError::Lost { donor, detail }) => {
            assert_eq!(donor, "w0");
            assert!(detail.contains("expected 4004 bytes"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    group.end();
}

/// The mesh of a group that just met: whoever has the state gives it to whoever has not.
fn spread(count: usize, holders: &[usize], takers: &[usize], length: usize) {
    let workers = workers(u32::try_from(count).unwrap());
    let assignment = assignment(1, members(&workers));
    let threads = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let (assignment, holders, takers) = (assignment.clone(), holders.to_vec(), takers.to_vec());
        thread::spawn(move || {
            let mut mesh = meet(&mut worker, &assignment).unwrap();
            let before = if holders.contains(&rank) { state(2, length) } else { vec![-1.0; length] };
            let mut vector = before.clone();
            mesh.spread(&mut worker.poller, at(2), (&holders, &takers), &mut vector, &|| false).unwrap();
            let expected = if takers.contains(&rank) { state(2, length) } else { before };
            assert!(vector == expected, "rank {rank} of {count}: {holders:?} to {takers:?}");
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|t| t.join().unwrap());
}

/// Each of a group that just met has some ranges of a state, and gets the others.
fn gather(owned: &[Vec<std::ops::Range<usize>>], length: usize) {
    let workers = workers(u32::try_from(owned.len()).unwrap());
    let assignment = assignment(1, members(&workers));
    let threads = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let (assignment, owned) = (assignment.clone(), owned.to_vec());
        thread::spawn(move || {
            let mut mesh = meet(&mut worker, &assignment).unwrap();
            let whole = state(2, length);
            let (mut vector, mut expected) = (vec![-1.0; length], vec![-1.0; length]);
            for range in &owned[rank] {
                vector[range.clone()].copy_from_slice(&whole[range.clone()]);
            }
            for range in owned.iter().flatten() {
                expected[range.clone()].copy_from_slice(&whole[range.clone()]);
            }
            mesh.gather(&mut worker.poller, at(2), &owned, &mut vector, &|| false).unwrap();
            assert!(vector == expected, "rank {rank}: {owned:?}");
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|t| t.join().unwrap());
}

// Each worker has a list of ranges, also of one.
#[allow(clippy::single_range_in_vec_init)]
#[test]
fn what_each_has_all_get_and_what_nobody_has_stays() {
    gather(&[vec![0..5, 12..20], vec![5..10]], 20);
    gather(&[vec![], vec![3..4, 6..7], vec![0..1]], 8);
    gather(
        &[vec![0..1_000_000], vec![1_500_000..2_500_001], vec![1_000_000..1_500_000, 2_600_000..3_000_000]],
        3_000_000,
    );
}

#[test]
fn whoever_has_the_state_gives_it_to_whoever_has_not() {
    for length in [1, 5, 40, 1003] {
        spread(2, &[0], &[1], length);
        spread(4, &[0], &[1, 2, 3], length);
        spread(5, &[3, 1], &[4, 0, 2], length);
        spread(5, &[0, 1, 3], &[2], length);
        // One that is a round behind needs its sum only.
        spread(4, &[0, 3], &[1], length);
    }
    // More than two blocks.
    spread(4, &[2], &[0, 1, 3], 10_000_003);
}
