//! `data` on small real files, and what `submit` finds out about a job's data before anything starts.

use crate::place::{Place, keys, told};

#[test]
fn pin_prints_the_two_lines_that_a_job_needs() {
    let place = Place::new();
    let digest = place.pin_points();
    insta::assert_snapshot!(told(&place.run(&["data", "pin", "points.csv", "-o", "again.manifest.json"])));
    let again = place.json(&["data", "pin", "points.csv", "-o", "points.manifest.json"]);
    assert_eq!(again["digest"], digest.as_str(), "the same data has the same digest");
    assert_eq!(again["manifest"], "points.manifest.json");
    assert_eq!(keys(&again)[..2], ["manifest", "digest"]);
}

#[test]
fn pin_of_nothing() {
    insta::assert_snapshot!(told(&Place::new().run(&["data", "pin", "nowhere.csv"])));
}

#[test]
fn pin_into_a_folder_that_is_not_there() {
    let place = Place::new();
    place.pin_points();
    insta::assert_snapshot!(told(&place.run(&["data", "pin", "points.csv", "-o", "nowhere/points.manifest.json"])));
}

#[test]
fn pin_with_a_target_that_is_no_column() {
    let place = Place::new();
    place.pin_points();
    insta::assert_snapshot!(told(&place.run(&["data", "pin", "points.csv", "--target", "colour"])));
}

#[test]
fn show_says_what_is_pinned() {
    let place = Place::new();
    let digest = place.pin_points();
    insta::assert_snapshot!(told(&place.run(&["data", "show", "points.manifest.json"])));
    let shown = place.json(&["data", "show", "points.manifest.json"]);
    assert_eq!(shown["digest"], digest.as_str());
    assert_eq!(shown["rows"], 60);
}

#[test]
fn show_of_what_is_no_manifest() {
    let place = Place::new();
    place.write("job.toml", "name = \"x\"\n");
    insta::assert_snapshot!(told(&place.run(&["data", "show", "job.toml"])));
}

#[test]
fn verify_finds_changed_and_missing_objects() {
    let place = Place::new();
    place.pin_points();
    assert_eq!(place.json(&["data", "verify", "points.manifest.json"])["whole"], true);
    insta::assert_snapshot!("verify_whole", told(&place.run(&["data", "verify", "points.manifest.json"])));

    let text = std::fs::read_to_string(place.path("points.csv")).unwrap();
    place.write("points.csv", &text.replacen('1', "2", 1));
    insta::assert_snapshot!("verify_changed", told(&place.run(&["data", "verify", "points.manifest.json"])));

    std::fs::remove_file(place.path("points.csv")).unwrap();
    let ran = place.run(&["data", "verify", "points.manifest.json", "--output", "json"]);
    assert_eq!(ran.code, 5);
    let verified: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(verified["whole"], false);
    assert_eq!(verified["objects"][0]["finding"], "missing");
}

#[test]
fn submit_finds_every_mistake_of_a_job_file_at_once() {
    let place = Place::new();
    let digest = place.pin_points();
    let job = std::fs::read_to_string(place.write_job(&digest)).unwrap();
    place.write("job.toml", &job.replace("global_batch = 8", "global_bach = 8").replace("[8]", "\"8\""));
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml"])));
}

#[test]
fn submit_of_a_setting_that_does_not_hold() {
    let place = Place::new();
    place.write_job(&place.pin_points());
    insta::assert_snapshot!("set_unknown", told(&place.run(&["submit", "job.toml", "--set", "train.sed=8"])));
    insta::assert_snapshot!(
        "set_indivisible",
        told(&place.run(&["submit", "job.toml", "--set", "train.global_batch=9"]))
    );
    insta::assert_snapshot!("set_no_pair", told(&place.run(&["submit", "job.toml", "--set", "train.seed"])));
}

#[test]
fn submit_without_the_manifest() {
    let place = Place::new();
    place.write_job(&place.pin_points());
    std::fs::remove_file(place.path("points.manifest.json")).unwrap();
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml"])));
}

#[test]
fn submit_with_the_digest_of_another_manifest() {
    let place = Place::new();
    place.write_job(&place.pin_points());
    place.json(&["data", "pin", "points.csv", "-o", "points.manifest.json", "--name", "other"]);
    insta::assert_snapshot!(told(&place.run(&["submit", "job.toml"])));
}

#[test]
fn submit_with_a_data_object_missing_or_of_another_size() {
    let place = Place::new();
    place.write_job(&place.pin_points());
    place.write("points.csv", "x,y,label\n1,2,0\n");
    insta::assert_snapshot!("object_size", told(&place.run(&["submit", "job.toml"])));
    std::fs::remove_file(place.path("points.csv")).unwrap();
    insta::assert_snapshot!("object_missing", told(&place.run(&["submit", "job.toml"])));
}
