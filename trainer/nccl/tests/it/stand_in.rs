//! What is put to NCCL and CUDA, and how they are waited for and aborted, against a stand-in for both libraries. How
//! the real ones behave can't be seen without a GPU.

use crate::again;
use crate::support::{ROUND, assignment, workers};
use crate::vectors::{bits, compute, result, serial, shares};
use std::ffi::c_void;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use trainer_collective::{Aborter, Host, Memory, MemoryError, Transport};
use trainer_core::Assignment;
use trainer_core::tree::Shards;
use trainer_nccl::{
    Communicator, Device, DeviceMemory, GroupSum, Library, NcclError, Numerics, Place, Plan, SumError, TorchMemory,
    UniqueId, rendezvous,
};

/// A folder with the stand-in under both libraries' names.
fn libraries() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned()));
    command.args(["-std=c++17", "-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("libnccl.so"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stand_in.cpp"));
    assert!(command.status().unwrap().success(), "{command:?}");
    symlink("libnccl.so", folder.path().join("libcuda.so")).unwrap();
    folder
}

/// Memory of the host that says it is a device's, as the stand-in has it.
struct Pretended {
    host: Host,
    address: u64,
}

impl Pretended {
    fn zeros(len: usize) -> Self {
        let mut host = Host::zeros(len);
        let address = host.as_mut().as_mut_ptr().expose_provenance() as u64;
        Self { host, address }
    }
}

impl Memory for Pretended {
    fn len(&self) -> usize {
        self.host.len()
    }

    fn add(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError> {
        self.host.add(into, from)
    }

    fn copy(&mut self, into: Range<usize>, from: Range<usize>) -> Result<(), MemoryError> {
        self.host.copy(into, from)
    }
}

impl AsMut<[f32]> for Pretended {
    fn as_mut(&mut self) -> &mut [f32] {
        self.host.as_mut()
    }
}

// SAFETY: a vector that is never resized.
#[expect(unsafe_code, reason = "the address is given to the stand-in")]
unsafe impl DeviceMemory for Pretended {
    fn device(&self) -> Result<usize, String> {
        Ok(0)
    }

    fn address(&self) -> u64 {
        self.address
    }

    fn stream(&self) -> *mut c_void {
        std::ptr::null_mut()
    }
}

fn build(id: UniqueId, rank: usize, world_size: usize) -> Communicator {
    let library = Library::open().unwrap();
    let device = Device::open(0).unwrap();
    Communicator::build(&library, &device, id, Place { rank, world_size }, || false).unwrap()
}

fn begun(numerics: Numerics, generation: &Assignment, rank: usize, length: usize) -> GroupSum<Pretended> {
    let plan = Plan::new(numerics, generation, rank, length);
    let (shards, memory) = (plan.owned(), Pretended::zeros(plan.memory_len()));
    let mut sum = GroupSum::new(plan, memory);
    compute(&mut sum, shards, 0);
    sum
}

/// From the rendezvous over TCP to the close: each member's sum.
fn run(numerics: Numerics, owned: &[Shards], length: usize) -> Vec<Vec<f32>> {
    let workers = workers(owned.len());
    let generation = assignment(1, &workers, owned);
    let members = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let generation = generation.clone();
        thread::spawn(move || {
            let offer = Library::open().and_then(|library| library.offer(rank));
            let mut mesh = worker.meet(&generation);
            let id = rendezvous(&mut mesh, &mut worker.poller, ROUND, offer, &|| false).unwrap();
            let mut transport = build(id, rank, generation.members.len());
            let mut sum = begun(numerics, &generation, rank, length);
            sum.exchange(&mut transport, ROUND).unwrap();
            transport.close().unwrap();
            result(&mut sum)
        })
    });
    members.collect::<Vec<_>>().into_iter().map(|member| member.join().unwrap()).collect()
}

#[test]
fn sums_over_nccls_calls_have_the_serial_trees_bits() {
    if !again::here() {
        let folder = libraries();
        return again::run("stand_in::sums_over_nccls_calls_have_the_serial_trees_bits", Some(folder.path()), &[]);
    }
    for owned in [shares(8, 1), vec![0..1, 1..8], vec![0..3, 3..4, 4..8], shares(8, 4)] {
        let exact = serial(&(0..8), 0, 1003);
        assert!(run(Numerics::Exact, &owned, 1003).iter().all(|sum| bits(sum) == bits(&exact)));
        let sums = run(Numerics::Fast, &owned, 1003);
        assert!(sums.iter().all(|sum| bits(sum) == bits(&sums[0])));
        assert!(sums[0].iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 8192.0 * 1e-5));
    }
}

/// What the first of two members makes of an exchange to which the second doesn't come; `meanwhile` is called with its
/// aborter and the second's communicator.
fn alone(meanwhile: fn(&Aborter, Communicator)) -> Vec<Result<(), SumError<NcclError>>> {
    let workers = workers(2);
    let generation = assignment(1, &workers, &[0..1, 1..2]);
    let id = Library::open().unwrap().unique_id().unwrap();
    let (aborter, held) = channel();
    let first = thread::spawn(move || {
        let mut transport = build(id, 0, 2);
        aborter.send(Transport::<Pretended>::aborter(&transport)).unwrap();
        let mut sum = begun(Numerics::Exact, &generation, 0, 100);
        vec![sum.exchange(&mut transport, ROUND), sum.exchange(&mut transport, ROUND)]
    });
    let second = build(id, 1, 2);
    meanwhile(&held.recv_timeout(Duration::from_secs(10)).unwrap(), second);
    first.join().unwrap()
}

#[test]
fn another_thread_aborts_a_wait() {
    if !again::here() {
        let folder = libraries();
        return again::run("stand_in::another_thread_aborts_a_wait", Some(folder.path()), &[]);
    }
    for outcome in alone(|aborter, _| aborter.abort()) {
        assert!(matches!(outcome, Err(SumError::Transport(NcclError::Interrupted))), "{outcome:?}");
    }
}

#[test]
fn a_lost_peer_is_said_and_ends_the_communicator() {
    if !again::here() {
        let folder = libraries();
        return again::run("stand_in::a_lost_peer_is_said_and_ends_the_communicator", Some(folder.path()), &[]);
    }
    let outcomes = alone(|_, second| drop(second));
    let lost = matches!(outcomes[0], Err(SumError::Transport(NcclError::PeerLost { .. })));
    assert!(lost, "{:?}", outcomes[0]);
    let over = matches!(outcomes[1], Err(SumError::Transport(NcclError::Interrupted)));
    assert!(over, "{:?}", outcomes[1]);
}

#[test]
fn a_wanted_thread_leaves_a_meeting_that_nobody_else_comes_to() {
    if !again::here() {
        let folder = libraries();
        let test = "stand_in::a_wanted_thread_leaves_a_meeting_that_nobody_else_comes_to";
        return again::run(test, Some(folder.path()), &[]);
    }
    let (library, device) = (Library::open().unwrap(), Device::open(0).unwrap());
    let place = Place { rank: 0, world_size: 2 };
    let outcome = Communicator::build(&library, &device, library.unique_id().unwrap(), place, || true);
    assert!(matches!(outcome, Err(NcclError::Interrupted)), "{outcome:?}");
}

#[test]
fn memory_that_is_elsewhere_is_refused() {
    if !again::here() {
        let folder = libraries();
        return again::run("stand_in::memory_that_is_elsewhere_is_refused", Some(folder.path()), &[]);
    }
    let mut transport = build(Library::open().unwrap().unique_id().unwrap(), 0, 1);
    let mut memory = TorchMemory::zeros(tch::Device::Cpu, 10).unwrap();
    let refused = transport.all_reduce(&mut memory, 0..10).unwrap_err();
    assert_eq!(refused.to_string(), "expected memory on CUDA device 0, found it on libtorch's device Cpu");
}

#[test]
fn an_old_library_is_refused() {
    if !again::here() {
        let folder = libraries();
        return again::run(
            "stand_in::an_old_library_is_refused",
            Some(folder.path()),
            &[("STAND_IN_VERSION", "21805")],
        );
    }
    let refused = Library::open().unwrap_err();
    assert!(
        refused.to_string().starts_with("the NCCL library is 2.18.5, expected 2.22.0 or newer\nhint: "),
        "{refused}"
    );
}
