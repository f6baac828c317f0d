//! The sum over real sockets between threads: in the tree's order the same bits as the serial tree for any number of
//! members and any division; an abort ends it at once; the next generation goes on in the same memory.

use crate::support::{ROUND, Worker, assignment, workers};
use crate::vectors::{bits, compute, result, serial, shares};
use proptest::prelude::*;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use tch::Device;
use trainer_collective::{Aborter, Host, Memory, MeshError, Tcp, Transport};
use trainer_core::tree::Shards;
use trainer_core::{Assignment, Phase, Round};
use trainer_nccl::{GroupSum, Numerics, Plan, SumError, TorchMemory};

/// The last of two rounds' sums, of each member.
fn run(numerics: Numerics, owned: &[Shards], length: usize) -> Vec<Vec<f32>> {
    run_in(Host::zeros, numerics, owned, length)
}

fn run_in<M: Memory + AsMut<[f32]> + 'static>(
    zeros: fn(usize) -> M,
    numerics: Numerics,
    owned: &[Shards],
    length: usize,
) -> Vec<Vec<f32>> {
    let workers = workers(owned.len());
    let assignment = assignment(1, &workers, owned);
    let members = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let assignment = assignment.clone();
        thread::spawn(move || {
            let mut mesh = worker.meet(&assignment);
            let plan = Plan::new(numerics, &assignment, rank, length);
            let mut memory = zeros(plan.memory_len());
            // What an earlier generation left must not matter.
            memory.as_mut().fill(f32::NAN);
            let shards = plan.owned();
            let mut sum = GroupSum::new(plan, memory);
            for step in 0..2 {
                compute(&mut sum, shards.clone(), step);
                let round = Round { step, phase: Phase::Train };
                sum.exchange(&mut Tcp::new(&mut mesh, &mut worker.poller, round, &|| false), round).unwrap();
                assert_eq!(sum.sum_of(), Some(round));
            }
            result(&mut sum)
        })
    });
    members.collect::<Vec<_>>().into_iter().map(|member| member.join().unwrap()).collect()
}

#[test]
fn one_to_five_members_give_the_serial_trees_bits() {
    for logical_shards in [5, 8, 11] {
        let expected = bits(&serial(&(0..logical_shards), 1, 1003));
        for world_size in 1..=5 {
            for sum in run(Numerics::Exact, &shares(logical_shards, world_size), 1003) {
                assert!(bits(&sum) == expected, "{world_size} members over {logical_shards} shards");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn uneven_divisions_give_the_serial_trees_bits(
        logical_shards in 2_u32..14,
        cuts in prop::collection::btree_set(1_u32..14, 1..5),
        length in 1_usize..700,
    ) {
        let mut at: Vec<u32> = cuts.into_iter().filter(|c| *c < logical_shards).collect();
        at.insert(0, 0);
        at.push(logical_shards);
        let owned: Vec<Shards> = at.windows(2).map(|w| w[0]..w[1]).collect();
        let expected = bits(&serial(&(0..logical_shards), 1, length));
        for sum in run(Numerics::Exact, &owned, length) {
            prop_assert!(bits(&sum) == expected, "{:?}", owned);
        }
    }
}

#[test]
fn sums_made_by_libtorch_have_the_serial_trees_bits() {
    let zeros = |len| TorchMemory::zeros(Device::Cpu, len).unwrap();
    for owned in [shares(8, 1), vec![0..1, 1..8], vec![0..3, 3..4, 4..8]] {
        let expected = bits(&serial(&(0..8), 1, 1003));
        assert!(run_in(zeros, Numerics::Exact, &owned, 1003).iter().all(|sum| bits(sum) == expected));
    }
}

#[test]
fn vectors_larger_than_socket_buffers_pass() {
    let expected = bits(&serial(&(0..4), 1, 3_000_001));
    assert!(run(Numerics::Exact, &[0..1, 1..3, 3..4], 3_000_001).iter().all(|sum| bits(sum) == expected));
}

#[test]
fn in_any_order_all_members_still_have_one_result() {
    for owned in [shares(8, 1), vec![0..1, 1..8], vec![0..3, 3..4, 4..8], shares(8, 5)] {
        let exact = serial(&(0..8), 1, 1003);
        let sums = run(Numerics::Fast, &owned, 1003);
        assert!(sums.iter().all(|sum| bits(sum) == bits(&sums[0])));
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 8192.0 * 1e-5;
        assert!(sums[0].iter().zip(&exact).all(near));
    }
}

/// What the members of a generation make of it when the last one never comes to the exchange.
struct Stuck {
    worker: Worker,
    memory: Host,
    outcome: Result<(), SumError<MeshError>>,
    sum_of: Option<Round>,
}

fn stuck(numerics: Numerics, generation: &Assignment, workers: Vec<Worker>, length: usize) -> Vec<Stuck> {
    let last = workers.len() - 1;
    let (aborter, aborters) = channel();
    let (over, end) = channel::<()>();
    let mut end = Some(end);
    let ended = Arc::new(Barrier::new(last));
    let members = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let (generation, aborter, ended) = (generation.clone(), aborter.clone(), ended.clone());
        let end = if rank == last { end.take() } else { None };
        thread::spawn(move || {
            let mut mesh = worker.meet(&generation);
            let plan = Plan::new(numerics, &generation, rank, length);
            let (shards, memory) = (plan.owned(), Host::zeros(plan.memory_len()));
            let mut sum = GroupSum::new(plan, memory);
            compute(&mut sum, shards, 0);
            if let Some(end) = end {
                end.recv().unwrap_err();
                return None;
            }
            let mut transport = Tcp::new(&mut mesh, &mut worker.poller, ROUND, &|| false);
            aborter.send(Transport::<Host>::aborter(&transport)).unwrap();
            let outcome = sum.exchange(&mut transport, ROUND);
            let again = sum.exchange(&mut transport, ROUND);
            // A mesh that closes earlier would look like a death to whoever has not seen the abort yet.
            ended.wait();
            assert!(matches!(again, Err(SumError::Transport(MeshError::Interrupted))), "{again:?}");
            let sum_of = sum.sum_of();
            Some(Stuck { worker, memory: sum.into_memory(), outcome, sum_of })
        })
    });
    let members: Vec<_> = members.collect();
    let held: Vec<Aborter> = (0..last).map(|_| aborters.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    held.iter().for_each(Aborter::abort);
    let mut members = members.into_iter();
    let found = members.by_ref().take(last).filter_map(|member| member.join().unwrap()).collect();
    drop(over);
    members.for_each(|member| drop(member.join().unwrap()));
    found
}

#[test]
fn an_aborted_exchange_ends_at_once_and_the_next_generation_goes_on_in_its_memory() {
    const LENGTH: usize = 5000;
    for numerics in [Numerics::Exact, Numerics::Fast] {
        let workers = workers(3);
        let first = assignment(1, &workers, &[0..2, 2..5, 5..8]);
        let stuck = stuck(numerics, &first, workers, LENGTH);
        assert_eq!(stuck.len(), 2);
        for member in &stuck {
            let interrupted = matches!(member.outcome, Err(SumError::Transport(MeshError::Interrupted)));
            assert!(interrupted && member.sum_of.is_none(), "{:?}", member.outcome);
        }

        let (workers, memories): (Vec<_>, Vec<_>) = stuck.into_iter().map(|s| (s.worker, s.memory)).unzip();
        let second = assignment(2, &workers, &[0..3, 3..8]);
        let members = workers.into_iter().zip(memories).enumerate().map(|(rank, (mut worker, memory))| {
            let second = second.clone();
            thread::spawn(move || {
                let mut mesh = worker.meet(&second);
                let plan = Plan::new(Numerics::Exact, &second, rank, LENGTH);
                let memory = if memory.len() < plan.memory_len() { Host::zeros(plan.memory_len()) } else { memory };
                let shards = plan.owned();
                let mut sum = GroupSum::new(plan, memory);
                compute(&mut sum, shards, 0);
                sum.exchange(&mut Tcp::new(&mut mesh, &mut worker.poller, ROUND, &|| false), ROUND).unwrap();
                bits(&result(&mut sum))
            })
        });
        let expected = bits(&serial(&(0..8), 0, LENGTH));
        for member in members.collect::<Vec<_>>() {
            assert!(member.join().unwrap() == expected);
        }
    }
}

#[test]
fn a_death_is_seen_by_all_others() {
    let workers = workers(3);
    let generation = assignment(1, &workers, &[0..1, 1..2, 2..3]);
    let members = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let generation = generation.clone();
        thread::spawn(move || {
            let mut mesh = worker.meet(&generation);
            if rank == 1 {
                return None;
            }
            let plan = Plan::new(Numerics::Exact, &generation, rank, 10);
            let (shards, memory) = (plan.owned(), Host::zeros(plan.memory_len()));
            let mut sum = GroupSum::new(plan, memory);
            compute(&mut sum, shards, 0);
            Some(sum.exchange(&mut Tcp::new(&mut mesh, &mut worker.poller, ROUND, &|| false), ROUND))
        })
    });
    for (rank, member) in members.collect::<Vec<_>>().into_iter().enumerate() {
        let outcome = member.join().unwrap();
        let lost = matches!(outcome, Some(Err(SumError::Transport(MeshError::Lost { .. }))));
        assert!(lost || rank == 1, "{outcome:?}");
    }
}
