//! The real NCCL library, which needs no GPU to tell its version and to make a unique id.

use crate::again;
use crate::support::{ROUND, assignment, workers};
use std::path::PathBuf;
use std::thread;
use trainer_nccl::{Communicator, Device, Library, NcclError, Place, RendezvousError, UniqueId, rendezvous};

/// Where the set-up puts it.
fn folder() -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.nccl/lib"));
    assert!(
        folder.join("libnccl.so").exists(),
        "no NCCL in {}\nhint: `cargo xtask setup --tests` fetches it",
        folder.display()
    );
    folder
}

#[test]
fn the_real_library_tells_its_version_and_makes_ids() {
    if !again::here() {
        return again::run("library::the_real_library_tells_its_version_and_makes_ids", Some(&folder()), &[]);
    }
    let library = Library::open().unwrap();
    assert_eq!(library.version().to_string(), "2.32.3");
    let id = library.unique_id().unwrap();
    assert_eq!(UniqueId::from_bytes(id.to_bytes()), id);
    assert_ne!(library.unique_id().unwrap(), id);
}

#[test]
fn an_absent_library_is_said_with_what_was_looked_for() {
    if !again::here() {
        return again::run("library::an_absent_library_is_said_with_what_was_looked_for", None, &[]);
    }
    let error = Library::open().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, NcclError::LibraryAbsent { .. }), "{text}");
    assert!(text.starts_with("found no NCCL library: looked for libnccl.so, "), "{text}");
    assert!(text.contains("\nhint: install NCCL (`pip install nvidia-nccl-cu13`"), "{text}");
}

/// What each of three members makes of a rendezvous to which the last one comes without NCCL, or with it.
fn meet(last_has_it: bool) -> Vec<Result<UniqueId, RendezvousError>> {
    let workers = workers(3);
    let generation = assignment(1, &workers, &[0..1, 1..2, 2..3]);
    let members = workers.into_iter().enumerate().map(|(rank, mut worker)| {
        let generation = generation.clone();
        thread::spawn(move || {
            let mut mesh = worker.meet(&generation);
            let absent = NcclError::LibraryAbsent { looked_for: vec!["libnccl.so".to_owned()] };
            let library = if rank == 2 && !last_has_it { Err(absent) } else { Library::open() };
            let offer = library.and_then(|library| library.offer(rank));
            rendezvous(&mut mesh, &mut worker.poller, ROUND, offer, &|| false)
        })
    });
    members.collect::<Vec<_>>().into_iter().map(|member| member.join().unwrap()).collect()
}

#[test]
fn members_learn_the_id_that_rank_0_made() {
    if !again::here() {
        return again::run("library::members_learn_the_id_that_rank_0_made", Some(&folder()), &[]);
    }
    let ids: Vec<UniqueId> = meet(true).into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.to_bytes() != [0; UniqueId::BYTES]));
}

#[test]
fn nobody_builds_when_one_member_has_no_library() {
    if !again::here() {
        return again::run("library::nobody_builds_when_one_member_has_no_library", Some(&folder()), &[]);
    }
    let outcomes = meet(false);
    for outcome in &outcomes[..2] {
        assert!(matches!(outcome, Err(RendezvousError::Without { worker }) if worker == "w2"), "{outcome:?}");
    }
    assert!(matches!(outcomes[2], Err(RendezvousError::Own(NcclError::LibraryAbsent { .. }))), "{:?}", outcomes[2]);
}

/// A device that isn't there is said. On a machine with a GPU one member alone builds a communicator and closes it.
#[test]
fn a_communicator_needs_a_device() {
    if !again::here() {
        return again::run("library::a_communicator_needs_a_device", Some(&folder()), &[]);
    }
    let library = Library::open().unwrap();
    let nowhere = Device::open(4096).unwrap_err();
    assert!(matches!(nowhere, NcclError::NoDevice { ordinal: 4096, .. }), "{nowhere}");
    assert!(nowhere.to_string().contains("\nhint: `nvidia-smi`"), "{nowhere}");
    let Ok(device) = Device::open(0) else { return };
    let place = Place { rank: 0, world_size: 1 };
    Communicator::build(&library, &device, library.unique_id().unwrap(), place, || false).unwrap().close().unwrap();
}
