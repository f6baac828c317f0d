//! `ckpt ls|show|diff|verify|pull|prune|export`: checkpoints, of a job or straight in a folder or bucket, with no
//! coordinator needed for those.

mod diff;
mod export;
mod ls;
mod progress;
mod prune;
mod pull;
mod row;
mod show;
mod verify;

use crate::cli::Session;
use crate::failure::Failure;
use crate::runs::Place;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `ckpt`.
#[derive(Args, Debug)]
#[command(after_help = "\
WHERE is a job's name or its run's folder: digits, /mnt/runs/digits, s3://bucket/runs/digits, gs://bucket/runs/digits. \
Folders and buckets need no coordinator; a bucket's credentials come from where its cloud's own tools have them. \
WHERE@STEP names one checkpoint; without it the newest is meant.

Example:
  trainctl ckpt ls digits
  trainctl ckpt diff digits@1000 digits@2000
  trainctl ckpt pull s3://bucket/runs/digits ./weights")]
pub(crate) struct CkptArgs {
    #[command(subcommand)]
    command: CkptCommand,
}

#[derive(Subcommand, Debug)]
enum CkptCommand {
    /// List the checkpoints
    #[command(
        after_help = "ADDED is what a checkpoint wrote: parts that an earlier one holds are not written again.\n\n\
                            Example:\n  trainctl ckpt ls digits\n  trainctl ckpt ls s3://bucket/runs/digits"
    )]
    Ls(WhereArgs),
    /// Show one checkpoint and its tensors
    #[command(after_help = "Example:\n  trainctl ckpt show digits@1000\n  trainctl ckpt show digits --quick")]
    Show {
        #[command(flatten)]
        one: OneArgs,
        /// Read no values, so tell no norms
        #[arg(long)]
        quick: bool,
    },
    /// Compare two checkpoints tensor by tensor; exit code 1 if they differ
    #[command(after_help = "\
Tensors of equal digests are not read. RELATIVE is the norm of the difference over the norm of A's tensor.

Example:
  trainctl ckpt diff digits@1000 digits@2000
  trainctl ckpt diff digits s3://bucket/runs/digits-again")]
    Diff {
        /// A job's name or a run's folder, and @STEP if not the newest
        #[arg(value_name = "A")]
        first: String,
        /// The other
        #[arg(value_name = "B")]
        second: String,
        /// List tensors that are equal as well
        #[arg(long)]
        all: bool,
    },
    /// Read checkpoints whole and compare all digests
    #[command(after_help = "Example:\n  trainctl ckpt verify digits\n  trainctl ckpt verify digits@1000")]
    Verify {
        #[command(flatten)]
        place: WhereArgs,
        /// Only this step [default: all]
        #[arg(long, value_name = "N")]
        step: Option<u64>,
    },
    /// Copy one checkpoint into a folder, each byte verified; goes on where an earlier pull was cut
    #[command(after_help = "The model files load with Python's safetensors.\n\n\
                            Example:\n  trainctl ckpt pull digits ./weights")]
    Pull {
        #[command(flatten)]
        one: OneArgs,
        /// Folder to copy into; made if need be
        #[arg(value_name = "FOLDER")]
        dest: PathBuf,
    },
    /// Remove old checkpoints, never the newest whole one
    #[command(after_help = "\
Before anything goes, the newest checkpoint is read whole. What a kept checkpoint refers to is kept with it.

Example:
  trainctl ckpt prune digits --keep-last 3 --dry-run
  trainctl ckpt prune digits --keep-last 3 --keep-every 1000")]
    Prune {
        #[command(flatten)]
        place: WhereArgs,
        /// Keep the newest so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep_last: u32,
        /// Of each so many steps keep the first checkpoint as well
        #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
        keep_every: Option<u64>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the model as one file for serving
    #[command(after_help = "\
safetensors is one file of all the model's tensors. torchscript is for jobs whose model is a TorchScript module: that \
module with the checkpoint's parameters and buffers in it; it needs trainctl-worker beside trainctl, or TRAINCTL_WORKER.

Example:
  trainctl ckpt export digits model.safetensors
  trainctl ckpt export digits@1000 model.pt --format torchscript")]
    Export {
        #[command(flatten)]
        one: OneArgs,
        /// File to write
        #[arg(value_name = "FILE")]
        dest: PathBuf,
        /// safetensors or torchscript
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
        format: export::Format,
    },
}

#[derive(Args, Debug)]
struct WhereArgs {
    /// A job's name, or a run's folder: a path, file://, s3:// or gs://
    #[arg(value_name = "WHERE")]
    place: String,
}

#[derive(Args, Debug)]
struct OneArgs {
    #[command(flatten)]
    place: WhereArgs,
    /// Of this step [default: the newest]
    #[arg(long, value_name = "N")]
    step: Option<u64>,
}

impl OneArgs {
    async fn find(&self, session: &Session) -> Result<(Place, u64), Failure> {
        let place = Place::find(session, &self.place.place).await?;
        let step = place.step(self.step).await?;
        Ok((place, step))
    }
}

/// Does it.
pub(crate) async fn run(session: &Session, args: CkptArgs) -> Result<(), Failure> {
    let printer = &session.printer;
    match args.command {
        CkptCommand::Ls(args) => ls::list(printer, &Place::find(session, &args.place).await?).await,
        CkptCommand::Show { one, quick } => {
            let (place, step) = one.find(session).await?;
            show::show(printer, &place, step, quick).await
        }
        CkptCommand::Diff { first, second, all } => {
            let (first, second) = (Place::find(session, &first).await?, Place::find(session, &second).await?);
            diff::diff(printer, &first, &second, all).await
        }
        CkptCommand::Verify { place, step } => {
            let place = Place::find(session, &place.place).await?;
            let step = step.or(place.named());
            verify::verify(printer, &place, step).await
        }
        CkptCommand::Pull { one, dest } => {
            let (place, step) = one.find(session).await?;
            pull::pull(printer, &place, step, dest).await
        }
        CkptCommand::Prune { place, keep_last, keep_every, dry_run } => {
            let place = Place::find(session, &place.place).await?;
            prune::prune(printer, &place, keep_last, keep_every, dry_run).await
        }
        CkptCommand::Export { one, dest, format } => {
            let (place, step) = one.find(session).await?;
            export::export(printer, &place, step, dest, format).await
        }
    }
}
