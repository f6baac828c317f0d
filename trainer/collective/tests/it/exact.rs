//! Real sockets between threads: any number of members gives the same bits, and a member's death is seen at once.

use crate::support::{Worker, assignment, meet, members, workers};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use trainer_collective::{Bell, Buffers, Context, Exchange, Mesh, MeshError, Numerics, Point};
use trainer_core::membership::Header;
use trainer_core::tree::{Shards, split};
use trainer_core::{Assignment, Member, Phase, Round};

fn group(owned: &[Shards]) -> (Vec<Worker>, Assignment) {
    let workers = workers(u32::try_from(owned.len()).unwrap());
    let with = |(member, shards): (Member, &Shards)| Member { shards: shards.clone(), ..member };
    let members = members(&workers).into_iter().zip(owned).map(with).collect();
    (workers, assignment(1, members))
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

/// How the members of a test reach each other: whether each shares its memory.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Over {
    Sockets,
    Memory,
    /// Every third member has sockets alone.
    Both,
}

impl Over {
    fn prepare(self, mesh: &mut Mesh) {
        if self == Self::Sockets || (self == Self::Both && mesh.rank() % 3 == 2) {
            mesh.avoid_shared_memory();
        }
    }
}

/// Does one round with [`vector`]s, telling of the last as a backward pass would, part after part.
fn sum(cx: &mut Context<'_>, step: u64, header: Header) -> Result<Vec<Header>, MeshError> {
    let mut exchange = Exchange::begin(cx, Round { step, phase: Phase::Train })?;
    for shard in cx.mesh.shards() {
        exchange.shard(cx, shard, |target, ready| {
            let values: Vec<f32> = vector(shard, step, target.len()).collect();
            let mut end = target.len();
            while end > 0 {
                let from = end - end.min(end / 3 + 1000);
                target[from..end].iter().zip(&values[from..end]).for_each(|(cell, value)| cell.set(*value));
                ready(from);
                end = from;
            }
        });
    }
    exchange.finish(cx, header)
}

fn serial(node: &Shards, step: u64, length: usize) -> Vec<f32> {
    let Some((left, right)) = split(node) else { return vector(node.start, step, length).collect() };
    let (left, right) = (serial(&left, step, length), serial(&right, step, length));
    left.iter().zip(right).map(|(a, b)| a + b).collect()
}

fn bits(sum: &[f32]) -> Vec<u32> {
    sum.iter().map(|f| f.to_bits()).collect()
}

/// What each member has in the end.
fn run(owned: &[Shards], length: usize, rounds: u64, over: Over, numerics: Numerics) -> Vec<Vec<u32>> {
    let (workers, assignment) = group(owned);
    let threads = workers.into_iter().map(|mut worker| {
        let assignment = assignment.clone();
        thread::spawn(move || {
            let mut mesh = meet(&mut worker, &assignment).unwrap();
            over.prepare(&mut mesh);
            let rank = mesh.rank();
            let mut buffers = Buffers::new(length, numerics).unwrap();
            for step in 0..rounds {
                let header = Header { newest_generation: rank as u64, ..Header::default() };
                let mut cx = Context {
                    mesh: &mut mesh,
                    poller: &mut worker.poller,
                    buffers: &mut buffers,
                    interrupted: &|| false,
                    at: &mut |_| {},
                };
                let headers = sum(&mut cx, step, header).unwrap();
                let seen: Vec<u64> = headers.iter().map(|h| h.newest_generation).collect();
                assert_eq!(seen, (0..assignment.members.len() as u64).collect::<Vec<_>>());
            }
            (mesh, bits(buffers.sum()))
        })
    });
    let ended: Vec<_> = threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect();
    ended.into_iter().map(|(_, sum)| sum).collect()
}

#[test]
fn every_world_size_gives_the_bits_of_the_serial_tree() {
    for (logical_shards, length) in [(1, 1003), (5, 1003), (8, 1003), (5, 50_001), (4, 300_001)] {
        let expected = bits(&serial(&(0..logical_shards), 1, length));
        for world_size in 1..=logical_shards {
            for over in [Over::Sockets, Over::Memory, Over::Both] {
                for sum in run(&shares(logical_shards, world_size), length, 2, over, Numerics::Exact) {
                    assert!(
                        sum == expected,
                        "{world_size} workers, {logical_shards} shards, {length} floats, {over:?}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_division_gives_the_bits_of_the_serial_tree(
        logical_shards in 2_u32..24,
        cuts in prop::collection::btree_set(1_u32..24, 1..4),
        length in prop_oneof![0_usize..300, 16_000_usize..20_000, 60_000_usize..200_000],
        over in prop_oneof![Just(Over::Sockets), Just(Over::Memory), Just(Over::Both)],
    ) {
        let mut at: Vec<u32> = cuts.into_iter().filter(|c| *c < logical_shards).collect();
        at.insert(0, 0);
        at.push(logical_shards);
        let owned: Vec<Shards> = at.windows(2).map(|w| w[0]..w[1]).collect();
        let expected = bits(&serial(&(0..logical_shards), 2, length));
        for sum in run(&owned, length, 3, over, Numerics::Exact) {
            prop_assert!(sum == expected, "{owned:?}");
        }
    }
}

#[test]
fn fast_sums_are_equal_on_all_members_and_near_the_exact_one() {
    for (length, over) in
        [(100, Over::Memory), (200_000, Over::Sockets), (200_000, Over::Memory), (200_000, Over::Both)]
    {
        let exact = serial(&(0..9), 1, length);
        let sums = run(&[0..3, 3..4, 4..7, 7..9], length, 2, over, Numerics::Fast);
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        for (fast, exact) in sums[0].iter().zip(exact) {
            let fast = f32::from_bits(*fast);
            assert!((fast - exact).abs() < 0.1, "{fast} for {exact}");
        }
    }
}

#[test]
fn vectors_larger_than_socket_buffers_pass() {
    for over in [Over::Sockets, Over::Both] {
        let sums = run(&shares(4, 3), 3_000_001, 2, over, Numerics::Exact);
        assert!(sums.iter().all(|s| *s == sums[0]));
    }
}

#[test]
fn a_death_is_seen_by_all_others() {
    for (length, over) in [(10, Over::Sockets), (500_000, Over::Sockets), (500_000, Over::Memory)] {
        let (workers, assignment) = group(&shares(3, 3));
        let threads = workers.into_iter().map(|mut worker| {
            let assignment = assignment.clone();
            thread::spawn(move || {
                let mut mesh = meet(&mut worker, &assignment).unwrap();
                over.prepare(&mut mesh);
                let mut buffers = Buffers::new(length, Numerics::Exact).unwrap();
                let dies = mesh.rank() == 1;
                for step in 0..2 {
                    if dies && step == 1 {
                        break;
                    }
                    let mut cx = Context {
                        mesh: &mut mesh,
                        poller: &mut worker.poller,
                        buffers: &mut buffers,
                        interrupted: &|| false,
                        at: &mut |_| {},
                    };
                    sum(&mut cx, step, Header::default())?;
                }
                Ok(())
            })
        });
        let outcomes: Vec<_> = threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect();
        for rank in [0, 2] {
            assert!(matches!(&outcomes[rank], Err(MeshError::Lost { .. })), "{:?}", outcomes[rank]);
        }
    }
}

/// Two members. The first is interrupted in its second round, and goes on alone with other rounds, in the same memory,
/// while the other waits within that round, or does not wait. What becomes of the other.
fn other_of_one_that_goes_on(waits: bool) -> Result<Vec<u32>, MeshError> {
    const LENGTH: usize = 1_000_000;
    let (mut workers, assignment) = group(&shares(2, 2));
    let (mut slow, mut hasty) = (workers.pop().unwrap(), workers.pop().unwrap());
    let (overwritten, wait) = channel::<()>();
    let same = assignment.clone();
    let hasty = thread::spawn(move || {
        let mut mesh = meet(&mut hasty, &same).unwrap();
        let mut buffers = Buffers::new(LENGTH, Numerics::Exact).unwrap();
        let stop = AtomicBool::new(false);
        for step in 0..2 {
            let mut cx = Context {
                mesh: &mut mesh,
                poller: &mut hasty.poller,
                buffers: &mut buffers,
                interrupted: &|| stop.load(Ordering::SeqCst),
                at: &mut |_| stop.store(step == 1, Ordering::SeqCst),
            };
            let outcome = sum(&mut cx, step, Header::default());
            assert_eq!(outcome.is_err(), step == 1);
        }
        let members = vec![Member { worker: "w0".into(), address: String::new(), shards: 0..2 }];
        let alone = self::assignment(2, members);
        let mut alone = meet(&mut hasty, &alone).unwrap();
        for step in 7..11 {
            let mut cx = Context {
                mesh: &mut alone,
                poller: &mut hasty.poller,
                buffers: &mut buffers,
                interrupted: &|| false,
                at: &mut |_| {},
            };
            sum(&mut cx, step, Header::default()).unwrap();
        }
        drop(overwritten);
        if waits { Some(mesh) } else { None }
    });
    let mut mesh = meet(&mut slow, &assignment).unwrap();
    let mut buffers = Buffers::new(LENGTH, Numerics::Exact).unwrap();
    for step in 0..2 {
        let mut cx = Context {
            mesh: &mut mesh,
            poller: &mut slow.poller,
            buffers: &mut buffers,
            interrupted: &|| false,
            at: &mut |_| {
                if waits && step == 1 {
                    assert!(wait.recv().is_err());
                }
            },
        };
        sum(&mut cx, step, Header::default())?;
    }
    drop(hasty.join().unwrap());
    Ok(bits(buffers.sum()))
}

#[test]
fn memory_that_its_owner_overwrites_gives_no_wrong_sum() {
    let outcome = other_of_one_that_goes_on(true);
    let Err(MeshError::Lost { worker, detail }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((worker.as_str(), detail.as_str()), ("w0", "gave up the round while its memory was read"));
    let right = bits(&serial(&(0..2), 1, 1_000_000));
    for _ in 0..20 {
        match other_of_one_that_goes_on(false) {
            Ok(sum) => assert!(sum == right),
            Err(error) => assert!(matches!(error, MeshError::Lost { .. }), "{error:?}"),
        }
    }
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
                let mut mesh = meet(&mut worker, &assignment).unwrap();
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

/// Two members of which the first is interrupted within its second round, while the other waits at that `point` of it.
fn interrupted_at(point: Point, over: Over) {
    const LENGTH: usize = 2_000_000;
    let (workers, assignment) = group(&shares(2, 2));
    let (over_now, wait) = channel::<()>();
    let mut wait = Some(wait);
    let threads = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let assignment = assignment.clone();
        let wait = if rank == 1 { wait.take() } else { None };
        thread::spawn(move || {
            let mut mesh = meet(&mut worker, &assignment).unwrap();
            over.prepare(&mut mesh);
            let mut buffers = Buffers::new(LENGTH, Numerics::Exact).unwrap();
            let stop = AtomicBool::new(false);
            let mut outcome = Ok(Vec::new());
            for step in 0..2 {
                let mut cx = Context {
                    mesh: &mut mesh,
                    poller: &mut worker.poller,
                    buffers: &mut buffers,
                    interrupted: &|| stop.load(Ordering::SeqCst),
                    at: &mut |now| {
                        if step == 1 && now == point {
                            match &wait {
                                Some(wait) => assert!(wait.recv().is_err()),
                                None => stop.store(true, Ordering::SeqCst),
                            }
                        }
                    },
                };
                outcome = sum(&mut cx, step, Header::default());
                if outcome.is_ok() {
                    buffers.sum_is(Round { step, phase: Phase::Train });
                }
            }
            (mesh, outcome, buffers)
        })
    });
    let mut threads = threads.collect::<Vec<_>>().into_iter();
    let (mesh, outcome, buffers) = threads.next().unwrap().join().unwrap();
    assert!(matches!(outcome, Err(MeshError::Interrupted)), "{outcome:?}");
    assert_eq!(buffers.sum_of(), Some(Round { step: 0, phase: Phase::Train }));
    assert!(bits(buffers.sum()) == bits(&serial(&(0..2), 0, LENGTH)));
    drop((over_now, mesh));
    threads.for_each(|t| drop(t.join().unwrap()));
}

#[test]
fn a_sum_stays_until_the_next_is_whole() {
    for over in [Over::Sockets, Over::Memory] {
        interrupted_at(Point::Reduce, over);
        interrupted_at(Point::Gather, over);
    }
}
