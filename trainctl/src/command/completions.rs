//! `completions`: a script that completes commands and options.

use crate::cli::{Cli, Session};
use crate::failure::Failure;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl completions bash > ~/.local/share/bash-completion/completions/trainctl")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script; with `--output json` as `{shell, script}`.
pub(crate) fn run(session: &Session, args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trainctl", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let object = serde_json::json!({ "shell": args.shell.to_string(), "script": script });
    session.printer.emit(&object, |_| script.clone())
}
