//! `diff` of runs, and what `reproduce` says before it starts, on records in a folder.

use crate::place::{Place, told};
use crate::saved;

/// Two runs of 20 steps, `a/points` and `b/points`, whose seeds differ.
fn two_runs() -> Place {
    let place = Place::new();
    for (root, seed) in [("a", 7), ("b", 8)] {
        let root = format!("file://{}", place.path(root).display());
        saved::write_record(&root, &saved::record(seed, "/data/points.json", "blake3:00"));
        saved::save(&root, &[15, 20]);
    }
    place
}

#[test]
fn diff_shows_what_differs_and_the_curves() {
    let place = two_runs();
    insta::assert_snapshot!("diff_differs", told(&place.run(&["diff", "a/points", "b/points"])));
    insta::assert_snapshot!("diff_equal_all", told(&place.run(&["diff", "a/points", "a/points", "--all"])));
}

#[test]
fn diff_as_json_has_all_pins_and_points() {
    let place = two_runs();
    let report = place.json(&["diff", "a/points", "a/points"]);
    assert_eq!(report["equal"], true);
    assert_eq!(report["curves"][0]["10"]["loss"], 0.5 / 7.0);
    let pins = report["pins"].as_array().unwrap();
    assert!(pins.iter().any(|pin| pin["pin"] == "final.state" && pin["equal"] == true), "{report:#}");
}

#[test]
fn a_folder_without_a_record() {
    let place = Place::new();
    saved::save(&format!("file://{}", place.path("a").display()), &[10]);
    insta::assert_snapshot!(told(&place.run(&["reproduce", "a/points"])));
}

#[test]
fn a_run_that_has_not_finished() {
    let place = Place::new();
    let root = format!("file://{}", place.path("a").display());
    saved::save(&root, &[10]);
    let record = saved::record(7, "/data/points.json", "blake3:00");
    let json = serde_json::to_string(&record).unwrap();
    place.write("a/points/run.json", &json);
    insta::assert_snapshot!(told(&place.run(&["reproduce", "a/points"])));
}

#[test]
fn a_run_that_promises_no_bits() {
    let place = Place::new();
    let mut record = saved::record(7, "/data/points.json", "blake3:00");
    record.reproducible = false;
    saved::write_record(&format!("file://{}", place.path("a").display()), &record);
    insta::assert_snapshot!(told(&place.run(&["reproduce", "a/points"])));
}

/// Every pin that differs is named at once, before anything starts.
#[test]
fn pins_that_differ() {
    let place = Place::new();
    let digest = place.pin_points();
    let manifest = place.path("points.manifest.json");
    let record = saved::record(7, manifest.to_str().unwrap(), &digest);
    saved::write_record(&format!("file://{}", place.path("a").display()), &record);
    // What it says of itself and of this machine.
    let worker = place.write(
        "worker",
        "#!/bin/sh\necho '{\"fingerprint\": \"blake3:22\", \"detail\": \"1 thread, AVX2\", \
         \"libtorch_version\": \"2.13.0\", \"program_version\": \"0.1.0\"}'\n",
    );
    std::fs::set_permissions(&worker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let reproduce =
        || place.finish(place.command(&["reproduce", "a/points"]).env("TRAINCTL_WORKER", &worker).output().unwrap());
    insta::assert_snapshot!("pins_that_differ", told(&reproduce()));
    assert!(!place.path("home/runs").exists(), "nothing was started");

    std::fs::write(&manifest, std::fs::read_to_string(&manifest).unwrap() + "\n").unwrap();
    let other_data = reproduce();
    assert_eq!(other_data.code, 5, "{}", other_data.stderr);
    assert!(other_data.stderr.contains("data.digest: expected blake3:"), "{}", other_data.stderr);
    std::fs::remove_file(&manifest).unwrap();
    let no_data = reproduce();
    assert!(no_data.code != 0 && no_data.stderr.contains("points.manifest.json"), "{}", no_data.stderr);
}
