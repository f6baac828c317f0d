//! A process that commits batches is killed at random moments, again and again on one store: no batch that it
//! acknowledged may be lost, and none may be there by half.

use coordinator_core::Record;
use coordinator_server::{SledStore, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "STORE_KILL_FOLDER";
const ROUNDS: u64 = 60;
/// Present in every batch, each with the batch's number.
const KEYS: usize = 12;

/// The batch of a number: every key with that number and a body of varying length, some longer than a page; and a record
/// that is there after even batches only.
fn batch(number: u64) -> Vec<Record> {
    let mut records: Vec<Record> = (0..KEYS)
        .map(|key| {
            let length = if key == 0 && number.is_multiple_of(50) {
                700_000
            } else {
                (number as usize * 37 + key * 211) % 4_000
            };
            let body = format!("{number} {}", "x".repeat(length));
            Record { key: format!("key/{key:02}"), value: Some(body.into_bytes()) }
        })
        .collect();
    records.push(Record {
        key: "even".to_owned(),
        value: number.is_multiple_of(2).then(|| number.to_string().into_bytes()),
    });
    records
}

/// The number of the batch that the store holds; 0: none yet.
fn newest(store: &SledStore) -> u64 {
    let number = |value: &[u8]| -> u64 {
        let text = std::str::from_utf8(value).expect("text");
        text.split(' ').next().expect("a first word").parse().expect("a number")
    };
    let records = store.with_prefix("key/").expect("read");
    if records.is_empty() {
        return 0;
    }
    let newest = number(&records[0].1);
    let mut expected: Vec<(String, Vec<u8>)> =
        batch(newest).into_iter().filter_map(|record| Some((record.key, record.value?))).collect();
    expected.sort();
    let found = store.with_prefix("").expect("read");
    let numbers: Vec<u64> = found.iter().map(|(_, value)| number(value)).collect();
    assert_eq!(numbers, vec![newest; expected.len()], "a batch is there by half");
    assert!(found == expected, "batch {newest} is there with other bytes");
    newest
}

/// The child: commits batch after batch and says each number when it is acknowledged.
#[test]
#[ignore = "run by the test below, as a process to be killed"]
fn child() {
    let folder = std::env::var(FOLDER).expect("the folder to write to");
    let store = SledStore::open(Path::new(&folder)).expect("open");
    let mut out = std::io::stdout();
    for number in newest(&store) + 1.. {
        store.commit(&batch(number)).expect("commit");
        writeln!(out, "acknowledged {number}").and_then(|()| out.flush()).expect("say so");
    }
}

#[test]
fn no_acknowledged_batch_is_lost_and_none_is_there_by_half() {
    let folder = tempfile::tempdir().expect("temp folder");
    let mut random = StdRng::seed_from_u64(7);
    let mut before = 0;
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(folder.path(), &mut random);
        let store = SledStore::open(folder.path()).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let found = newest(&store);
        store.close().expect("close");
        let last = acknowledged.unwrap_or(before);
        assert!(found == last || found == last + 1, "round {round}: acknowledged {last}, found {found}");
        before = found;
    }
    assert!(before > ROUNDS, "the rounds committed {before} batches in all");
}

/// Runs the child, kills it at a random moment after a random number of batches; gives the last that it acknowledged.
fn run_and_kill(folder: &Path, random: &mut StdRng) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut acknowledged = lines.map_while(Result::ok).filter_map(|line| {
        let number = line.rsplit_once("acknowledged ")?.1;
        Some(number.parse::<u64>().expect("a number"))
    });
    let mut last = None;
    for _ in 0..random.random_range(1..40) {
        last = acknowledged.next();
        assert!(last.is_some(), "the child ended by itself");
    }
    // Anywhere within the next batches, not only between an answer and the next request.
    let moment = Instant::now() + Duration::from_micros(random.random_range(0..3_000));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    acknowledged.last().or(last)
}
