//! What can be found out about a job before anything starts: its file, its manifest and digest, its data objects.

use crate::command::data;
use crate::failure::{Class, Failure, Report};
use std::path::{Path, PathBuf};
use trainctl_data::{Manifest, Split, Target, manifest_digest};
use trainctl_jobs::{DataFacts, JobSpec, SpecErrors, TargetFacts};
use trainctl_proto::v1::SubmitRequest;

/// A job that holds, as far as can be told here.
pub(super) struct Checked {
    /// The job's file.
    pub(super) source: PathBuf,
    /// Resolved: paths absolute, steps known.
    pub(super) spec: JobSpec,
    /// Byte for byte.
    manifest_json: String,
}

impl Checked {
    /// As it is sent.
    pub(super) fn request(&self) -> Result<SubmitRequest, Failure> {
        let spec_json = serde_json::to_string(&self.spec)
            .map_err(|error| Failure::new(Class::Local, format!("write the job as JSON: {error}")))?;
        Ok(SubmitRequest { spec_json, manifest_json: self.manifest_json.clone() })
    }
}

/// Reads and checks the job with all `settings` applied.
pub(super) async fn check(file: &Path, settings: &[String]) -> Result<Checked, Failure> {
    let (file, settings) = (file.to_owned(), settings.to_owned());
    let work = tokio::task::spawn_blocking(move || check_blocking(file, &settings));
    work.await.map_err(|error| Failure::new(Class::Local, format!("check the job: {error}")))?
}

fn check_blocking(source: PathBuf, settings: &[String]) -> Result<Checked, Failure> {
    let mut text = std::fs::read_to_string(&source)
        .map_err(|error| Failure { class: Class::Usage, ..Failure::file("read job", &source, &error) })?;
    let name = match settings {
        [] => source.display().to_string(),
        _ => format!("{} with --set", source.display()),
    };
    for setting in settings {
        text = trainctl_jobs::apply_set(&text, setting).map_err(wrong)?;
    }
    let spec = trainctl_jobs::parse(&text, &name).map_err(wrong)?;
    let located = |errors: SpecErrors| wrong(errors.locate(&text, &name));
    let folder = data::folder_of(&source)?;
    let current = std::env::current_dir().map_err(|error| Failure::file("look into", Path::new("."), &error))?;
    let path = spec.find_manifest(&folder, &current).map_err(located)?;
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure { class: Class::Usage, ..Failure::file("read manifest", &path, &error) })?;
    let manifest = Manifest::parse(&bytes, &path.display().to_string()).map_err(data::failure)?;
    let facts = facts(&spec, &manifest, path.clone(), &bytes)?;
    let spec = spec.resolve(&folder, &facts).map_err(located)?;
    trainctl_data::check_sizes(&manifest, path.parent().unwrap_or(&folder)).map_err(data::failure)?;
    let manifest_json = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Class::Usage, format!("{}: expected UTF-8 text", path.display())))?;
    Ok(Checked { source, spec, manifest_json })
}

/// What the job's own checks need to know about its data.
fn facts(spec: &JobSpec, manifest: &Manifest, path: PathBuf, bytes: &[u8]) -> Result<DataFacts, Failure> {
    let samples = manifest.samples(spec.model.context());
    let split = Split::new(samples, spec.data.held_out, spec.data.held_out_seed);
    Ok(DataFacts {
        manifest: path,
        digest: manifest_digest(bytes),
        train_samples: split.train_len(),
        sample_shape: manifest.features.shape.clone(),
        target: match manifest.target {
            Target::Class { classes, .. } => TargetFacts::Classes(classes),
            Target::Number { .. } => TargetFacts::Number,
            Target::NextByte => TargetFacts::NextByte,
        },
    })
}

/// Each of a job file's mistakes as an error of its own.
fn wrong(errors: SpecErrors) -> Failure {
    let source_name = errors.source_name;
    let other_data =
        errors.errors.iter().any(|error| error.key == "data.digest" && error.expected.contains("digest of"));
    let one = |error| SpecErrors { source_name: source_name.clone(), errors: vec![error] };
    let reports = errors.errors.into_iter().map(|error| Report::of_text(&one(error).to_string())).collect();
    Failure { class: if other_data { Class::Damaged } else { Class::Usage }, reports }
}
