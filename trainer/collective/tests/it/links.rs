//! Members that meet over encrypted connections get the same bits, and whoever else comes to a worker's door disturbs
//! nobody.

use crate::support::{SOON, Worker, assignment, meet, members};
use coordinator_certificates::Authority;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;
use trainer_collective::{
    Buffers, Context, Credentials, Encryption, Exchange, Links, Meeting, Mesh, MeshError, Numerics,
};
use trainer_core::membership::Header;
use trainer_core::{Phase, Round};

const LENGTH: usize = 300_001;
fn worker(rank: u32, secret: u8, authority: Option<&Authority>) -> Worker {
    let name = format!("w{rank}");
    let credentials = |authority: &Authority| {
        let issued = authority.issue(&name).unwrap();
        Credentials::new(authority.certificate(), &issued.certificate, &issued.key).unwrap()
    };
    let encryption = if authority.is_some() { Encryption::Always } else { Encryption::BetweenHosts };
    let links = Links { encryption, credentials: authority.map(credentials), ..Links::default() };
    Worker::with(&name, rank, [secret; 32], links)
}

/// What this worker gets of one round.
fn exchange(worker: &mut Worker, mesh: &mut Mesh) -> Result<Vec<u32>, MeshError> {
    // Else the bodies would not go over the connections.
    mesh.avoid_shared_memory();
    let mut buffers = Buffers::new(LENGTH, Numerics::Exact)?;
    let shard = mesh.shards().start;
    let cx = &mut Context {
        mesh,
        poller: &mut worker.poller,
        buffers: &mut buffers,
        interrupted: &|| false,
        at: &mut |_| {},
    };
    let mut exchange = Exchange::begin(cx, Round { step: 0, phase: Phase::Train })?;
    exchange.shard(cx, shard, |vector, _| {
        for (at, value) in vector.iter().enumerate() {
            value.set((at as f32).mul_add(0.37, shard as f32 * 1.3e5).sin() * 1e3);
        }
    });
    exchange.finish(cx, Header::default())?;
    Ok(buffers.sum().iter().map(|value| value.to_bits()).collect())
}

/// What all of these get of one round; they must agree.
fn sum(workers: Vec<Worker>) -> Vec<u32> {
    let assignment = &assignment(1, members(&workers));
    let ends: Vec<_> = thread::scope(|scope| {
        let members = workers.into_iter().map(|mut worker| {
            scope.spawn(move || {
                let mut mesh = meet(&mut worker, assignment).unwrap();
                (exchange(&mut worker, &mut mesh).unwrap(), mesh)
            })
        });
        let members: Vec<_> = members.collect();
        // No mesh is closed before all have what they came for.
        members.into_iter().map(|member| member.join().unwrap()).collect()
    });
    assert!(ends.iter().all(|(sum, _)| *sum == ends[0].0));
    ends.into_iter().next().unwrap().0
}

#[test]
fn encryption_changes_no_bit() {
    let plain = sum((0..3).map(|rank| worker(rank, 5, None)).collect());
    let job = Authority::new("digits").unwrap();
    assert_eq!(sum((0..3).map(|rank| worker(rank, 5, Some(&job))).collect()), plain);
}

#[test]
fn strangers_at_the_door_disturb_nobody() {
    let workers: Vec<Worker> = (0..3).map(|rank| worker(rank, 5, None)).collect();
    let mut strangers = Vec::new();
    for Worker { member, .. } in &workers {
        // Some say nothing and stay, some talk nonsense, some begin well, some begin to encrypt.
        for said in [b"".as_slice(), b"GET / HTTP/1.1\r\n\r\n", b"trc3", &[0xff; 4096], &[0x16, 3, 1, 0xff, 0xff, 1]] {
            let mut stranger = TcpStream::connect(&member.address).unwrap();
            stranger.write_all(said).unwrap();
            strangers.push(stranger);
        }
    }
    let undisturbed = sum((0..3).map(|rank| worker(rank, 5, None)).collect());
    assert_eq!(sum(workers), undisturbed);
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(SOON)).unwrap();
        // Each is sent away in the end, the silent ones as well.
        let _ = stranger.read_to_end(&mut Vec::new());
    }
}

#[test]
fn a_crowd_of_silent_strangers_keeps_no_member_out() {
    let workers: Vec<Worker> = (0..2).map(|rank| worker(rank, 5, None)).collect();
    // More than may be greeting at once; all stay as long as they are let.
    let address = &workers[0].member.address;
    let strangers: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(address).unwrap()).collect();
    let undisturbed = sum((0..2).map(|rank| worker(rank, 5, None)).collect());
    assert_eq!(sum(workers), undisturbed);
    drop(strangers);
}

#[test]
fn a_worker_of_another_job_is_refused() {
    let (mut ours, theirs) = (worker(1, 5, None), worker(0, 6, None));
    let workers = [theirs, worker(1, 5, None)];
    let Err(MeshError::Lost { worker, detail }) = meet(&mut ours, &assignment(1, members(&workers))) else {
        panic!("met a worker of another job")
    };
    assert_eq!(worker, "w0");
    assert!(detail.contains("handshake"), "{detail}");
}

#[test]
fn a_worker_with_a_certificate_of_another_job_is_refused() {
    let (ours, theirs) = (Authority::new("digits").unwrap(), Authority::new("digits").unwrap());
    let mut ours = worker(1, 5, Some(&ours));
    let workers = [worker(0, 5, Some(&theirs)), worker(1, 5, None)];
    let Err(MeshError::Lost { worker, detail }) = meet(&mut ours, &assignment(1, members(&workers))) else {
        panic!("met a worker of another job")
    };
    assert_eq!(worker, "w0");
    assert!(detail.contains("can't encrypt the connection: invalid peer certificate"), "{detail}");
}

#[test]
fn a_peer_of_another_generation_is_not_taken_for_a_member() {
    let mut workers: Vec<Worker> = (0..2).map(|rank| worker(rank, 5, None)).collect();
    let (old, new) = (assignment(1, members(&workers)), assignment(2, members(&workers)));
    let mut late = workers.pop().unwrap();
    let mut first = workers.pop().unwrap();
    let mut meeting = Meeting::start(&first.inbox, &new).unwrap();
    late.inbox.dial_mesh(1, &old.members);
    let met = thread::spawn(move || {
        let mesh = meet(&mut late, &new).unwrap();
        (late, mesh)
    });
    while !meeting.advance(&mut first.poller, &first.inbox).unwrap() {
        first.poller.wait(Some(SOON)).unwrap();
    }
    let mut mesh = meeting.complete();
    let (mut late, mut late_mesh) = met.join().unwrap();
    let sums = thread::scope(|scope| {
        let other = scope.spawn(|| exchange(&mut late, &mut late_mesh).unwrap());
        (exchange(&mut first, &mut mesh).unwrap(), other.join().unwrap())
    });
    assert_eq!(sums.0, sums.1);
}

/// Passes bytes on between two ends, until it is cut; then both ends are still open and nothing comes any more, as when
/// a host vanishes.
fn wire(to: String) -> (String, impl FnOnce()) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cut = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_cut = cut.clone();
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&to).unwrap());
            for (mut from, mut into) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                let is_cut = is_cut.clone();
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    loop {
                        let read = from.read(&mut bytes).unwrap_or(0);
                        // An end doesn't come through either. Holds both ends open for as long as the test runs.
                        while is_cut.load(std::sync::atomic::Ordering::Acquire) {
                            thread::park();
                        }
                        if read == 0 || into.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = into.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (address, move || cut.store(true, std::sync::atomic::Ordering::Release))
}

#[test]
fn half_open_connections_are_noticed_on_both_sides() {
    let mut workers: Vec<Worker> = (0..2).map(|rank| worker(rank, 5, None)).collect();
    let (address, cut) = wire(workers[0].member.address.clone());
    workers[0].member.address = address;
    let assignment = &assignment(1, members(&workers));
    let mut ends: Vec<_> = thread::scope(|scope| {
        let members = workers.into_iter().map(|mut worker| {
            scope.spawn(move || {
                let mesh = meet(&mut worker, assignment).unwrap();
                (worker, mesh)
            })
        });
        let members: Vec<_> = members.collect();
        members.into_iter().map(|member| member.join().unwrap()).collect()
    });
    cut();
    let began = Instant::now();
    for (at, (worker, mesh)) in ends.iter_mut().enumerate() {
        // A step that takes long: it looks now and then.
        let lost = loop {
            match mesh.check() {
                Err(MeshError::Lost { worker, detail }) => break (worker, detail),
                other => other.unwrap(),
            }
            worker.poller.wait(Some(SOON)).unwrap();
            assert!(began.elapsed() < SOON, "nobody noticed");
        };
        assert_eq!(lost.0, format!("w{}", 1 - at));
        // The connection for the pulse may have been about to be made.
        assert!(lost.1.contains("silent for") || lost.1.contains("took too long"), "{}", lost.1);
    }
}
