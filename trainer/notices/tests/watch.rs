//! The watch against servers that really answer, badly too.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use trainctl_test_servers::{Ec2Metadata, GceMetadata, Misbehaviour};
use trainer_notices::{Cloud, Source, Warning, watch};

/// Longest time for anything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The poll's interval, and some more.
const SOON: Duration = Duration::from_secs(4);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

fn start(cloud: Cloud, environment: &[(&'static str, String)]) -> Receiver<Warning> {
    let variable = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let source = Source::from_environment(cloud, variable).unwrap();
    let (tell, told) = channel(8);
    tokio::spawn(watch(source, tell));
    told
}

async fn eviction(told: &mut Receiver<Warning>) -> (Duration, String) {
    match timeout(PATIENCE, told.recv()).await.expect("a warning").expect("the watch goes on") {
        Warning::Eviction { deadline, source } => {
            (deadline.duration_since(SystemTime::now()).unwrap_or_default(), source)
        }
        other => panic!("{other:?}"),
    }
}

async fn nothing(told: &mut Receiver<Warning>) {
    if let Ok(warning) = timeout(SOON, told.recv()).await {
        panic!("{warning:?}");
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn notice(left: Duration) -> String {
    let time = humantime::format_rfc3339_seconds(SystemTime::now() + left);
    format!(r#"{{"action":"terminate","time":"{time}"}}"#)
}

/// What servers do when they are not well.
fn faults() -> Vec<Misbehaviour> {
    vec![
        Misbehaviour::Status(404),
        Misbehaviour::Status(500),
        Misbehaviour::Says("<html>log in to the guest network</html>".to_owned()),
        Misbehaviour::Says(String::new()),
        Misbehaviour::Endless,
        Misbehaviour::Cuts,
        Misbehaviour::Hangs,
    ]
}

#[tokio::test]
async fn ec2_tells_of_a_notice_with_its_time() {
    let server = Ec2Metadata::start();
    let mut told = start(Cloud::Ec2, &server.environment());
    until("it polls", || server.polls() >= 1).await;
    server.interrupt(&notice(Duration::from_secs(110)));
    let given = Instant::now();
    let (left, source) = eviction(&mut told).await;
    assert!(given.elapsed() < SOON, "{:?}", given.elapsed());
    assert!(left > Duration::from_secs(100) && left <= Duration::from_secs(110), "{left:?}");
    assert_eq!(source, "EC2 spot interruption: terminate");
    nothing(&mut told).await;
    server.interrupt(&notice(Duration::from_secs(40)));
    let (left, _) = eviction(&mut told).await;
    assert!(left <= Duration::from_secs(40), "the new time holds: {left:?}");
    assert_eq!(server.tokens(), 1, "a token serves for hours");
}

#[tokio::test]
async fn ec2_tells_of_a_recommendation_once_and_of_the_notice_after_it() {
    let server = Ec2Metadata::start();
    let mut told = start(Cloud::Ec2, &server.environment());
    server.recommend(r#"{"noticeTime":"2026-11-24T08:22:00Z"}"#);
    let first = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!(first, Warning::Rebalance { source: "EC2 rebalance recommendation".to_owned() });
    nothing(&mut told).await;
    server.interrupt(&notice(Duration::from_secs(120)));
    eviction(&mut told).await;
}

#[tokio::test]
async fn ec2_takes_a_new_token_when_the_service_forgets() {
    let server = Ec2Metadata::start();
    let mut told = start(Cloud::Ec2, &server.environment());
    until("it polls", || server.polls() >= 1).await;
    server.forget_tokens();
    server.interrupt(&notice(Duration::from_secs(100)));
    eviction(&mut told).await;
    assert_eq!(server.tokens(), 2);
}

#[tokio::test]
async fn ec2_outlives_whatever_its_service_does() {
    let mut cases = JoinSet::new();
    for fault in faults() {
        cases.spawn(async move {
            let server = Ec2Metadata::start();
            server.misbehave(Some(fault.clone()));
            let mut told = start(Cloud::Ec2, &server.environment());
            nothing(&mut told).await;
            server.interrupt(&notice(Duration::from_secs(100)));
            server.misbehave(None);
            let (_, source) = eviction(&mut told).await;
            assert_eq!(source, "EC2 spot interruption: terminate", "after {fault:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn gce_tells_at_once() {
    let server = GceMetadata::start();
    let mut told = start(Cloud::Gce, &server.environment());
    until("it waits for a change", || server.waiting() == 1).await;
    let given = Instant::now();
    server.preempt();
    let (left, source) = eviction(&mut told).await;
    assert!(given.elapsed() < Duration::from_secs(1), "{:?}", given.elapsed());
    assert!(left > Duration::from_secs(28) && left <= Duration::from_secs(30), "{left:?}");
    assert_eq!(source, "GCE preemption");
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), None, "nothing can follow");
}

#[tokio::test]
async fn gce_tells_of_what_happened_before_it_looked() {
    let server = GceMetadata::start();
    server.preempt();
    let mut told = start(Cloud::Gce, &server.environment());
    eviction(&mut told).await;
}

#[tokio::test]
async fn gce_outlives_whatever_its_server_does() {
    let mut cases = JoinSet::new();
    for fault in faults() {
        cases.spawn(async move {
            let server = GceMetadata::start();
            server.misbehave(Some(fault.clone()));
            let mut told = start(Cloud::Gce, &server.environment());
            nothing(&mut told).await;
            server.preempt();
            server.misbehave(None);
            let (_, source) = eviction(&mut told).await;
            assert_eq!(source, "GCE preemption", "after {fault:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_slow_server_is_heard_all_the_same() {
    let server = Ec2Metadata::start();
    server.misbehave(Some(Misbehaviour::Slow(Duration::from_millis(700))));
    server.interrupt(&notice(Duration::from_secs(100)));
    let mut told = start(Cloud::Ec2, &server.environment());
    eviction(&mut told).await;
}

#[tokio::test]
async fn nobody_at_the_address_or_one_who_speaks_another_language() {
    let silent = start(Cloud::Ec2, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9".to_owned())]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
        }
    });
    let odd = start(Cloud::Gce, &[("GCE_METADATA_HOST", host)]);
    for mut told in [silent, odd] {
        nothing(&mut told).await;
    }
}

#[tokio::test]
async fn the_watch_ends_with_its_listener() {
    let server = GceMetadata::start();
    let (tell, told) = channel(8);
    let watched = tokio::spawn(watch(Source::new(Cloud::Gce, &format!("http://{}", server.host())).unwrap(), tell));
    until("it waits for a change", || server.waiting() == 1).await;
    drop(told);
    timeout(PATIENCE, watched).await.expect("it ends").unwrap();
}
