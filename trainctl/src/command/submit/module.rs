//! A job's own module, tried before the job is handed over: what is wrong with it costs a second here, and a machine
//! later.

use super::preflight::Checked;
use crate::command::data;
use crate::failure::Failure;
use crate::module_check::{self, Outcome, Trial};
use crate::printer::Printer;
use std::path::Path;
use trainctl_data::Manifest;
use trainctl_jobs::{ModelSpec, Refusal, RefusalCause};

/// More of the data is not fetched for a trial.
const FETCHED_MAX_BYTES: u64 = 256 << 20;

/// Tries the module of a job that has one, on the job's own micro-batch.
///
/// # Errors
/// When it can't be trained, or its data are not as they were pinned.
pub(super) async fn check(printer: &Printer, checked: &Checked) -> Result<(), Failure> {
    let ModelSpec::Torchscript { path, digest, .. } = &checked.spec.model else { return Ok(()) };
    let manifest = Manifest::parse(checked.manifest_json.as_bytes(), &checked.spec.data.manifest);
    let data = module_check::enough(&checked.spec, manifest.map_err(data::failure)?);
    let small = data.stored_bytes() <= FETCHED_MAX_BYTES;
    let trial = small.then_some(Trial { spec: &checked.spec, data: &data });
    let spinner = printer.spinner("trying the module");
    let outcome = module_check::check(Path::new(path), digest, trial).await;
    spinner.finish_and_clear();
    match outcome? {
        Outcome::Accepted(_) if small => Ok(()),
        Outcome::Accepted(_) => {
            let manifest = &checked.spec.data.manifest;
            printer.note(&format!(
                "the module was loaded and not tried on data: their first object is large\n\
                 hint: `trainctl model pin {path} --data {manifest}` tries it"
            ));
            Ok(())
        }
        Outcome::NoWorker(program) => {
            printer.note(&module_check::not_loaded(&program));
            Ok(())
        }
        // The job's workers may have what this machine lacks.
        Outcome::Refused(Refusal { cause: RefusalCause::Machine, message, .. }) => {
            printer.note(&format!("the module was not tried: {message}"));
            Ok(())
        }
        Outcome::Refused(refusal) => {
            let source = checked.source.display();
            Err(module_check::refused(refusal, |field| match field {
                Some(field) => format!("{source}: {field}"),
                None => source.to_string(),
            }))
        }
    }
}
