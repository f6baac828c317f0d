//! `reproduce`: runs a finished run again from what its folder records, and compares the final states. Whatever would
//! give other bits is told before anything starts.

use crate::cli::Session;
use crate::command::submit::{Checked, check_recorded, run_here};
use crate::command::watch::outcome;
use crate::failure::{Class, Failure, Report};
use crate::home;
use crate::printer::Printer;
use crate::runs::{Place, failure, origins};
use crate::table::{self, Tone};
use crate::tell;
use crate::worker_program;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use trainctl_checkpoint::{CheckpointError, Digest, RunRecord};
use trainctl_jobs::{JobSpec, PolicySpec, ResourcesSpec, WorkersSpec};

/// Arguments of `reproduce`.
#[derive(Args, Debug)]
#[command(after_help = "\
RUN is a job's name or its run's folder, as for `trainctl ckpt`. The job recorded there runs on this machine under \
another name and into a fresh folder. Only equal pins give equal bits: a program, libtorch, machine or data set that \
differs is named before anything starts. Exit code 0 means that the final states are equal, bit for bit.

Example:
  trainctl reproduce digits
  trainctl reproduce s3://bucket/runs/digits --workers 2")]
pub(crate) struct ReproduceArgs {
    /// A job's name, or a run's folder: a path, file://, s3:// or gs://
    #[arg(value_name = "RUN")]
    run: String,
    /// What to call the new job [default: NAME-again, NAME-again-2, ...]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where to put its folder [default: the home's runs]
    #[arg(long, value_name = "URI")]
    root: Option<String>,
    /// Where the data manifest is now, if it was moved
    #[arg(long, value_name = "MANIFEST")]
    manifest: Option<PathBuf>,
    /// Most workers; the bits don't depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Pools of the coordinator that runs it [default: local processes]
    #[arg(long, value_name = "FILE")]
    pools: Option<PathBuf>,
}

/// What the worker program says of itself and of this machine.
#[derive(Deserialize)]
struct Here {
    fingerprint: String,
    detail: String,
    libtorch_version: String,
    program_version: String,
}

/// What came of it.
#[derive(Serialize)]
struct Compared {
    run: String,
    again: String,
    step: u64,
    equal: bool,
    expected: Digest,
    found: String,
    /// The first step that both saved, and with different states.
    differs_from: Option<u64>,
    audits_passed: AuditsPassed,
}

/// Logical shards that were computed twice, to the same bits.
#[derive(Serialize)]
struct AuditsPassed {
    run: u64,
    again: u64,
}

/// Runs it again.
pub(crate) async fn run(session: &Session, args: ReproduceArgs) -> Result<(), Failure> {
    let place = Place::find(session, &args.run).await?;
    let record = record(&place).await?;
    let spec = spec(&place, &record)?;
    let steps = spec.train.steps.unwrap_or_default();
    let Some((_, expected)) = end(&place, &record).await? else { return Err(unfinished(&place, steps).await) };
    let mut again = again(session, &args, spec)?;
    let manifest = if args.manifest.is_none() { origins::manifest(&place).await? } else { None };
    origins::bring_module(&place, &mut again.model, &session.reach.home.join("modules")).await?;
    let (name, root) = (again.name.clone(), again.checkpoint.root.clone().unwrap_or_default());
    let checked = check(&place, &record, again, manifest).await?;
    session.printer.note(&format!("running {} again as {name}, below {root}", args.run));

    let status = run_here(session, checked, args.pools).await?;
    outcome(&status)?;
    let copy = Place::open(&root, &name)?;
    let equal = status.state_digest == expected.to_string();
    let differs_from = if equal { None } else { first_difference(&place, &copy).await? };
    let audits_passed = AuditsPassed {
        run: audits_passed(&place, &record).await?,
        again: audits_passed(&copy, &self::record(&copy).await?).await?,
    };
    let compared = Compared {
        run: place.shown,
        again: copy.shown,
        step: status.state_digest_step,
        equal,
        expected,
        found: status.state_digest,
        differs_from,
        audits_passed,
    };
    session.printer.emit(&compared, |printer| text(printer, &compared))?;
    if equal { Ok(()) } else { Err(Failure::silent(Class::Differs)) }
}

/// The run's record.
pub(super) async fn record(place: &Place) -> Result<RunRecord, Failure> {
    match place.folder.read_run().await.map_err(|error| failure(&error))? {
        Some(record) => Ok(record),
        None => {
            // A bucket that isn't there looks the same to a read.
            place.folder.steps().await.map_err(|error| failure(&error))?;
            let message = format!("{}: expected a run's folder with run.json, found none there", place.shown);
            Err(Failure::new(Class::Refused, message).hint("name the folder that holds run.json and checkpoints/"))
        }
    }
}

fn spec(place: &Place, record: &RunRecord) -> Result<JobSpec, Failure> {
    if !record.reproducible {
        let message = format!(
            "{}: expected train.numerics = \"exact\", found \"fast\": computed again, it would give other bits",
            place.shown
        );
        return Err(Failure::new(Class::Refused, message).hint("`trainctl diff` compares the pins and curves of runs"));
    }
    serde_json::from_value(record.job.clone()).map_err(|error| {
        let message = format!("{}/run.json: job: expected a job as this program knows it: {error}", place.shown);
        Failure::new(Class::Damaged, message).hint(format!("use trainctl {}, which wrote it", record.program_version))
    })
}

/// Step and digest of the state that the run ended with: as it was noted, or as its last checkpoint has it.
pub(super) async fn end(place: &Place, record: &RunRecord) -> Result<Option<(u64, Digest)>, Failure> {
    if let Some(finish) = record.finish() {
        return Ok(Some((finish.step, finish.state_digest)));
    }
    let Some(steps) = record.job["train"]["steps"].as_u64() else { return Ok(None) };
    match place.folder.read_manifest(steps).await {
        Ok(manifest) => Ok(Some((steps, manifest.state_digest))),
        Err(CheckpointError::NotCommitted { .. }) => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

/// As it was noted at the run's end, or as its last checkpoint has it.
async fn audits_passed(place: &Place, record: &RunRecord) -> Result<u64, Failure> {
    if let Some(finish) = record.finish() {
        return Ok(finish.audits_passed);
    }
    let Some(steps) = record.job["train"]["steps"].as_u64() else { return Ok(0) };
    match place.folder.read_manifest(steps).await {
        Ok(manifest) => Ok(manifest.audits_passed),
        Err(CheckpointError::NotCommitted { .. }) => Ok(0),
        Err(error) => Err(failure(&error)),
    }
}

async fn unfinished(place: &Place, steps: u64) -> Failure {
    let newest = place.folder.steps().await.ok().and_then(|steps| steps.last().copied());
    let found = newest.map_or("no checkpoint".to_owned(), |step| format!("its newest checkpoint at step {step}"));
    let message = format!("{}: expected a finished run of {steps} steps, found {found}", place.shown);
    Failure::new(Class::Refused, message).hint("let the job finish first: there is nothing to compare with yet")
}

/// The recorded job under a new name, on this machine.
fn again(session: &Session, args: &ReproduceArgs, mut spec: JobSpec) -> Result<JobSpec, Failure> {
    let runs = home::runs(&session.reach.home);
    let unused = |name: &String| !runs.join(name).exists() && !session.reach.home.join("logs").join(name).exists();
    let numbered = (2..).map(|n| format!("{}-again-{n}", spec.name));
    let mut names = std::iter::once(format!("{}-again", spec.name)).chain(numbered);
    spec.name = match &args.name {
        Some(name) => name.clone(),
        None => names.find(unused).unwrap_or_default(),
    };
    spec.checkpoint.root = Some(args.root.clone().unwrap_or_else(|| trainctl_objects::file_uri(&runs)));
    if let Some(manifest) = &args.manifest {
        let path = std::path::absolute(manifest).map_err(|error| Failure::file("resolve", manifest, &error))?;
        spec.data.manifest = path.display().to_string();
    }
    let max = args.workers.min(spec.train.logical_shards);
    let resources = ResourcesSpec { workers: WorkersSpec { min: 1, max }, ..ResourcesSpec::default() };
    spec.resources =
        ResourcesSpec { pools: args.pools.as_ref().map_or(resources.pools, |_| spec.resources.pools), ..resources };
    spec.policy = PolicySpec::default();
    Ok(spec)
}

/// Names all that would give other bits, or is missing.
async fn check(
    place: &Place,
    record: &RunRecord,
    again: JobSpec,
    manifest: Option<Vec<u8>>,
) -> Result<Checked, Failure> {
    let here = worker_program::run(&["fingerprint".as_ref()]).await?;
    let here: Here = serde_json::from_slice(&here).map_err(|error| {
        Failure::new(Class::Local, format!("trainctl-worker fingerprint: expected JSON: {error}"))
            .hint("trainctl and trainctl-worker must be of one version")
    })?;
    let object = format!("{}/run.json", place.shown);
    let mut reports = Vec::new();
    let mut pin = |pin: &str, expected: String, found: String, hint: String| {
        if expected != found {
            let message = format!("{object}: {pin}: expected {expected}, found {found} here");
            reports.push(Report { message, hint: Some(hint) });
        }
    };
    let program = &record.program_version;
    pin("program_version", program.clone(), here.program_version, format!("use trainctl {program}"));
    let libtorch = &record.libtorch_version;
    let hint = format!("build trainctl-worker with libtorch {libtorch}: set LIBTORCH to it");
    pin("libtorch_version", libtorch.clone(), here.libtorch_version, hint);
    let with_detail = |digest: &str, detail: &str| match detail {
        "" => digest.to_owned(),
        detail => format!("{digest} ({detail})"),
    };
    if record.fingerprint != here.fingerprint {
        pin(
            "fingerprint",
            with_detail(&record.fingerprint, &record.fingerprint_detail),
            with_detail(&here.fingerprint, &here.detail),
            "run it on a machine of that kind: other processors compute other last bits".to_owned(),
        );
    }
    match check_recorded(again, &object, manifest).await {
        Ok(checked) if reports.is_empty() => Ok(checked),
        Ok(_) => Err(Failure { class: Class::Differs, reports }),
        Err(data) => {
            reports.extend(data.reports);
            Err(Failure { class: data.class, reports })
        }
    }
}

/// The first step that both runs saved and that differs.
async fn first_difference(run: &Place, again: &Place) -> Result<Option<u64>, Failure> {
    let (ours, theirs) = tokio::try_join!(run.folder.list(), again.folder.list()).map_err(|error| failure(&error))?;
    let digest = |step: u64| {
        let listed = theirs.iter().find(|listed| listed.step == step)?;
        Some(listed.manifest.as_ref().ok()?.state_digest)
    };
    let differs = ours
        .iter()
        .filter_map(|listed| listed.manifest.as_ref().ok())
        .find(|manifest| digest(manifest.step).is_some_and(|digest| digest != manifest.state_digest));
    Ok(differs.map(|manifest| manifest.step))
}

fn text(printer: &Printer, compared: &Compared) -> String {
    let verdict = match (compared.equal, compared.differs_from) {
        (true, _) => printer.tone("equal, bit for bit", Tone::Good),
        (false, None) => printer.tone("differs", Tone::Bad),
        (false, Some(step)) => format!("{} from step {step} or before", printer.tone("differs", Tone::Bad)),
    };
    let mut rows = vec![
        ("run", compared.run.clone()),
        ("again", compared.again.clone()),
        ("step", compared.step.to_string()),
        ("expected", compared.expected.to_string()),
        ("found", compared.found.clone()),
        ("verdict", verdict),
    ];
    let AuditsPassed { run, again } = compared.audits_passed;
    if run > 0 || again > 0 {
        let said = format!("{} in the run, {} in the repetition", tell::audits(run), tell::audits(again));
        rows.insert(rows.len() - 1, ("audits", said));
    }
    table::pairs(printer, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};
    use trainctl_checkpoint::{CommitInfo, Finish, Group, RUN_FORMAT_VERSION, RunEvent, TensorInfo, state_digest};

    fn compared(run: u64, again: u64) -> Compared {
        let expected = format!("blake3:{}", "0".repeat(64)).parse().unwrap();
        Compared {
            run: "s3://bucket/runs/digits".to_owned(),
            again: "file:///home/runs/digits-again".to_owned(),
            step: 2000,
            equal: true,
            expected,
            found: expected.to_string(),
            differs_from: None,
            audits_passed: AuditsPassed { run, again },
        }
    }

    #[test]
    fn the_audits_of_both_are_told_where_there_were_any() {
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        insta::assert_snapshot!(text(&printer, &compared(41, 0)), @"
        run       s3://bucket/runs/digits
        again     file:///home/runs/digits-again
        step      2000
        expected  blake3:0000000000000000000000000000000000000000000000000000000000000000
        found     blake3:0000000000000000000000000000000000000000000000000000000000000000
        audits    41 passed in the run, none in the repetition
        verdict   equal, bit for bit
        ");
        assert!(!text(&printer, &compared(0, 0)).contains("audits"));
        let json = serde_json::to_value(compared(41, 40)).unwrap();
        assert_eq!(json["audits_passed"], serde_json::json!({"run": 41, "again": 40}));
    }

    #[tokio::test]
    async fn audits_are_those_of_the_end_or_else_of_the_last_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::open(&trainctl_objects::file_uri(root.path()), "digits").unwrap();
        let record = RunRecord {
            format_version: RUN_FORMAT_VERSION,
            job: serde_json::json!({"train": {"steps": 20}}),
            data_digest: String::new(),
            program_version: String::new(),
            libtorch_version: String::new(),
            reproducible: true,
            fingerprint: String::new(),
            fingerprint_detail: String::new(),
            seed: 7,
            submitted_ms: 1,
            events: Vec::new(),
        };
        assert_eq!(audits_passed(&place, &record).await.unwrap(), 0);

        let (name, shape) = ("bias".to_owned(), vec![2]);
        let tensors =
            [TensorInfo { name, group: Group::Model, shape, offset: 0, len: 2, constant: false, absent: None }];
        let state_digest = state_digest(&tensors, &[1.0, 2.0], 20);
        let info = CommitInfo {
            loss: None,
            world_size: 1,
            generation: 1,
            audits_passed: 40,
            why: "final".to_owned(),
            state_digest,
            created_ms: 1,
        };
        place.folder.write_part(20, 0, 1, &tensors, &[1.0, 2.0]).await.unwrap();
        place.folder.try_commit(20, 1, &info).await.unwrap().unwrap();
        assert_eq!(audits_passed(&place, &record).await.unwrap(), 40);

        let finish = Finish { step: 20, state_digest, loss: None, audits_passed: 41, at_ms: 1 };
        let record = RunRecord { events: vec![RunEvent::Finished(finish)], ..record };
        assert_eq!(audits_passed(&place, &record).await.unwrap(), 41);
    }
}
