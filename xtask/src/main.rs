//! `cargo xtask`: every routine of the project. `cargo xtask --help` lists them.

mod bench;
mod cluster;
mod demo;
mod dist;
mod lint;
mod screen;
mod setup;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Every routine of the project; each sets up what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    routine: Routine,
}

#[derive(Subcommand)]
enum Routine {
    /// Bring libtorch: pinned, digests checked, once. A LIBTORCH of yours is used instead
    Setup(setup::Options),
    /// Train a job on workers that get evicted and killed, again on one that isn't, and compare the bits
    Demo,
    /// Run all tests, or those whose name contains FILTER
    Test(test::Options),
    /// Check format, lints, and that the documents made from code are current
    Lint,
    /// Write the documents that are made from code
    Docs,
    /// Pack what rented machines run into one file, with its digest
    Dist(dist::Options),
    /// Measure
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().routine {
        Routine::Setup(options) => setup::announce(&options),
        Routine::Demo => demo::run(),
        Routine::Test(options) => test::run(&options),
        Routine::Lint => lint::run(),
        Routine::Docs => lint::write_documents(),
        Routine::Dist(options) => dist::run(&options),
        Routine::Bench(options) => bench::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::print_error(&error);
            if cluster::interrupted() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}
