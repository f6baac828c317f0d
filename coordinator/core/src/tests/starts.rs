//! From the submission to the first group, and who joins it later.

use super::{Story, spec};
use crate::{Event, Timestamp};

#[test]
fn the_first_group_forms_when_all_that_were_launched_are_attached() {
    let mut story = Story::new();
    story.pool("local", 8).submit("job", (1, 3), &["local"]);
    story.expect(["launch w1 local", "launch w2 local", "launch w3 local"]);
    assert_eq!(story.state("job"), "provisioning");
    story.attach(2).expect(["w2 <- welcome"]);
    assert_eq!(story.state("job"), "rendezvous");
    story.attach(1).expect(["w1 <- welcome"]);
    story.attach(3).expect([
        "w3 <- welcome",
        "w1 <- assign 1 now w1:0-3 w2:3-6 w3:6-8",
        "w2 <- assign 1 now w1:0-3 w2:3-6 w3:6-8",
        "w3 <- assign 1 now w1:0-3 w2:3-6 w3:6-8",
    ]);
    assert_eq!(story.state("job"), "rendezvous");
    story.resumed(2, 1, 1).expect([]);
    assert_eq!((story.state("job"), story.job("job").world_size), ("running", 3));
}

#[test]
fn the_first_group_waits_five_seconds_for_the_others_and_they_join_later() {
    let mut story = Story::new();
    story.pool("local", 8).submit("job", (1, 2), &["local"]).skip();
    story.attach(1).expect(["w1 <- welcome"]);
    assert_eq!(story.core.next_deadline(), Some(story.now.plus_ms(4_000)), "w1 may fall silent before");
    story.wait(4_999, &[1]).expect([]);
    story.wait(1, &[1]).expect(["w1 <- assign 1 now w1:0-8"]);
    assert_eq!(
        story.last_decision("job"),
        "start training with 1 worker: w1: they are enough to start, and 1 other did not attach within 5 s of the first"
    );
    story.attach(2).expect(["w2 <- welcome a"]);
    story.resumed(1, 1, 1).expect(["w2 <- join w1"]);
    assert_eq!(story.worker_state(2), "joining");
    story.ready(2, 4).expect(["w1 <- assign 2 planned w1:0-4 w2:4-8", "w2 <- assign 2 planned w1:0-4 w2:4-8"]);
    assert_eq!(story.worker_state(2), "training");
}

#[test]
fn fewer_than_the_least_never_start() {
    let mut story = Story::new();
    story.pool("local", 8).submit("job", (2, 3), &["local"]).skip();
    story.attach(1).expect(["w1 <- welcome"]);
    story.wait(20_000, &[1]).expect([]);
    story.attach(3).expect(["w3 <- welcome", "w1 <- assign 1 now w1:0-4 w3:4-8", "w3 <- assign 1 now w1:0-4 w3:4-8"]);
}

#[test]
fn there_are_never_more_members_than_logical_shards() {
    let mut story = Story::new();
    story.pool("local", 20).submit("job", (1, 20), &["local"]);
    assert_eq!(story.left.len(), 8);
    assert_eq!(story.job("job").workers_max, 8);
}

#[test]
fn joiners_that_are_ready_close_together_come_in_together() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 3), &["local"]).attach(1).resumed(1, 1, 1).skip();
    story.pool("local", 3).expect(["launch w2 local", "launch w3 local"]);
    story.attach(2).expect(["w2 <- welcome a", "w2 <- join w1"]);
    story.attach(3).expect(["w3 <- welcome a", "w3 <- join w1"]);
    story.ready(3, 5).expect([]);
    story.after(299).ready(2, 9).expect([
        "w1 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
        "w2 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
        "w3 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
    ]);
}

#[test]
fn a_ready_joiner_does_not_wait_for_long() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 3), &["local"]).attach(1).resumed(1, 1, 1);
    story.pool("local", 3).attach(2).attach(3).ready(3, 5).skip();
    story.after(300).tell(Event::Tick);
    story.expect(["w1 <- assign 2 planned w1:0-4 w3:4-8", "w3 <- assign 2 planned w1:0-4 w3:4-8"]);
    // The next change waits until this one has taken effect.
    story.after(100).ready(2, 8).expect([]);
    story.resumed(1, 2, 9).expect([
        "w1 <- assign 3 planned w1:0-3 w3:3-6 w2:6-8",
        "w2 <- assign 3 planned w1:0-3 w3:3-6 w2:6-8",
        "w3 <- assign 3 planned w1:0-3 w3:3-6 w2:6-8",
    ]);
}

#[test]
fn joiners_are_spread_over_the_donors() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (1, 4), &["local"]).attach(1).attach(2).resumed(1, 1, 1);
    story.pool("local", 4).skip();
    story.attach(3).expect(["w3 <- welcome a", "w3 <- join w1 w2"]);
    story.attach(4).expect(["w4 <- welcome a", "w4 <- join w2 w1"]);
}

#[test]
fn a_name_is_taken_for_good() {
    let mut story = Story::running(1);
    let spec = Box::new(spec("job", (1, 1), &["local"]));
    let again = Event::JobSubmitted { job: "job".into(), spec, manifest_json: String::new() };
    assert_eq!(story.refused(again).to_string(), "job job exists already");
    story.expect([]);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut story = Story::running(1);
    story.now = Timestamp(5);
    story.tell(Event::Tick).expect([]);
    assert!(story.core.next_deadline().is_some_and(|deadline| deadline > Timestamp(1_000_000)));
}

#[test]
fn a_joiner_takes_the_state_from_all_members_that_stay() {
    let mut story = Story::new();
    story.pool("local", 5).submit("job", (1, 8), &["local"]);
    for n in 1..=5 {
        story.attach(n);
    }
    // The one that leaves gives nothing.
    story.resumed(1, 1, 1).notice(3, 60_000).resumed(1, 2, 2).pool("local", 8).skip();
    story.attach(6).expect(["w6 <- welcome a", "w6 <- join w1 w2 w4 w5"]);
    story.attach(7).expect(["w7 <- welcome a", "w7 <- join w2 w4 w5 w1"]);
}
