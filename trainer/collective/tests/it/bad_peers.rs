//! Members that greet well and then send what they should not, or nothing: each is named with what was expected of it,
//! and the others go on without it.

use crate::support::{SOON, Worker, assignment, meet, members, workers};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use trainer_collective::{Buffers, Context, Exchange, Meeting, Mesh, MeshError, Numerics};
use trainer_core::membership::Header;
use trainer_core::{Assignment, Phase, Round};

/// So many floats that they go in segments.
const LENGTH: usize = 300_001;
/// What a dialer says before its first frame: four bytes, who it is and what for, and a proof.
const GREETING: usize = 4 + 108 + 32;
/// A frame's head: kind, operation, round, length.
const HEAD: usize = 40;
/// Bytes of the two notes, each with its head, that come before the first exchange's own frames.
const NOTES: usize = 2 * (HEAD + 64);

/// Meets, and does one round over sockets: one of the sum's floats.
fn round(worker: &mut Worker, assignment: &Assignment) -> Result<(f32, Mesh), MeshError> {
    let mut mesh = meet(worker, assignment)?;
    mesh.avoid_shared_memory();
    let mut buffers = Buffers::new(LENGTH, Numerics::Exact)?;
    let shard = mesh.shards().start;
    let cx = &mut Context {
        mesh: &mut mesh,
        poller: &mut worker.poller,
        buffers: &mut buffers,
        interrupted: &|| false,
        at: &mut |_| {},
    };
    let mut exchange = Exchange::begin(cx, Round { step: 0, phase: Phase::Train })?;
    exchange.shard(cx, shard, |vector, _| vector.iter().for_each(|float| float.set(shard as f32 + 1.0)));
    exchange.finish(cx, Header::default())?;
    Ok((buffers.sum()[LENGTH / 2], mesh))
}

/// A cable to `address`. Of the first connection, what the dialer says from the greeting on passes through `spoil`
/// together with its place; `None` passes nothing more, on no connection. Others pass unchanged until then.
fn cable(address: &str, spoil: impl Fn(usize, u8) -> Option<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = (listener.local_addr().unwrap().to_string(), address.to_owned());
    thread::spawn(move || {
        let silent = &std::sync::atomic::AtomicBool::new(false);
        let spoil = &spoil;
        thread::scope(|scope| {
            for (number, dialed) in listener.incoming().enumerate() {
                let (dialer, answerer) = (dialed.unwrap(), TcpStream::connect(&there).unwrap());
                let (mut back, mut to) = (answerer.try_clone().unwrap(), dialer.try_clone().unwrap());
                scope.spawn(move || {
                    let _ = std::io::copy(&mut back, &mut to);
                    to.shutdown(Shutdown::Both)
                });
                scope.spawn(move || {
                    let (mut from, mut into) = (dialer, answerer);
                    let mut bytes = [0; 4096];
                    let mut place = 0;
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        for byte in &mut bytes[..read] {
                            if number == 0 && place >= GREETING {
                                match spoil(place - GREETING, *byte) {
                                    Some(spoilt) => *byte = spoilt,
                                    None => silent.store(true, std::sync::atomic::Ordering::Release),
                                }
                            }
                            place += 1;
                        }
                        if silent.load(std::sync::atomic::Ordering::Acquire) {
                            // Both ends stay open.
                            thread::park();
                        }
                        if into.write_all(&bytes[..read]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    here
}

/// Three members, of which the last speaks to the first through such a cable: what the first sees of it. Then the first
/// two go on.
fn seen_of(spoil: impl Fn(usize, u8) -> Option<u8> + Send + Sync + 'static) -> String {
    let mut workers: Vec<Worker> = workers(3);
    let members = members(&workers);
    let mut as_the_last_sees_it = members.clone();
    as_the_last_sees_it[0].address = cable(&members[0].address, spoil);
    let mut last = workers.pop().unwrap();
    let bad = thread::spawn(move || drop(round(&mut last, &assignment(1, as_the_last_sees_it))));
    let (first, second) = (assignment(1, members.clone()), assignment(2, members[..2].to_vec()));
    let good = workers.into_iter().map(|mut worker| {
        let (first, second) = (first.clone(), second.clone());
        thread::spawn(move || {
            let lost = match round(&mut worker, &first) {
                Err(MeshError::Lost { worker, detail }) => (worker, detail),
                other => panic!("{other:?}"),
            };
            let (sum, mesh) = round(&mut worker, &second).unwrap();
            assert_eq!(sum, 3.0);
            (lost, mesh)
        })
    });
    let good: Vec<_> = good.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect();
    let (worker, detail) = &good[0].0;
    assert_eq!(worker, "w2", "{detail}");
    bad.join().unwrap();
    detail.clone()
}

#[test]
fn a_head_that_is_not_the_expected_one_is_named_with_the_one_that_is() {
    // In the first note's head, and in that of the first frame of the exchange itself.
    for frame in [0, NOTES] {
        for (what, at, mask) in [("kind", 0, 2), ("operation", 8, 1), ("round", 16, 1), ("length", 36, 0x40)] {
            let detail = seen_of(move |place, byte| Some(if place == frame + at { byte ^ mask } else { byte }));
            let names = detail.contains("out of step: expected") && detail.contains("found Head {");
            assert!(names, "{what} in the frame at {frame}: {detail}");
        }
    }
}

#[test]
fn garbage_in_the_middle_is_not_taken_for_a_frame() {
    for from in [1, HEAD + 3, NOTES + 5, NOTES + HEAD + 4000] {
        let detail = seen_of(move |place, byte| Some(if place >= from { 0xff } else { byte }));
        assert!(detail.contains("not a frame") || detail.contains("header that is none"), "from {from}: {detail}");
    }
}

#[test]
fn silence_in_the_middle_of_a_frame_is_noticed() {
    let detail = seen_of(|place, byte| (place < NOTES + HEAD + 4000).then_some(byte));
    assert!(detail.contains("silent for") || detail.contains("took too long"), "{detail}");
}

#[test]
fn a_member_that_is_gone_before_it_is_met_is_named() {
    let mut first = Worker::new("w0", 0);
    let second = Worker::new("w1", 1);
    // Reset by its end, as by the system for a process that is killed before it has read everything.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut member = first.member.clone();
    let there = std::mem::replace(&mut member.address, listener.local_addr().unwrap().to_string());
    let (reset, is_reset) = channel();
    let (met, is_met) = channel::<()>();
    thread::spawn(move || {
        let dialer = listener.accept().unwrap().0;
        let answerer = TcpStream::connect(there).unwrap();
        let (mut back, mut to) = (answerer.try_clone().unwrap(), dialer.try_clone().unwrap());
        let answers = thread::spawn(move || std::io::copy(&mut back, &mut to));
        // The first four bytes are answered before the rest is said.
        for part in [4, GREETING - 4] {
            let mut greeting = vec![0; part];
            (&dialer).read_exact(&mut greeting).unwrap();
            (&answerer).write_all(&greeting).unwrap();
        }
        is_met.recv().unwrap();
        rustix::net::sockopt::set_socket_linger(&answerer, Some(Duration::ZERO)).unwrap();
        answerer.shutdown(Shutdown::Read).unwrap();
        answers.join().unwrap().unwrap();
        drop(answerer);
        reset.send(()).unwrap();
    });
    let members = assignment(1, vec![first.member.clone(), second.member.clone()]);
    second.inbox.dial_mesh(1, &[member, second.member.clone()]);
    let mut meeting = Meeting::start(&first.inbox, &members).unwrap();
    // The bell rings when the link is there.
    first.poller.wait(Some(SOON)).unwrap();
    met.send(()).unwrap();
    is_reset.recv().unwrap();
    match meeting.advance(&mut first.poller, &first.inbox) {
        Err(MeshError::Lost { worker, .. }) => assert_eq!(worker, "w1"),
        other => panic!("{other:?}"),
    }
}
