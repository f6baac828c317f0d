//! `ckpt` on real checkpoints in a folder, with no coordinator.

use crate::place::{Place, keys, told};
use crate::saved;

/// Checkpoints of steps 10 and 20 in the folder `runs/points`.
fn place_with_checkpoints() -> Place {
    let place = Place::new();
    saved::save(&format!("file://{}", place.path("runs").display()), &[10, 20]);
    place
}

fn model_file(step: u64) -> String {
    format!("runs/points/checkpoints/{step}/model-00001-of-00001.safetensors")
}

fn optimizer_file(step: u64) -> String {
    model_file(step).replace("model-", "optimizer-")
}

#[test]
fn ls_takes_a_path_or_a_uri() {
    let place = place_with_checkpoints();
    let by_path = place.json(&["ckpt", "ls", "runs/points"]);
    let by_uri = place.json(&["ckpt", "ls", &format!("file://{}/", place.path("runs/points").display())]);
    assert_eq!(by_path, by_uri);
    assert_eq!(by_path[1]["step"], 20);
    assert_eq!(by_path[1]["committed"], "2023-11-14T22:13:20.000Z");
    assert_eq!(
        keys(&by_path[0]),
        [
            "step",
            "bytes",
            "added_bytes",
            "loss",
            "world_size",
            "generation",
            "audits_passed",
            "why",
            "state_digest",
            "committed",
            "damage"
        ]
    );
}

#[test]
fn ls_is_a_table() {
    let place = place_with_checkpoints();
    let text = place.run(&["ckpt", "ls", "runs/points"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("STEP") && lines[2].trim_start().starts_with("20"), "{text}");
    assert!(lines[2].contains("every 20 steps"), "{text}");
}

#[test]
fn show_is_of_the_newest_unless_told_otherwise() {
    let place = place_with_checkpoints();
    insta::assert_snapshot!(told(&place.run(&["ckpt", "show", "runs/points"])));
    assert_eq!(place.json(&["ckpt", "show", "runs/points", "--step", "10"])["tensors"][0]["group"], "model");
}

#[test]
fn show_says_how_many_audits_had_passed() {
    let place = Place::new();
    saved::save_audited(&format!("file://{}", place.path("runs").display()), &[10, 20], 41);
    insta::assert_snapshot!(told(&place.run(&["ckpt", "show", "runs/points", "--quick"])));
    let listed = place.json(&["ckpt", "ls", "runs/points"]);
    assert_eq!(listed[1]["audits_passed"], 41);
    let without = place_with_checkpoints();
    assert_eq!(without.json(&["ckpt", "show", "runs/points"])["audits_passed"], 0);
    assert!(!without.run(&["ckpt", "show", "runs/points"]).stdout.contains("audits"));
}

#[test]
fn show_of_a_step_that_was_never_saved() {
    insta::assert_snapshot!(told(&place_with_checkpoints().run(&["ckpt", "show", "runs/points", "--step", "15"])));
}

#[test]
fn pull_copies_what_python_loads() {
    let place = place_with_checkpoints();
    insta::assert_snapshot!(told(&place.run(&["ckpt", "pull", "runs/points", "weights"])));
    let pulled = std::fs::read(place.path("weights/model-00001-of-00001.safetensors")).unwrap();
    assert_eq!(pulled, std::fs::read(place.path(&model_file(20))).unwrap());
    assert!(place.path("weights/model.safetensors.index.json").exists());
    assert_eq!(
        keys(&place.json(&["ckpt", "pull", "runs/points", "weights"])),
        ["step", "bytes", "state_digest", "folder"]
    );
}

#[test]
fn show_reads_no_values_when_it_is_to_be_quick() {
    let place = place_with_checkpoints();
    let shown = place.json(&["ckpt", "show", "runs/points@20"]);
    let quick = place.json(&["ckpt", "show", "runs/points/checkpoints/20", "--quick"]);
    // Values of the weight: 0, 2, 4, 6, 8, 10.
    assert_eq!(shown["tensors"][1]["norm"], 220_f64.sqrt());
    assert_eq!(shown["tensors"][1]["shape"], serde_json::json!([2, 3]));
    assert!(quick["tensors"][1]["norm"].is_null());
    assert_eq!(quick["tensors"][1]["digest"], shown["tensors"][1]["digest"]);
}

#[test]
fn diff_compares_tensor_by_tensor_and_exits_like_diff() {
    let place = place_with_checkpoints();
    let differ = place.run(&["ckpt", "diff", "runs/points@10", "runs/points"]);
    insta::assert_snapshot!("diff_differs", told(&differ));
    let equal = place.run(&["ckpt", "diff", "runs/points", "runs/points@20", "--all"]);
    insta::assert_snapshot!("diff_equal", told(&equal));
    let trouble = place.run(&["ckpt", "diff", "runs/points@10", "runs/points@11"]);
    assert_eq!(trouble.code, 4, "{}", trouble.stderr);

    let output = place.command(&["ckpt", "diff", "runs/points@10", "runs/points", "--output", "json"]).output();
    let report: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(report["equal"], false);
    assert_eq!(report["tensors"][0]["verdict"], "equal");
    // Of 0, 1, ... 5 and twice that.
    assert_eq!(report["tensors"][1]["max_abs"], 5.0);
    assert_eq!(report["tensors"][1]["relative_norm"], 1.0);
    assert_eq!(report["tensors"][1]["values_differing"], 5);
}

#[test]
fn diff_of_a_damaged_checkpoint_is_trouble_not_a_difference() {
    let place = place_with_checkpoints();
    let file = place.path(&optimizer_file(20));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let ran = place.run(&["ckpt", "diff", "runs/points@10", "runs/points@20"]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("tensor \"weight.exp_avg\": expected digest"), "{}", ran.stderr);
}

#[test]
fn prune_says_what_would_go_then_removes_it() {
    let place = Place::new();
    saved::save(&format!("file://{}", place.path("runs").display()), &[10, 20, 30, 40]);
    let args = ["ckpt", "prune", "runs/points", "--keep-last", "1", "--keep-every", "20"];
    insta::assert_snapshot!("prune_dry_run", told(&place.run(&[&args[..], &["--dry-run"]].concat())));
    assert!(place.path("runs/points/checkpoints/10/manifest.json").exists());
    insta::assert_snapshot!("prune", told(&place.run(&args)));
    assert!(!place.path("runs/points/checkpoints/10/manifest.json").exists());
    // What the removed ones wrote and the kept ones refer to is still there.
    assert_eq!(place.run(&["ckpt", "verify", "runs/points"]).code, 0);
}

#[test]
fn export_makes_one_file_of_the_model() {
    let place = place_with_checkpoints();
    insta::assert_snapshot!(told(&place.run(&["ckpt", "export", "runs/points", "model.safetensors"])));
    let bytes = std::fs::read(place.path("model.safetensors")).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    assert_eq!(header["__metadata__"]["step"], "20");
    assert_eq!(header["__metadata__"]["format"], "pt");
    assert_eq!(header["bias"]["data_offsets"], serde_json::json!([0, 12]));
    assert_eq!(header["weight"]["shape"], serde_json::json!([2, 3]));
    let values: Vec<f32> = bytes[8 + header_bytes..].as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
    assert_eq!(values, [0.5, 0.5, 0.5, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
}

#[test]
fn torchscript_is_for_jobs_with_a_module() {
    let place = place_with_checkpoints();
    let export = || place.run(&["ckpt", "export", "runs/points", "model.pt", "--format", "torchscript"]);
    insta::assert_snapshot!("export_without_a_record", told(&export()));
    let root = format!("file://{}", place.path("runs").display());
    saved::write_record(&root, &saved::record(7, "/data/points.json", "blake3:00"));
    insta::assert_snapshot!("export_of_a_built_in_model", told(&export()));
}

#[test]
fn pull_onto_a_file() {
    let place = place_with_checkpoints();
    place.write("weights", "");
    insta::assert_snapshot!(told(&place.run(&["ckpt", "pull", "runs/points", "weights"])));
}

#[test]
fn verify_tells_whole_from_damaged() {
    let place = place_with_checkpoints();
    insta::assert_snapshot!("verify_whole", told(&place.run(&["ckpt", "verify", "runs/points"])));

    let file = place.path(&model_file(20));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    insta::assert_snapshot!("verify_damaged", told(&place.run(&["ckpt", "verify", "runs/points"])));
    insta::assert_snapshot!("pull_damaged", told(&place.run(&["ckpt", "pull", "runs/points", "weights"])));
    assert_eq!(place.run(&["ckpt", "verify", "runs/points", "--step", "10"]).code, 0);

    std::fs::write(place.path(&model_file(10)), "").unwrap();
    let ran = place.run(&["ckpt", "verify", "runs/points"]);
    assert!(ran.stderr.contains("2 of 2 checkpoints") && ran.stderr.contains("nothing is left"), "{}", ran.stderr);
}

#[test]
fn a_folder_that_holds_no_run() {
    insta::assert_snapshot!(told(&Place::new().run(&["ckpt", "ls", "runs/nowhere"])));
}

#[test]
fn a_job_whose_coordinator_is_down_is_found_in_the_home() {
    let place = place_with_checkpoints();
    std::fs::create_dir_all(place.path("home")).unwrap();
    std::fs::rename(place.path("runs"), place.path("home/runs")).unwrap();
    let ran = place.run(&["ckpt", "ls", "points"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stderr, "no coordinator answers; looking into [PLACE]/home/runs\n");
    insta::assert_snapshot!(told(&place.run(&["ckpt", "ls", "pints"])));
}
