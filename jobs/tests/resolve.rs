//! Putting a job together with its data set.

use std::path::Path;
use trainctl_jobs::{DataFacts, JobSpec, TargetFacts, apply_set, parse};

const DIGEST: &str = "blake3:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn text() -> String {
    format!(
        "name = \"j\"\n[data]\nmanifest = \"m.json\"\ndigest = \"{DIGEST}\"\n[model]\nkind = \"mlp\"\nhidden = [8]\n\
         [train]\nepochs = 2.5\nglobal_batch = 32\nlogical_shards = 8\n"
    )
}

fn job(sets: &[&str]) -> JobSpec {
    let text = sets.iter().fold(text(), |text, set| apply_set(&text, set).unwrap());
    parse(&text, "job.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn facts() -> DataFacts {
    DataFacts {
        manifest: "/data/m.json".to_owned(),
        digest: DIGEST.to_owned(),
        train_samples: 100,
        sample_shape: vec![1, 8, 8],
        target: TargetFacts::Classes(10),
    }
}

fn refused(job: JobSpec, facts: &DataFacts) -> String {
    job.resolve(Path::new("/jobs"), facts).unwrap_err().to_string()
}

#[test]
fn epochs_become_steps_and_paths_absolute() {
    let resolved = job(&["checkpoint.root=runs"]).resolve(Path::new("/jobs"), &facts()).unwrap();
    // 250 samples are 7.8 steps of 32.
    assert_eq!((resolved.train.steps, resolved.train.epochs), (Some(8), None));
    assert_eq!(resolved.data.manifest, "/data/m.json");
    assert_eq!(resolved.checkpoint.root.as_deref(), Some("/jobs/runs"));
    resolved.check().unwrap();
    let again = resolved.clone().resolve(Path::new("/elsewhere"), &facts()).unwrap();
    assert_eq!(again, resolved);
}

#[test]
fn the_manifest_is_looked_for_beside_the_job_then_here() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, here) = (folder.path().join("jobs"), folder.path().join("here"));
    std::fs::create_dir_all(&jobs).unwrap();
    std::fs::create_dir_all(&here).unwrap();
    let job = job(&[]);

    let errors = job.find_manifest(&jobs, &here).unwrap_err().locate(&text(), "job.toml").to_string();
    let both = format!("found none at {} or {}", jobs.join("m.json").display(), here.join("m.json").display());
    assert!(
        errors.starts_with("job.toml:3:12: data.manifest: expected a manifest, ") && errors.contains(&both),
        "{errors}"
    );

    std::fs::write(here.join("m.json"), "").unwrap();
    assert_eq!(job.find_manifest(&jobs, &here).unwrap(), here.join("m.json").display().to_string());
    std::fs::write(jobs.join("m.json"), "").unwrap();
    assert_eq!(job.find_manifest(&jobs, &here).unwrap(), jobs.join("m.json").display().to_string());
    assert_eq!(
        job.find_manifest(Path::new("../jobs"), &here).unwrap(),
        here.join("../jobs/m.json").display().to_string()
    );
}

#[test]
fn another_digest_is_refused_and_shown_in_the_file() {
    let other = DataFacts { digest: DIGEST.replace('0', "f"), ..facts() };
    let errors = job(&[]).resolve(Path::new("/jobs"), &other).unwrap_err().locate(&text(), "job.toml").to_string();
    assert!(errors.starts_with("job.toml:4:10: data.digest: expected blake3:f123"), "{errors}");
    assert!(errors.contains("the digest of /data/m.json"), "{errors}");
}

#[test]
fn what_does_not_fit_the_data_is_refused() {
    let text_facts = DataFacts { target: TargetFacts::NextByte, sample_shape: Vec::new(), ..facts() };
    let numbers = DataFacts { target: TargetFacts::Number, ..facts() };
    let flat = DataFacts { sample_shape: vec![64], ..facts() };
    let empty = DataFacts { train_samples: 0, ..facts() };
    let gpt = "model={ kind = \"gpt\", layers = 1, heads = 1, width = 8, context = 4 }";
    let convnet = "model={ kind = \"convnet\", channels = [4, 4, 4, 4] }";
    for (sets, facts, expected) in [
        (vec![], &text_facts, "model.kind: expected features and targets, found a text"),
        (vec![gpt], &facts(), "model.kind: expected a text for a gpt, found a data set of 10 classes"),
        (
            vec![convnet],
            &flat,
            "expected samples of channels, height, width for a convnet, found samples of shape [64]",
        ),
        (vec![convnet], &facts(), "model.channels: expected at most 3 blocks, as each halves the 8x8 image, found 4"),
        (
            vec![],
            &numbers,
            "train.loss: expected \"mse\" for a data set whose target is a number, found \"cross-entropy\"",
        ),
        (vec!["train.loss=mse"], &facts(), "train.loss: expected \"cross-entropy\" for a data set of 10 classes"),
        (vec![], &empty, "data.held_out: expected samples left to train on, found none"),
        (vec!["train.schedule.warmup_steps=9"], &facts(), "expected at most 8, the steps of 2.5 epochs, found 9"),
    ] {
        let message = refused(job(&sets), facts);
        assert!(message.contains(expected), "{sets:?}: expected {expected:?} in\n{message}");
    }
}

/// A job with a model of its own, `m.pt`.
fn own(sets: &[&str]) -> JobSpec {
    let model = format!("kind = \"torchscript\"\npath = \"m.pt\"\ndigest = \"{DIGEST}\"");
    let text = text().replace("kind = \"mlp\"\nhidden = [8]", &model);
    let text = sets.iter().fold(text, |text, set| apply_set(&text, set).unwrap());
    parse(&text, "job.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn a_model_of_its_own_is_found_beside_the_job_and_pinned_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.pt");
    let missing = own(&[]).find_model(folder.path(), folder.path()).unwrap_err().to_string();
    assert!(missing.contains("model.path: expected a TorchScript file, found none at "), "{missing}");
    std::fs::write(&file, "").unwrap();
    assert_eq!(own(&[]).find_model(folder.path(), Path::new("/")).unwrap(), Some(file.clone()));
    assert_eq!(job(&[]).find_model(folder.path(), Path::new("/")).unwrap(), None);

    let other = format!("blake3:{}", "f".repeat(64));
    let refused = own(&[]).pin_model(&file, &other).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("model.digest: expected {other}, the digest of {}", file.display())),
        "{refused}"
    );
    let pinned = own(&[]).pin_model(&file, DIGEST).unwrap();
    assert!(
        matches!(pinned.model, trainctl_jobs::ModelSpec::Torchscript { path, .. } if path == file.display().to_string())
    );
}

#[test]
fn a_model_of_its_own_needs_a_context_for_text_and_for_nothing_else() {
    let text = DataFacts { target: TargetFacts::NextByte, sample_shape: vec![], ..facts() };
    let refusal = refused(own(&[]), &text);
    assert!(refusal.contains("model.context: expected how many bytes of text the module sees at a time"), "{refusal}");
    assert!(own(&["model.context=16"]).resolve(Path::new("/jobs"), &text).is_ok());
    let refusal = refused(own(&["model.context=16"]), &facts());
    assert!(refusal.contains("model.context: expected no such key for a data set of 10 classes"), "{refusal}");
}

#[test]
fn a_model_of_its_own_computes_in_the_types_that_it_says_itself() {
    let text = text().replace(
        "kind = \"mlp\"\nhidden = [8]",
        &format!("kind = \"torchscript\"\npath = \"m.pt\"\ndigest = \"{DIGEST}\""),
    );
    let text = apply_set(&text, "train.compute=bf16").unwrap();
    let refused = parse(&text, "job.toml").unwrap_err().to_string();
    assert!(refused.contains("train.compute: expected \"fp32\" for a torchscript module"), "{refused}");
}
