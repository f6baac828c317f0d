//! `trainctl`: what people type. It checks, asks a coordinator, and shows; it decides nothing about training.

mod cli;
mod client;
mod command;
mod embedded;
mod failure;
mod follow;
mod format;
mod home;
mod interrupts;
mod live;
mod logging;
mod module_check;
mod nearest;
mod printer;
mod runs;
mod table;
mod tell;
mod view;
mod worker_program;

use clap::Parser;
use cli::Cli;
use failure::{Class, Failure};
use printer::{ColourChoice, Format, Printer};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return command_line_error(&error),
    };
    let printer = Printer::new(cli.globals.output, cli.globals.color, cli.globals.quiet);
    match run(cli, printer.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli, printer: Printer) -> Result<(), Failure> {
    let session = cli.globals.session(printer)?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Class::Local, format!("start the runtime: {}", failure::Plain(&error))))?;
    runtime.block_on(cli.command.run(&session))
}

/// Help and version are no errors and go to stdout. The rest is told as every other error is, and as JSON if that was
/// asked for before the command line broke.
fn command_line_error(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as HelpInstead;
    if !error.use_stderr() || error.kind() == HelpInstead {
        let code = if error.print().is_ok() { error.exit_code() } else { Class::Local.code().into() };
        return ExitCode::from(u8::try_from(code).unwrap_or(Class::Usage.code()));
    }
    let args: Vec<String> = std::env::args().collect();
    let asked = |option: &str, value: &str| {
        let joined = format!("{option}={value}");
        args.contains(&joined) || args.windows(2).any(|pair| pair[0] == option && pair[1] == value)
    };
    let format = if asked("--output", "json") { Format::Json } else { Format::Text };
    let colour = if asked("--color", "never") { ColourChoice::Never } else { ColourChoice::Auto };
    let failure = Failure::command_line(&error.render().to_string());
    Printer::new(format, colour, false).failure(&failure);
    ExitCode::from(failure.exit_code())
}
