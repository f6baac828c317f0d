//! What a coordinator carries, gRPC and its store included.

mod bench;

use bench::{Bench, Hand, within};
use coordinator_server::Tls;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use trainctl_proto::v1;
use trainctl_proto::v1::worker_message::Body as FromBody;

const WORKERS: u32 = 8;
const HEARTBEATS: u64 = 20_000;
const CLIENTS: usize = 8;
const JOBS: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and prints what it measured"]
async fn what_a_coordinator_carries() {
    // In turns: what else the machine does falls on both.
    for tls in [Tls::Never, Tls::Always, Tls::Always, Tls::Never] {
        carries(tls).await;
    }
}

async fn carries(tls: Tls) {
    let mut bench = Bench::new("stands.sh");
    bench.options.tls = tls;
    let running = bench.serve().await;
    let mut jobs = bench.jobs(&running).await;
    let _ = jobs.submit(bench.submission("busy", WORKERS)).await.expect("submit");
    let mut hands = Vec::new();
    for number in 1..=WORKERS {
        hands.push(bench.attach(&running, "busy", number).await);
    }
    for hand in &mut hands {
        while hand.assign().await.members.len() < WORKERS as usize {}
        hand.say(FromBody::Resumed(v1::Resumed { generation: 1, step: 1, ..Default::default() })).await;
    }

    let began = Instant::now();
    let mut talking = JoinSet::new();
    for mut hand in hands {
        talking.spawn(async move {
            for step in 1..=HEARTBEATS {
                beat(&mut hand, step.min(99)).await;
            }
            hand
        });
    }
    let mut hands = talking.join_all().await;
    // Each stream is in order: what comes last was preceded by all.
    for hand in &mut hands {
        beat(hand, 100).await;
    }
    within("the last heartbeat", async || {
        let status = jobs.show(v1::JobRef { job: "busy".to_owned() }).await.expect("show").into_inner();
        (status.step == 100).then_some(())
    })
    .await;
    print(tls, "heartbeats over gRPC", HEARTBEATS as usize * WORKERS as usize, began.elapsed());

    let began = Instant::now();
    let mut submitting = JoinSet::new();
    for client in 0..CLIENTS {
        let requests: Vec<_> =
            (client..JOBS).step_by(CLIENTS).map(|n| bench.submission(&format!("job-{n}"), 1)).collect();
        let mut jobs = bench.jobs(&running).await;
        submitting.spawn(async move {
            for request in requests {
                let _ = jobs.submit(request).await.expect("submit");
            }
        });
    }
    let _ = submitting.join_all().await;
    print(tls, "jobs submitted and kept", JOBS, began.elapsed());

    let began = Instant::now();
    for n in 0..JOBS {
        let _ = jobs.cancel(v1::JobRef { job: format!("job-{n}") }).await.expect("cancel");
    }
    print(tls, "jobs cancelled and kept", JOBS, began.elapsed());
    running.kill().await;
}

async fn beat(hand: &mut Hand, step: u64) {
    hand.say(FromBody::Heartbeat(v1::Heartbeat { generation: 1, has_state: true, step, ..Default::default() })).await;
}

#[allow(clippy::print_stdout, reason = "it measures, and says what")]
fn print(tls: Tls, what: &str, count: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    println!(
        "TLS {tls:?}: {count} {what}: {:.0} a second, {:.0} us each",
        count as f64 / seconds,
        seconds / count as f64 * 1e6
    );
}
