//! What a joiner costs: how long the transfer of a state takes from so many donors, and how long each donor stands
//! still for it; and how long a job's first start takes to give one member's state to all others. Threads of one
//! process over loopback, so all share its memory bandwidth and processors: what several donors gain between hosts shows
//! where each is behind a cable of its own that passes so much and no more.
//!
//! `cargo bench -p trainer-collective --bench joining -- [MIB] [RUNS]`

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use trainer_collective::{Destination, Donor, Follow, Followed, Identity, Inbox, Links, Meeting, Mesh, Poller, listen};
use trainer_core::membership::Header;
use trainer_core::{Assignment, Member, Phase, Round};

const SUM: usize = 1 << 16;
const CABLE_BYTES_PER_S: f64 = 100e6;
/// What a donor computes between two exchanges.
const STEP: Duration = Duration::from_millis(5);

struct Worker {
    poller: Poller,
    inbox: Inbox,
    address: String,
}

impl Worker {
    fn new(name: String) -> Self {
        let poller = Poller::new().expect("make a poller");
        let me = Identity { worker: name, secret: [5; 32] };
        let inbox = Inbox::new(me, Links::default(), poller.bell()).expect("make an inbox");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address").to_string();
        listen(listener, inbox.clone());
        Self { poller, inbox, address }
    }

    fn meet(&mut self, assignment: &Assignment) -> Mesh {
        let mut meeting = Meeting::start(&self.inbox, assignment).expect("meet");
        while !meeting.advance(&mut self.poller, &self.inbox).expect("meet") {
            self.poller.wait(None).expect("wait");
        }
        meeting.complete()
    }
}

fn group(size: usize) -> (Vec<Worker>, Assignment) {
    let workers: Vec<Worker> = (0..size).map(|rank| Worker::new(format!("w{rank}"))).collect();
    let member = |(rank, worker): (u32, &Worker)| Member {
        worker: format!("w{rank}"),
        address: worker.address.clone(),
        shards: rank..rank + 1,
    };
    let members = (0..).zip(&workers).map(member).collect();
    (workers, Assignment { generation: 1, immediate: true, members, reason: String::new() })
}

fn at(step: u64) -> Round {
    Round { step, phase: Phase::Train }
}

struct Into(Vec<f32>, Vec<f32>);

impl Destination for Into {
    fn state(&mut self) -> &mut [f32] {
        &mut self.0
    }
    fn sum(&mut self, _: Round) -> &mut [f32] {
        &mut self.1
    }
}

/// A cable to `address` that passes so many bytes a second from there, over all connections together.
fn cable(address: String, bytes_per_s: f64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let here = listener.local_addr().expect("an address").to_string();
    let free_at = Arc::new(Mutex::new(Instant::now()));
    thread::spawn(move || -> std::io::Result<()> {
        loop {
            let (dialer, _) = listener.accept()?;
            let dialed = TcpStream::connect(&address)?;
            dialer.set_nodelay(true)?;
            dialed.set_nodelay(true)?;
            let (up, down, free_at) = (dialer.try_clone()?, dialed.try_clone()?, free_at.clone());
            thread::spawn(move || std::io::copy(&mut &up, &mut &down));
            thread::spawn(move || pass(&dialed, &dialer, bytes_per_s, &free_at));
        }
    });
    here
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, bytes_per_s: f64, free_at: &Mutex<Instant>) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut bytes)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let free = {
            let mut free_at = free_at.lock().expect("the cable");
            *free_at = (*free_at).max(Instant::now()) + Duration::from_secs_f64(read as f64 / bytes_per_s);
            *free_at
        };
        thread::sleep(free.saturating_duration_since(Instant::now()));
        to.write_all(&bytes[..read])?;
    }
}

/// Milliseconds from the joiner's first dial to the whole state, and the longest stall of a donor.
fn join(donors: usize, length: usize, bytes_per_s: Option<f64>) -> (f64, f64) {
    let (workers, assignment) = group(donors);
    let mut members = assignment.members.clone();
    for member in &mut members {
        if let Some(bytes_per_s) = bytes_per_s {
            member.address = cable(member.address.clone(), bytes_per_s);
        }
    }
    let over = AtomicBool::new(false);
    let (stalled, stalls) = channel();
    let mut transfer_ms = 0.0;
    thread::scope(|scope| {
        for worker in workers {
            let (assignment, over, stalled) = (&assignment, &over, stalled.clone());
            scope.spawn(move || donate(worker, assignment, length, over, &stalled));
        }
        let mut joiner = Worker::new("joiner".to_owned());
        let mut into = Into(vec![1.0; length], vec![0.0; SUM]);
        let began = Instant::now();
        let mut follow = Follow::start(&joiner.inbox, &members).expect("follow");
        loop {
            match follow.advance(&mut joiner.poller, &joiner.inbox, &mut into).expect("follow") {
                Followed::State(_) => break,
                Followed::Nothing => joiner.poller.wait(None).expect("wait"),
                Followed::Part | Followed::Sum(_) => {}
            }
        }
        transfer_ms = began.elapsed().as_secs_f64() * 1e3;
        over.store(true, Ordering::Relaxed);
    });
    (transfer_ms, stalls.try_iter().fold(0.0, f64::max))
}

fn donate(mut worker: Worker, assignment: &Assignment, length: usize, over: &AtomicBool, stalled: &Sender<f64>) {
    let mut mesh = worker.meet(assignment);
    let state = vec![2.0; length];
    let mut donor = Donor::default();
    for step in 0.. {
        let offered = Instant::now();
        let joiner = donor.offer(&worker.inbox, length);
        let stall = offered.elapsed();
        thread::sleep(STEP);
        let header = Header { joiner, newest_generation: over.load(Ordering::Relaxed).into(), ..Header::default() };
        let notes = mesh.notes(&mut worker.poller, at(step), header.to_bytes(), &|| false).expect("exchange");
        let headers: Vec<Header> = notes.iter().filter_map(Header::from_bytes).collect();
        donor.publish(at(step), &[0.0; SUM]);
        let boundary = Instant::now();
        let mut gave = false;
        donor.admit(&headers, at(step + 1), &state, SUM, &mut || gave = true);
        if gave {
            stalled.send((stall + boundary.elapsed()).as_secs_f64() * 1e3).expect("tell");
        }
        if headers.iter().any(|header| header.newest_generation == 1) {
            return;
        }
    }
}

/// Milliseconds until all members have what the first has: at once, or one after another.
fn start(size: usize, length: usize, at_once: bool, bytes_per_s: Option<f64>) -> f64 {
    let (workers, mut assignment) = group(size);
    for member in &mut assignment.members {
        if let Some(bytes_per_s) = bytes_per_s {
            member.address = cable(member.address.clone(), bytes_per_s);
        }
    }
    let takers: Vec<usize> = (1..size).collect();
    let turns: Vec<&[usize]> = if at_once { vec![&takers] } else { takers.chunks(1).collect() };
    let times = thread::scope(|scope| {
        let members = workers.into_iter().map(|mut worker| {
            let (assignment, turns) = (&assignment, &turns);
            scope.spawn(move || {
                let mut mesh = worker.meet(assignment);
                let mut state = vec![3.0; length];
                mesh.notes(&mut worker.poller, at(0), [0; 1], &|| false).expect("exchange");
                let began = Instant::now();
                for takers in turns {
                    let between = (&[0][..], *takers);
                    mesh.spread(&mut worker.poller, at(0), between, &mut state, &|| false).expect("spread");
                }
                began.elapsed().as_secs_f64() * 1e3
            })
        });
        let threads: Vec<_> = members.collect();
        threads.into_iter().map(|thread| thread.join().expect("a member")).collect::<Vec<f64>>()
    });
    times.into_iter().fold(0.0, f64::max)
}

fn tell(name: &str, mut runs: Vec<f64>) {
    runs.sort_by(f64::total_cmp);
    let (median, best, worst) = (runs[runs.len() / 2], runs[0], runs[runs.len() - 1]);
    let line = format!("{name}: {median:.1} ms ({best:.1} to {worst:.1}, {} runs)", runs.len());
    writeln!(std::io::stdout(), "{line}").expect("write to stdout");
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let (mib, runs) = (numbers.next().unwrap_or(400), numbers.next().unwrap_or(5));
    let length = mib << 18;
    for donors in [1, 2, 4] {
        let (transfers, stalls) = (0..runs).map(|_| join(donors, length, None)).unzip();
        tell(&format!("join {mib} MiB, {donors} donors, transfer"), transfers);
        tell(&format!("join {mib} MiB, {donors} donors, longest stall"), stalls);
        let cabled = (0..runs).map(|_| join(donors, length, Some(CABLE_BYTES_PER_S)).0).collect();
        tell(&format!("join {mib} MiB, {donors} donors, transfer, each over a cable of 100 MB/s"), cabled);
    }
    for (how, at_once) in [("one after another", false), ("at once", true)] {
        let name = format!("start of 4, {mib} MiB, {how}");
        tell(&name, (0..runs).map(|_| start(4, length, at_once, None)).collect());
        let cabled = (0..runs).map(|_| start(4, length, at_once, Some(CABLE_BYTES_PER_S))).collect();
        tell(&format!("{name}, each over a cable of 100 MB/s"), cabled);
    }
}
