//! What can be found out about a job before anything starts: its file, its manifest and digest, its data objects.

use crate::command::{data, model};
use crate::failure::{Class, Failure, Report};
use std::path::{Path, PathBuf};
use trainctl_data::{Base, Manifest, manifest_digest};
use trainctl_jobs::{JobSpec, SpecErrors};
use trainctl_proto::v1::SubmitRequest;

/// A job that holds, as far as can be told here.
pub(crate) struct Checked {
    /// The job's file.
    pub(super) source: PathBuf,
    /// Resolved: paths absolute, steps known.
    pub(super) spec: JobSpec,
    /// Byte for byte.
    pub(super) manifest_json: String,
}

impl Checked {
    /// The job, resolved.
    pub(crate) fn spec(&self) -> &JobSpec {
        &self.spec
    }

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

/// Checks a job as it was recorded, all its places absolute; `source` is what messages call it. Where the record came with
/// its `manifest`, that need not be any more where it was.
pub(crate) async fn check_recorded(spec: JobSpec, source: &str, manifest: Option<Vec<u8>>) -> Result<Checked, Failure> {
    let source = source.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        spec.check().map_err(wrong)?;
        settle(spec, source.into(), Path::new("/"), manifest, wrong)
    });
    work.await.map_err(|error| Failure::new(Class::Local, format!("check the job: {error}")))?
}

fn check_blocking(source: PathBuf, settings: &[String]) -> Result<Checked, Failure> {
    let Read { text, name, spec } = read(&source, settings)?;
    let located = |errors: SpecErrors| wrong(errors.locate(&text, &name));
    let folder = data::folder_of(&source)?;
    settle(spec, source, &folder, None, located)
}

/// The job with its steps known. Where its file says how many there are, nothing else of it needs to be there.
pub(crate) async fn planned(file: &Path, settings: &[String]) -> Result<JobSpec, Failure> {
    let spec = read(file, settings)?.spec;
    match spec.train.steps {
        Some(_) => Ok(spec),
        None => Ok(check(file, settings).await?.spec),
    }
}

/// A job file that was read.
struct Read {
    text: String,
    /// What messages call it.
    name: String,
    spec: JobSpec,
}

fn read(source: &Path, settings: &[String]) -> Result<Read, Failure> {
    let mut text = std::fs::read_to_string(source)
        .map_err(|error| Failure { class: Class::Usage, ..Failure::file("read job", source, &error) })?;
    let name = match settings {
        [] => source.display().to_string(),
        _ => format!("{} with --set", source.display()),
    };
    for setting in settings {
        text = trainctl_jobs::apply_set(&text, setting).map_err(wrong)?;
    }
    let spec = trainctl_jobs::parse(&text, &name).map_err(wrong)?;
    Ok(Read { text, name, spec })
}

/// What only data and model can tell of a job.
fn settle(
    spec: JobSpec,
    source: PathBuf,
    folder: &Path,
    manifest: Option<Vec<u8>>,
    located: impl Fn(SpecErrors) -> Failure,
) -> Result<Checked, Failure> {
    let current = std::env::current_dir().map_err(|error| Failure::file("look into", Path::new("."), &error))?;
    let (place, bytes) = match manifest {
        Some(bytes) => (spec.data.manifest.clone(), bytes),
        None => {
            let place = spec.find_manifest(folder, &current).map_err(&located)?;
            let bytes = data::fetch(&place)?;
            (place, bytes)
        }
    };
    let manifest = Manifest::parse(&bytes, &place).map_err(data::failure)?;
    let facts = manifest.facts(&spec, place.clone(), manifest_digest(&bytes));
    let spec = spec.resolve(folder, &facts).map_err(&located)?;
    let spec = match spec.find_model(folder, &current).map_err(&located)? {
        Some(path) => spec.pin_model(&path, &model::digest(&path)?).map_err(&located)?,
        None => spec,
    };
    trainctl_data::check_sizes(&manifest, Base::of_manifest(&place)).map_err(data::failure)?;
    let manifest_json =
        String::from_utf8(bytes).map_err(|_| Failure::new(Class::Usage, format!("{place}: expected UTF-8 text")))?;
    Ok(Checked { source, spec, manifest_json })
}

/// Each of a job file's mistakes as an error of its own.
fn wrong(errors: SpecErrors) -> Failure {
    let source_name = errors.source_name;
    let pinned = ["data.digest", "model.digest"];
    let other_data =
        errors.errors.iter().any(|error| pinned.contains(&error.key.as_str()) && error.expected.contains("digest of"));
    let one = |error| SpecErrors { source_name: source_name.clone(), errors: vec![error] };
    let reports = errors.errors.into_iter().map(|error| Report::of_text(&one(error).to_string())).collect();
    Failure { class: if other_data { Class::Damaged } else { Class::Usage }, reports }
}
