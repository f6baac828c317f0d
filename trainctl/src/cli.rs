//! The command line: what all commands share and which there are. Each command's own arguments live with it.

use crate::client::Reach;
use crate::command::{
    cancel, ckpt, completions, cost, data, diff, explain, logs, ls, model, plan, pool, reproduce, show, stop, submit,
    up, watch, worker,
};
use crate::failure::Failure;
use crate::home;
use crate::printer::{ColourChoice, Format, Printer};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLE: &str = "\
Example:
  trainctl data pin data/digits.csv.gz -o digits.manifest.json
  trainctl submit --local jobs/digits.toml

Exit codes:
  0    done; for a job that was waited for: succeeded
  1    the job failed or was cancelled; what was compared differs
  2    the command line or the job file is wrong
  3    no coordinator, or no store, can be reached
  4    the coordinator refused, or there is no such thing
  5    data or a checkpoint doesn't match its manifest
  6    this machine stood in the way: a file, a port, a full disk
  130  Ctrl-C, or the coordinator was stopped; the job has not ended";

/// Train on machines that will be taken away, and get the same bits as on machines that weren't.
#[derive(Parser, Debug)]
#[command(name = "trainctl", version, after_help = EXAMPLE, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// What goes to stdout: text or json
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) output: Format,
    /// The coordinator's state on this machine [env: TRAINCTL_HOME] [default: ~/.local/state/trainctl]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Another coordinator than the home's own [env: TRAINCTL_COORDINATOR]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) coordinator: Option<String>,
    /// Another token than the home's own, with the coordinator's certificate behind it [env: TRAINCTL_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Colours: auto, always or never; NO_COLOR turns auto off
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) color: ColourChoice,
    /// Say nothing but data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice: all
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What can be done.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a coordinator here, with a pool of local processes
    Up(up::UpArgs),
    /// Check a job and hand it to the coordinator
    Submit(submit::SubmitArgs),
    /// List all jobs
    Ls(ls::LsArgs),
    /// Show one job in full
    Show(show::ShowArgs),
    /// Follow a job until it ends
    Watch(watch::WatchArgs),
    /// Print what a job's workers wrote
    Logs(logs::LogsArgs),
    /// Say what was decided about a job, and why
    Explain(explain::ExplainArgs),
    /// Say what a job has paid, and what on-demand would have cost
    Cost(cost::CostArgs),
    /// End a job; its workers save and leave
    Cancel(cancel::CancelArgs),
    /// List workers, drain one, or take one away as a drill
    Worker(worker::WorkerArgs),
    /// Say what a job would cost and when it would be done, from recorded traces of spot capacity
    Plan(plan::PlanArgs),
    /// List pools, or change what one would give
    Pool(pool::PoolArgs),
    /// List, show, compare, verify, fetch, prune and export checkpoints
    Ckpt(ckpt::CkptArgs),
    /// Run a finished run again and compare the bits
    Reproduce(reproduce::ReproduceArgs),
    /// Compare two runs: what they were made from, and their curves
    Diff(diff::DiffArgs),
    /// Pin data sets, look at their manifests, verify them
    Data(data::DataArgs),
    /// Pin a model of your own
    Model(model::ModelArgs),
    /// Suspend all jobs and end the coordinator
    Stop(stop::StopArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// What a command works with.
pub(crate) struct Session {
    /// The way out.
    pub(crate) printer: Printer,
    /// The way to the coordinator.
    pub(crate) reach: Reach,
    /// How much to say: 0 the usual.
    pub(crate) verbose: u8,
}

impl Globals {
    /// Resolves what the commands need.
    pub(crate) fn session(&self, printer: Printer) -> Result<Session, Failure> {
        let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
        let url = self.coordinator.clone();
        let reach = Reach {
            home: home::resolve(self.home.as_deref())?,
            url: url.or_else(|| named("TRAINCTL_COORDINATOR").map(|url| url.to_string_lossy().into_owned())),
            token_file: self.token_file.clone().or_else(|| named("TRAINCTL_TOKEN_FILE").map(PathBuf::from)),
        };
        Ok(Session { printer, reach, verbose: self.verbose })
    }
}

impl Command {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Up(args) => up::run(session, args).await,
            Self::Submit(args) => submit::run(session, args).await,
            Self::Ls(args) => ls::run(session, args).await,
            Self::Show(args) => show::run(session, args).await,
            Self::Watch(args) => watch::run(session, args).await,
            Self::Logs(args) => logs::run(session, args).await,
            Self::Explain(args) => explain::run(session, args).await,
            Self::Cost(args) => cost::run(session, args).await,
            Self::Cancel(args) => cancel::run(session, args).await,
            Self::Worker(args) => worker::run(session, args).await,
            Self::Plan(args) => plan::run(session, args).await,
            Self::Pool(args) => pool::run(session, args).await,
            Self::Ckpt(args) => ckpt::run(session, args).await,
            Self::Reproduce(args) => reproduce::run(session, args).await,
            Self::Diff(args) => diff::run(session, args).await,
            Self::Data(args) => data::run(session, args).await,
            Self::Model(args) => model::run(session, args).await,
            Self::Stop(args) => stop::run(session, args).await,
            Self::Completions(args) => completions::run(session, &args),
        }
    }
}
