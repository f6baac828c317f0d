//! `ckpt` on real checkpoints in a folder, with no coordinator.

use crate::place::{Place, keys, told};
use trainctl_checkpoint::{CommitInfo, Group, RunFolder, TensorInfo, state_digest};

/// Checkpoints of steps 10 and 20 in the folder `runs/points`.
fn place_with_checkpoints() -> Place {
    let place = Place::new();
    let tensor =
        |name: &str, group, offset, len| TensorInfo { name: name.to_owned(), group, shape: vec![len], offset, len };
    let tensors = [tensor("weight", Group::Model, 0, 6), tensor("weight.exp_avg", Group::Optimizer, 16, 6)];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for step in [10, 20] {
        let state: Vec<f32> = (0..32).map(|at| (at * step) as f32).collect();
        let info = CommitInfo {
            loss: Some(1.0 / step as f64),
            world_size: 2,
            generation: 3,
            why: format!("every {step} steps"),
            state_digest: state_digest(&tensors, &state, step),
            created_ms: 1_700_000_000_000,
        };
        let root = format!("file://{}", place.path("runs").display());
        runtime.block_on(async {
            let folder = RunFolder::open(&root, "points").unwrap();
            folder.write_part(step, 0, 1, &tensors, &state).await.unwrap();
            folder.try_commit(step, 1, &info).await.unwrap().expect("the only part is there");
        });
    }
    place
}

fn model_file(step: u64) -> String {
    format!("runs/points/checkpoints/{step}/model-00001-of-00001.safetensors")
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
        ["step", "bytes", "loss", "world_size", "generation", "why", "state_digest", "committed", "damage"]
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
    assert_eq!(place.json(&["ckpt", "show", "runs/points", "--step", "10"])["files"][0]["group"], "model");
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
fn a_bucket_is_not_supported_yet() {
    insta::assert_snapshot!(told(&Place::new().run(&["ckpt", "ls", "s3://bucket/runs/points"])));
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
