//! One process of a run. It holds one logical shard, so all of the time is the exchange's.

use crate::options::Options;
use std::io::{Write, stdin, stdout};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use trainer_collective::{
    Buffers, Context, Credentials, Encryption, Exchange, Identity, Inbox, Links, Meeting, Mesh, Numerics, Poller,
    listen,
};
use trainer_core::membership::Header;
use trainer_core::{Assignment, Member, Phase, Round};

const WARM_UP: u64 = 3;
/// Exchanges measured: as many as move this much, within the bounds.
const MIB_MOVED: f64 = 200.0;
const EXCHANGES_MIN: u64 = 5;
const EXCHANGES_MAX: u64 = 200;

/// Meets the others, whose addresses come on stdin, and exchanges; the first says the median on stdout.
pub(crate) fn run(options: &Options, rank: usize) {
    let mut poller = Poller::new().expect("set up polling");
    let me = Identity { worker: format!("w{rank}"), secret: [7; 32] };
    let inbox = Inbox::new(me, links(options, &format!("w{rank}")), poller.bell()).expect("set up connections");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    writeln!(stdout(), "{}", listener.local_addr().expect("know the address")).expect("write to stdout");
    listen(listener, inbox.clone());
    let mut mesh = meet(&mut poller, &inbox);
    let length = (options.mib[0] * f64::from(1 << 20)) as usize / size_of::<f32>();
    let numerics = if options.mode == "fast" { Numerics::Fast } else { Numerics::Exact };
    let mut buffers = Buffers::new(length, numerics).expect("make vectors");
    if options.transport == "tcp" {
        mesh.avoid_shared_memory();
    }
    let exchanges = ((MIB_MOVED / options.mib[0]) as u64).clamp(EXCHANGES_MIN, EXCHANGES_MAX);

    let mut times = Vec::new();
    for step in 0..WARM_UP + exchanges {
        let shard = mesh.shards().start;
        let cx = &mut Context {
            mesh: &mut mesh,
            poller: &mut poller,
            buffers: &mut buffers,
            interrupted: &|| false,
            at: &mut |_| {},
        };
        let began = Instant::now();
        let mut exchange = Exchange::begin(cx, Round { step, phase: Phase::Train }).expect("begin an exchange");
        // Later exchanges sum whatever the vectors hold.
        exchange.shard(cx, shard, |vector, _| {
            if step < WARM_UP {
                vector.iter().for_each(|cell| cell.set(rank as f32 + 1.0));
            }
        });
        exchange.finish(cx, Header::default()).expect("exchange");
        times.push(began.elapsed().as_secs_f64() * 1e3);
        if step < WARM_UP {
            let expected = (options.world * (options.world + 1) / 2) as f32;
            assert!(buffers.sum().iter().all(|f| *f == expected), "a wrong sum");
        }
    }
    times.drain(..WARM_UP as usize);
    times.sort_by(f64::total_cmp);
    if rank == 0 {
        writeln!(stdout(), "{}", times[times.len() / 2]).expect("write to stdout");
    }
    mesh.close_after_peers(&mut poller, Duration::from_millis(200));
}

fn links(options: &Options, name: &str) -> Links {
    let Some(authority) = &options.authority else { return Links::default() };
    let issued = authority.issue(name).expect("issue a certificate");
    let credentials = Credentials::new(authority.certificate(), &issued.certificate, &issued.key);
    let credentials = Some(credentials.expect("good credentials"));
    Links { encryption: Encryption::Always, credentials, ..Links::default() }
}

fn meet(poller: &mut Poller, inbox: &Inbox) -> Mesh {
    let mut line = String::new();
    stdin().read_line(&mut line).expect("read the addresses");
    let members = line.split_whitespace().zip(0_u32..).map(|(address, rank)| Member {
        worker: format!("w{rank}"),
        address: address.to_owned(),
        shards: rank..rank + 1,
    });
    let members = members.collect();
    let assignment = Assignment { generation: 1, immediate: true, members, reason: String::new() };
    let mut meeting = Meeting::start(inbox, &assignment).expect("be a member");
    while !meeting.advance(poller, inbox).expect("meet") {
        poller.wait(Some(Duration::from_secs(10))).expect("wait");
    }
    meeting.complete()
}
