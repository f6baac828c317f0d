//! `ckpt ls|show|pull|verify`: checkpoints, of a job or straight in a folder, with no coordinator needed for those.

mod look;
mod place;
mod pull;
mod verify;

use crate::cli::Session;
use crate::failure::{Class, Failure, chain};
use clap::{Args, Subcommand};
use place::Place;
use std::path::{Path, PathBuf};
use trainctl_checkpoint::CheckpointError;

/// Arguments of `ckpt`.
#[derive(Args, Debug)]
#[command(after_help = "WHERE is a job's name, or a run's folder: /path/to/digits or file:///path/to/digits.\n\n\
                        Example:\n  trainctl ckpt ls digits\n  trainctl ckpt pull digits ./weights")]
pub(crate) struct CkptArgs {
    #[command(subcommand)]
    command: CkptCommand,
}

#[derive(Subcommand, Debug)]
enum CkptCommand {
    /// List the checkpoints
    #[command(after_help = "Example:\n  trainctl ckpt ls digits\n  trainctl ckpt ls file:///mnt/runs/digits")]
    Ls(WhereArgs),
    /// Show one checkpoint and its files
    #[command(after_help = "Example:\n  trainctl ckpt show digits --step 1000")]
    Show(OneArgs),
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
    /// Read checkpoints whole and compare all digests
    #[command(after_help = "Example:\n  trainctl ckpt verify digits")]
    Verify {
        #[command(flatten)]
        place: WhereArgs,
        /// Only this step [default: all]
        #[arg(long, value_name = "N")]
        step: Option<u64>,
    },
}

#[derive(Args, Debug)]
struct WhereArgs {
    /// A job's name, or a run's folder
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

/// Lists, shows, pulls or verifies.
pub(crate) async fn run(session: &Session, args: CkptArgs) -> Result<(), Failure> {
    let printer = &session.printer;
    match args.command {
        CkptCommand::Ls(args) => look::list(printer, &Place::find(session, &args.place).await?).await,
        CkptCommand::Show(one) => {
            let place = Place::find(session, &one.place.place).await?;
            let step = place.step(one.step).await?;
            look::show(printer, &place, step).await
        }
        CkptCommand::Pull { one, dest } => {
            let place = Place::find(session, &one.place.place).await?;
            let step = place.step(one.step).await?;
            pull::pull(printer, &place, step, dest).await
        }
        CkptCommand::Verify { place, step } => {
            verify::verify(printer, &Place::find(session, &place.place).await?, step).await
        }
    }
}

/// A checkpoint error in this command line's words.
fn failure(error: &CheckpointError) -> Failure {
    if let CheckpointError::Io { action, object, source } = error
        && let Some(source) = source.downcast_ref::<std::io::Error>()
    {
        return Failure::file(action, Path::new(object), source);
    }
    let class = match error {
        CheckpointError::Open(_) | CheckpointError::JobName { .. } => Class::Usage,
        CheckpointError::NotCommitted { .. } | CheckpointError::NoneWhole { .. } => Class::Refused,
        CheckpointError::Damaged(_)
        | CheckpointError::FormatVersion { .. }
        | CheckpointError::Tensor { .. }
        | CheckpointError::StateDiffers { .. }
        | CheckpointError::PinDiffers { .. } => Class::Damaged,
        CheckpointError::Layout(_)
        | CheckpointError::Part { .. }
        | CheckpointError::Full { .. }
        | CheckpointError::Io { .. } => Class::Local,
    };
    let failure = Failure::new(class, chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
