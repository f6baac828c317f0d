//! A model of one's own: `model pin`, and what `submit` finds out about it before anything starts.

use crate::place::Place;

const MODULE: &[u8] = b"PK\x03\x04 and so on";

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
    let ran = place.run(&["model", "pin", "model.pt"]);
    assert_eq!(ran.stdout, format!("kind = \"torchscript\"\npath = \"model.pt\"\ndigest = \"{}\"\n", digest()));
    let json = place.json(&["model", "pin", "model.pt"]);
    assert_eq!(json["digest"], digest().as_str());
    assert_eq!(json["size"], MODULE.len());
}

#[test]
fn pin_of_what_is_no_module_is_refused() {
    let place = place(&digest());
    let ran = place.run(&["model", "pin", "job.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("job.toml: expected a TorchScript file"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: torch.jit.script(module).save(FILE) writes one"), "{}", ran.stderr);
    assert_eq!(place.run(&["model", "pin", "nowhere.pt"]).code, 2);
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
