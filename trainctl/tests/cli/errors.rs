//! Errors that need no coordinator: each names the place, says what was expected and found, and what to do.

use crate::place::{Place, told};
use std::net::TcpListener;

#[test]
fn an_unknown_command_gets_the_nearest() {
    insta::assert_snapshot!(told(&Place::new().run(&["wacth", "digits"])));
}

#[test]
fn an_argument_that_is_missing_is_named() {
    insta::assert_snapshot!(told(&Place::new().run(&["show"])));
}

#[test]
fn two_ways_to_evict_exclude_each_other() {
    insta::assert_snapshot!(told(&Place::new().run(&["worker", "evict", "w3", "--notice", "5", "--now"])));
}

#[test]
fn a_notice_that_is_no_number_of_seconds() {
    insta::assert_snapshot!(told(&Place::new().run(&["worker", "evict", "w3", "--notice", "soon"])));
}

#[test]
fn usage_errors_are_json_where_json_was_asked_for() {
    insta::assert_snapshot!(told(&Place::new().run(&["show", "--output", "json"])));
}

#[test]
fn a_home_with_no_coordinator() {
    insta::assert_snapshot!(told(&Place::new().run(&["ls"])));
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    insta::assert_snapshot!(told(&Place::new().run(&["ls", "--output", "json"])));
}

#[test]
fn a_coordinator_that_left_its_file_behind() {
    let place = Place::new();
    place.write("home/coordinator.json", &format!("{{\"address\": \"http://{}\"}}", free_address()));
    place.write("home/token", "secret\n");
    insta::assert_snapshot!(told(&place.run(&["ls"])));
}

#[test]
fn a_named_coordinator_that_nobody_runs() {
    let place = Place::new();
    place.write("home/token", "secret\n");
    insta::assert_snapshot!(told(&place.run(&["ls", "--coordinator", &free_address()])));
}

#[test]
fn a_coordinator_by_a_url_that_is_none() {
    insta::assert_snapshot!(told(&Place::new().run(&["ls", "--coordinator", "ftp://example.org"])));
}

#[test]
fn a_coordinator_file_that_is_no_json() {
    let place = Place::new();
    place.write("home/coordinator.json", "half a fi");
    insta::assert_snapshot!(told(&place.run(&["ls"])));
}

#[test]
fn a_job_file_that_is_not_there() {
    insta::assert_snapshot!(told(&Place::new().run(&["submit", "nowhere.toml"])));
}

#[test]
fn a_job_file_that_is_a_folder() {
    insta::assert_snapshot!(told(&Place::new().run(&["submit", "."])));
}

#[test]
fn a_job_file_that_is_no_text() {
    let place = Place::new();
    std::fs::write(place.path("job.toml"), [0xff, 0xfe, 0x00]).unwrap();
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml"])));
}

#[test]
fn an_address_that_is_none() {
    insta::assert_snapshot!(told(&Place::new().run(&["up", "--listen", "localhost"])));
}

#[test]
fn a_capacity_below_nothing() {
    insta::assert_snapshot!(told(&Place::new().run(&["pool", "set", "local-spot", "--capacity", "-1"])));
}

#[test]
fn a_reader_that_goes_away_is_no_error_worth_words() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = place.finish(child.wait_with_output().unwrap());
    assert_eq!(ran.stderr, "");
}

#[test]
fn colours_only_where_they_are_wanted() {
    let place = Place::new();
    let escape = '\u{1b}';
    assert!(!place.run(&["ls"]).stderr.contains(escape), "stderr is no terminal");
    assert!(place.run(&["ls", "--color", "always"]).stderr.contains(escape));
    let output = place.command(&["ls", "--color", "auto"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!place.finish(output).stderr.contains(escape));
}

/// An address on which nothing listens: it was free a moment ago and ports are not handed out again at once.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
