//! The coordinator dies and starts again, in every state.

use super::{Story, instance, listed, worker};
use crate::{Core, DownCause, Event, Generation, Rejection, Settings, Timestamp};
use std::collections::BTreeMap;

#[test]
fn members_are_adopted_and_training_never_stopped() {
    let mut story = Story::running(2);
    story.restart(&[1, 2]).expect([]);
    assert_eq!((story.state("job"), story.job("job").world_size), ("running", 2));
    story.attach_holding(1, Some((1, Some(40)))).expect(["w1 <- welcome a"]);
    assert_eq!(story.last_decision("job"), "keep w1: it attached again after a restart of the coordinator, at step 40");
    story.attach_holding(2, Some((1, Some(41)))).expect(["w2 <- welcome a"]);
    story.wait(20_000, &[1, 2]).expect([]);
}

#[test]
fn an_instance_that_nobody_asked_for_is_killed() {
    let mut story = Story::running(1);
    story.restart(&[1, 9]).expect(["kill i9"]);
    let event = story.attached(9, None);
    assert_eq!(story.refused(event), Rejection::UnknownInstance(instance(9)));
    story.expect(["w9 <- exit", "end i9 5000"]);
}

#[test]
fn a_launch_that_may_not_have_got_through_is_made_again() {
    let mut story = Story::new();
    story.pool("local", 8).submit("job", (1, 2), &["local"]);
    story.restart(&[1]).expect(["launch w2 local"]);
    assert_eq!(story.core.instances().iter().filter(|instance| instance.state == "up").count(), 1);
}

#[test]
fn nothing_is_bought_before_what_runs_is_known() {
    let mut story = Story::new();
    story.submit("job", (1, 1), &["local"]);
    story.reload();
    story.pool("local", 8).expect([]);
    story.tell(listed(Vec::new())).expect(["launch w1 local"]);
}

#[test]
fn the_list_and_the_pools_may_come_in_either_order() {
    let mut story = Story::new();
    story.pool("local", 8).submit("job", (1, 1), &["local"]).attach(1).resumed(1, 1, 10);
    story.reload();
    story.tell(listed(Vec::new())).wait(6_000, &[]).expect(["kill i1"]);
    assert_eq!(
        story.last_decision("job"),
        "form a new group from the newest whole checkpoint: nobody who holds the \
        state is left since the stream of w1 broke and it did not come back within 6 s"
    );
    story.pool("local", 8).expect(["launch w2 local"]);
}

#[test]
fn an_instance_that_is_not_listed_is_dead_after_six_seconds() {
    let mut story = Story::running(2);
    story.restart(&[1]).expect([]);
    story.attach_holding(1, Some((1, Some(40)))).skip();
    story.wait(5_999, &[1]).expect([]);
    story.wait(1, &[1]).expect(["w1 <- assign 2 now w1:0-8", "kill i2", "launch w3 local"]);
    story.down(2, DownCause::Terminated).expect([]);
}

#[test]
fn unless_its_worker_attaches_all_the_same() {
    let mut story = Story::running(2);
    story.restart(&[1]).attach_holding(1, Some((1, Some(40)))).attach_holding(2, Some((1, Some(40)))).skip();
    story.wait(20_000, &[1, 2]).expect([]);
}

#[test]
fn a_listed_worker_has_half_a_minute_to_attach() {
    let mut story = Story::running(2);
    story.restart(&[1, 2]).attach_holding(1, Some((1, Some(40)))).skip();
    story.wait(29_999, &[1]).expect([]);
    story.wait(1, &[1]).expect(["w1 <- assign 2 now w1:0-8", "kill i2", "launch w3 local"]);
}

#[test]
fn a_change_that_nobody_heard_of_is_told_at_the_next_attach() {
    let mut story = Story::running(2);
    story.notice(2, 60_000).restart(&[1, 2, 3]).expect([]);
    story.attach_holding(1, Some((1, Some(40)))).expect(["w1 <- welcome a", "w1 <- assign 2 planned w1:0-8"]);
    story.attach_holding(2, Some((1, Some(40)))).expect(["w2 <- welcome a", "w2 <- assign 2 planned w1:0-8"]);
    story.attach_holding(3, None).expect(["w3 <- welcome a"]);
    story.resumed(1, 2, 42).expect(["w3 <- join w1"]);
}

#[test]
fn one_that_missed_a_drop_is_told_to_drop() {
    let mut story = Story::running(3);
    story.pool("local", 3).down(3, DownCause::Killed(9)).resumed(1, 2, 11).notice(2, 60_000);
    story.restart(&[1, 2]).skip();
    // Generation 3 is planned, and comes after 2, which dropped a step: one still in 1 can't reach a boundary.
    story.attach_holding(1, Some((1, Some(10)))).expect(["w1 <- welcome a", "w1 <- assign 3 now w1:0-8"]);
}

#[test]
fn joiners_are_told_to_join_again() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 2), &["local"]).attach(1).resumed(1, 1, 1);
    story.pool("local", 2).attach(2).restart(&[1, 2]).skip();
    story.attach_holding(2, Some((0, None))).expect(["w2 <- welcome a", "w2 <- join w1"]);
    story.attach_holding(1, Some((1, Some(9)))).expect(["w1 <- welcome a"]);
    story.ready(2, 12).skip();
    story.restart(&[1, 2]).attach_holding(2, Some((2, Some(12)))).expect(["w2 <- welcome a"]);
}

#[test]
fn the_last_holder_may_be_a_joiner_that_the_records_know_as_waiting() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (2, 3), &["local"]).attach(1).attach(2).resumed(1, 1, 1);
    story.pool("local", 3).attach(3).down(1, DownCause::Killed(9)).down(2, DownCause::Killed(9));
    assert_eq!(story.state("job"), "recovering");
    story.restart(&[3]).skip();
    story.attach_holding(3, Some((0, Some(17)))).expect(["w3 <- welcome a", "w3 <- assign 3 now w3:0-8"]);
    assert_eq!(
        story.last_decision("job"),
        "go on with 1 worker: w3: it holds the state and the group that it joined is gone"
    );
}

#[test]
fn a_generation_that_is_in_no_record_is_never_handed_out_again() {
    let mut story = Story::running(2);
    story.restart(&[1, 2]).skip();
    story.attach_holding(1, Some((7, Some(40)))).expect(["w1 <- welcome a", "w1 <- assign 8 now w1:0-4 w2:4-8"]);
    assert_eq!(story.job("job").generation, Generation(8));
}

#[test]
fn ended_jobs_end_their_instances_again() {
    let mut story = Story::running(2);
    story.finished(1, "d").finished(2, "d");
    story.restart(&[1]).expect(["kill i1"]);
    assert_eq!(story.core.instances().len(), 1, "i2 is gone as was asked");
    story.attach_holding(1, Some((1, Some(100)))).expect(["w1 <- welcome a", "w1 <- exit"]);
}

#[test]
fn a_suspension_that_was_cut_short_is_dropped() {
    let mut story = Story::running(1);
    story.tell(Event::SuspendRequested).restart(&[1]).skip();
    story.attach_holding(1, Some((1, Some(40)))).expect(["w1 <- welcome a", "w1 <- assign 2 planned"]);
    story.left(1, 2, 41);
    assert_eq!(story.state("job"), "recovering");
}

#[test]
fn everything_that_views_show_is_in_the_records() {
    let mut story = Story::running(3);
    story.notice(2, 5_000).down(3, DownCause::Killed(9)).resumed(1, 3, 12);
    let before = (story.job("job"), story.core.pools(), story.decisions("job"));
    story.reload();
    let mut after = (story.job("job"), story.core.pools(), story.decisions("job"));
    after.0.samples_per_s = before.0.samples_per_s;
    after.0.eta_s = before.0.eta_s;
    after.1[0].spec.capacity = before.1[0].spec.capacity;
    assert_eq!(before, after);
}

#[test]
fn records_from_before_shards_moved_and_states_were_compared_are_read() {
    let mut story = Story::running(2);
    let before = story.job("job");
    let strip = |store: &mut BTreeMap<String, Vec<u8>>, key: &str, fields: &[&str]| {
        let mut record: serde_json::Value = serde_json::from_slice(&store[key]).expect("a record");
        for field in fields {
            let (parent, name) = field.rsplit_once('/').expect("a path");
            let parent = record.pointer_mut(parent).and_then(serde_json::Value::as_object_mut).expect("an object");
            assert!(parent.remove(name).is_some(), "{key} has no {field}");
        }
        store.insert(key.to_owned(), record.to_string().into_bytes());
    };
    let of_job = [
        "/corruptions",
        "/quarantines",
        "/save_failure",
        "/nccl_failures",
        "/moved",
        "/progress/skipped_steps",
        "/progress/audits_passed",
        "/counters/rollbacks",
        "/counters/rollbacks_in_a_row",
        "/state/group/rollbacks",
    ];
    strip(&mut story.store, "job/job", &of_job);
    let of_resources = ["shards", "encryption", "peer_silence"].map(|key| format!("/spec/resources/{key}"));
    let of_spec: Vec<&str> =
        of_resources.iter().map(String::as_str).chain(["/spec/train/on_nonfinite", "/spec/train/audit"]).collect();
    strip(&mut story.store, "spec/job", &of_spec);

    story.restart(&[1, 2]).attach_holding(1, Some((1, Some(12)))).attach_holding(2, Some((1, Some(12)))).skip();
    let after = story.job("job");
    assert_eq!((after.state, after.shares.len(), after.corruptions), (before.state, 2, before.corruptions));
    story.heartbeat(1, 1, Some(13)).expect([]);
}

#[test]
fn a_damaged_record_is_named() {
    let load = |key: &str, value: &str| {
        let records = BTreeMap::from([(key.to_owned(), value.as_bytes().to_vec())]);
        Core::load(Settings::default(), records, Timestamp(0)).expect_err("an error").to_string()
    };
    assert_eq!(load("job/digits", "{"), "record job/digits: expected a job");
    assert!(load("offer/x", "{}").starts_with("record offer/x: expected a key below spec/, job/"));
    let mut story = Story::running(1);
    story.store.remove("spec/job");
    let records = story.store.clone();
    let error = Core::load(Settings::default(), records, Timestamp(0)).expect_err("an error");
    assert_eq!(error.to_string(), "record job/job: expected record spec/job beside it, found none");
}

#[test]
fn the_oldest_decisions_are_dropped_beyond_the_bound() {
    let settings = Settings { decisions_max: 3, ..Settings::default() };
    let mut story = Story::new();
    story.core = Core::new(settings);
    story.pool("local", 2).submit("job", (1, 2), &["local"]).attach(1).attach(2).resumed(1, 1, 1);
    let numbers: Vec<u64> = story.core.decisions(&"job".into()).map(|decision| decision.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
    assert_eq!(story.job("job").decisions, 4);
    let kept = story.store.keys().filter(|key| key.starts_with("decision/")).count();
    assert_eq!(kept, 3, "the store forgets them too");
}

#[test]
fn an_instance_that_comes_up_unasked_is_killed() {
    let mut story = Story::running(1);
    story.refused(Event::InstanceUp { instance: instance(5), pid: None, machine: None });
    story.expect(["kill i5"]);
    assert_eq!(story.refused(Event::WorkerDetached { worker: worker(5) }), Rejection::UnknownWorker(worker(5)));
}

#[test]
fn a_crash_loop_ends_also_when_the_clock_was_set_back_meanwhile() {
    let mut story = Story::new();
    story.pool("local", 8).submit("job", (1, 1), &["local"]);
    for n in [1, 2] {
        story.down(n, DownCause::Exited(1)).after(10);
    }
    story.tell(Event::InstanceUp { instance: instance(3), pid: None, machine: None });
    story.now = Timestamp(story.now.0 - 3_600_000);
    story.restart(&[]).wait(10_000, &[]).down(3, DownCause::Vanished);
    for n in 4..=6 {
        assert_eq!(story.state("job"), "provisioning");
        story.down(n, DownCause::Exited(1)).after(10);
    }
    assert_eq!(story.state("job"), "failed");
}
