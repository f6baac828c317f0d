//! Workers whose kernels would give other bits.

use super::{Story, spec};
use crate::DownCause;
use trainctl_jobs::NumericsSpec;

#[test]
fn the_first_group_has_the_numerics_that_most_have() {
    let mut story = Story::new();
    story.pool("local", 3).submit("job", (1, 3), &["local"]).skip();
    story.fingerprint = "b";
    story.attach(1);
    story.fingerprint = "a";
    story.attach(2).attach(3).expect([
        "w1 <- welcome",
        "w2 <- welcome",
        "w3 <- welcome",
        "w2 <- assign 1 now w2:0-4 w3:4-8",
        "w3 <- assign 1 now w2:0-4 w3:4-8",
        "w1 <- exit",
        "end i1 5000",
    ]);
    let refused =
        "send w1 home: its numerics would change the bits: local gave \"kernels b\", the job runs on \"kernels a\"";
    assert!(story.decisions("job").contains(&refused.to_owned()));
    assert_eq!(story.job("job").fingerprint, Some(("a".to_owned(), "kernels a".to_owned())));
}

#[test]
fn too_few_that_match_wait_for_more() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (2, 2), &["local"]).skip();
    story.attach(1).skip();
    story.fingerprint = "b";
    story.attach(2).expect(["w2 <- welcome", "w2 <- exit", "end i2 5000"]);
    story.down(2, DownCause::Exited(0)).expect(["launch w3 local"]);
    story.fingerprint = "a";
    story.attach(3).expect(["w3 <- welcome a", "w1 <- assign 1 now w1:0-4 w3:4-8", "w3 <- assign 1 now w1:0-4 w3:4-8"]);
}

#[test]
fn before_the_first_step_a_pool_that_gives_others_changes_the_choice() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (2, 2), &["local"]).attach(1);
    story.fingerprint = "b";
    for n in 2..=3 {
        story.attach(n).down(n, DownCause::Exited(0));
    }
    story.skip().attach(4).expect(["w4 <- welcome b", "w1 <- exit", "end i1 5000"]);
    story.down(1, DownCause::Exited(0)).attach(5).expect([
        "launch w5 local",
        "w5 <- welcome b",
        "w4 <- assign 1 now w4:0-4 w5:4-8",
        "w5 <- assign 1 now w4:0-4 w5:4-8",
    ]);
}

#[test]
fn after_three_in_a_row_nothing_more_is_bought_there() {
    let mut story = Story::new();
    story.pool("first", 2).submit("job", (1, 2), &["first", "second"]).attach(1).attach(2).resumed(1, 1, 1);
    story.down(2, DownCause::Evicted).skip();
    story.fingerprint = "b";
    for n in 3..=5 {
        story.attach(n).down(n, DownCause::Exited(0));
    }
    story.expect([
        "w3 <- welcome a",
        "w3 <- exit",
        "end i3 5000",
        "launch w4 first",
        "w4 <- welcome a",
        "w4 <- exit",
        "end i4 5000",
        "launch w5 first",
        "w5 <- welcome a",
        "w5 <- exit",
        "end i5 5000",
    ]);
    let stop = "buy nothing more from first for this job: it gave 3 workers with other numerics in a row";
    assert!(story.decisions("job").contains(&stop.to_owned()));
    assert_eq!(story.state("job"), "running");
    story.pool("second", 1).expect(["launch w6 second"]);
}

#[test]
fn a_job_whose_pools_have_no_matching_numerics_left_fails() {
    let mut story = Story::running(1);
    story.pool("local", 1);
    story.down(1, DownCause::Evicted).skip();
    story.fingerprint = "b";
    for n in 2..=4 {
        story.attach(n).down(n, DownCause::Exited(0));
    }
    assert_eq!(story.state("job"), "failed");
    assert_eq!(story.job("job").reason, "no pool of the job gives workers with its numerics, \"kernels a\"");
}

#[test]
fn one_that_matches_starts_the_count_again() {
    let mut story = Story::running(1);
    story.pool("local", 1);
    for (n, fingerprint) in [(2, "b"), (3, "b"), (4, "a"), (5, "b"), (6, "b"), (7, "a")] {
        story.down(n - 1, DownCause::Evicted);
        story.fingerprint = fingerprint;
        story.attach(n);
    }
    assert_eq!(story.worker_state(7), "training");
}

/// A job with `fast` numerics on two workers whose kernels differ.
fn fast() -> Story {
    let mut story = Story::new();
    let mut fast = spec("job", (1, 2), &["local"]);
    fast.train.numerics = NumericsSpec::Fast;
    story.pool("local", 2).submit_spec(fast).attach(1).skip();
    story.fingerprint = "b";
    story.attach(2).expect(["w2 <- welcome", "w1 <- assign 1 now w1:0-4 w2:4-8", "w2 <- assign 1 now w1:0-4 w2:4-8"]);
    story
}

#[test]
fn fast_numerics_take_anyone_and_promise_no_bits() {
    let mut story = fast();
    assert_eq!((story.job("job").numerics, story.job("job").fingerprint), (NumericsSpec::Fast, None));
    story.resumed(1, 1, 10).finished(1, "d").finished(2, "d");
    assert_eq!(story.state("job"), "succeeded");
}

#[test]
fn with_fast_numerics_too_all_must_end_with_one_state() {
    let mut story = fast();
    story.resumed(1, 1, 10).finished(1, "d").finished(2, "e");
    assert_eq!(story.state("job"), "failed");
}
