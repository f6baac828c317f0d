//! A model of one's own: `model pin`, and what `submit` finds out about it before anything starts.

use crate::place::{Place, Ran, told};
use std::os::unix::fs::PermissionsExt as _;

const MODULE: &[u8] = include_bytes!("../../../trainer/engine/tests/modules/plain.pt");

/// Runs the binary where no worker program is.
fn alone(place: &Place, args: &[&str]) -> Ran {
    place.finish(place.command(args).env("TRAINCTL_WORKER", place.path("no-worker")).output().unwrap())
}

/// A place with data, a model, and a job that names both; the digest is the model's.
fn place(digest: &str) -> Place {
    let place = Place::new();
    let data = place.pin_points();
    std::fs::write(place.path("model.pt"), MODULE).unwrap();
    place.write(
        "job.toml",
        &format!(
            "name = \"own\"\n[data]\nmanifest = \"points.manifest.json\"\ndigest = \"{data}\"\n\
             [model]\nkind = \"torchscript\"\npath = \"model.pt\"\ndigest = \"{digest}\"\n\
             [train]\nsteps = 2\nglobal_batch = 2\nlogical_shards = 2\n"
        ),
    );
    place
}

fn digest() -> String {
    format!("blake3:{}", blake3::hash(MODULE).to_hex())
}

#[test]
fn pin_prints_the_lines_that_a_job_needs() {
    let place = place(&digest());
    let ran = alone(&place, &["model", "pin", "model.pt"]);
    assert_eq!(ran.stdout, format!("kind = \"torchscript\"\npath = \"model.pt\"\ndigest = \"{}\"\n", digest()));
    let ran = alone(&place, &["model", "pin", "model.pt", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["digest"], digest().as_str());
    assert_eq!(json["size"], MODULE.len());
}

#[test]
fn without_a_worker_program_pin_says_that_the_module_was_not_tried() {
    insta::assert_snapshot!(told(&alone(&place(&digest()), &["model", "pin", "model.pt"])));
}

#[test]
fn a_worker_program_that_dies_over_a_module_is_told() {
    let place = place(&digest());
    let worker = place.write("dying-worker", "#!/bin/sh\nkill -KILL $$\n");
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = place.command(&["model", "pin", "model.pt"]).env("TRAINCTL_WORKER", worker).output().unwrap();
    insta::assert_snapshot!(told(&place.finish(ran)));
}

/// Files that look like a module's to their owner, which the engine's tests export.
#[test]
fn pin_says_what_a_file_is_and_what_to_do_instead() {
    let place = Place::new();
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/engine/tests/modules");
    for file in [
        "state.pt",
        "misfits/whole-module.pt",
        "misfits/checkpoint.pt",
        "misfits/old-state.pt",
        "misfits/old-module.pt",
        "misfits/exported.pt2",
        "misfits/head.safetensors",
    ] {
        std::fs::copy(format!("{modules}/{file}"), place.path(file.rsplit('/').next().unwrap())).unwrap();
    }
    place.write("notes.txt", "what torch.jit.script(module).save(FILE) wrote");
    place.write("empty.pt", "");
    std::fs::write(place.path("cut.pt"), &MODULE[..MODULE.len() / 2]).unwrap();
    let files = [
        "state.pt",
        "whole-module.pt",
        "checkpoint.pt",
        "old-state.pt",
        "old-module.pt",
        "exported.pt2",
        "head.safetensors",
        "notes.txt",
        "empty.pt",
        "cut.pt",
    ];
    let refusals = files.map(|file| {
        let ran = alone(&place, &["model", "pin", file]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{file}: {}", ran.stderr);
        ran.stderr
    });
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn data_of_a_trial_need_a_context_if_they_are_text_and_only_then() {
    let place = place(&digest());
    place.write("words.txt", &"to be or not to be ".repeat(40));
    place.json(&["data", "pin", "words.txt", "-o", "words.manifest.json"]);
    let text = alone(&place, &["model", "pin", "model.pt", "--data", "words.manifest.json"]);
    let table = alone(&place, &["model", "pin", "model.pt", "--data", "points.manifest.json", "--context", "8"]);
    let nowhere = alone(&place, &["model", "pin", "model.pt", "--data", "nowhere.json"]);
    insta::assert_snapshot!([text, table, nowhere].map(|ran| told(&ran)).join("\n"));
}

#[test]
fn pin_of_what_is_no_module_is_refused() {
    let place = place(&digest());
    let ran = alone(&place, &["model", "pin", "job.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("job.toml: expected a TorchScript file"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: torch.jit.script(module).save(FILE) writes one"), "{}", ran.stderr);
    assert_eq!(alone(&place, &["model", "pin", "nowhere.pt"]).code, 2);
}

#[test]
fn submit_with_the_digest_of_another_model_says_the_right_one() {
    let place = place(&format!("blake3:{}", "0".repeat(64)));
    let ran = place.run(&["submit", "job.toml"]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("model.digest"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("expected {}, the digest of ", digest())), "{}", ran.stderr);
}

#[test]
fn submit_without_a_digest_or_the_file_is_refused() {
    let with = place(&digest());
    let job = std::fs::read_to_string(with.path("job.toml")).unwrap();
    with.write(
        "job.toml",
        &job.replace(&format!("path = \"model.pt\"\ndigest = \"{}\"\n", digest()), "path = \"model.pt\"\n"),
    );
    let ran = with.run(&["submit", "job.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("model.digest"), "{}", ran.stderr);

    let without = place(&digest());
    std::fs::remove_file(without.path("model.pt")).unwrap();
    let ran = without.run(&["submit", "job.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("model.path: expected a TorchScript file, found none at "), "{}", ran.stderr);
}

#[test]
fn submit_looks_at_the_file_and_says_that_it_was_not_tried() {
    let place = place(&digest());
    let ran = alone(&place, &["submit", "job.toml"]);
    assert_eq!(ran.code, 3, "no coordinator runs: {}", ran.stderr);
    assert!(
        ran.stderr.contains("the module was not tried: there is no worker program at [PLACE]/no-worker"),
        "{}",
        ran.stderr
    );

    let state = include_bytes!("../../../trainer/engine/tests/modules/state.pt");
    std::fs::write(place.path("model.pt"), state).unwrap();
    let job = std::fs::read_to_string(place.path("job.toml")).unwrap();
    let of_state = format!("blake3:{}", blake3::hash(state).to_hex());
    place.write("job.toml", &job.replace(&digest(), &of_state));
    insta::assert_snapshot!(told(&alone(&place, &["submit", "job.toml"])));
}
