//! `pool ls|set`: where instances come from, and drills in capacity that goes and comes.

use crate::cli::Session;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::table::{Rows, plain};
use crate::view::Pool;
use clap::{Args, Subcommand};
use std::time::Duration;
use trainctl_proto::v1::PoolStatus;

/// Arguments of `pool`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl pool ls\n  trainctl pool set local-spot --capacity 2")]
pub(crate) struct PoolArgs {
    #[command(subcommand)]
    command: PoolCommand,
}

#[derive(Subcommand, Debug)]
enum PoolCommand {
    /// List pools
    #[command(after_help = "Example:\n  trainctl pool ls")]
    Ls,
    /// A drill: change how many instances the pool would give; one that shrinks takes back what is too many
    #[command(after_help = "Example:\n  trainctl pool set local-spot --capacity 2")]
    Set {
        /// Which one
        #[arg(value_name = "NAME")]
        pool: String,
        /// Instances, those in use included
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        capacity: u32,
    },
}

/// Lists or sets.
pub(crate) async fn run(session: &Session, args: PoolArgs) -> Result<(), Failure> {
    let mut coordinator = session.reach.connect().await?;
    match args.command {
        PoolCommand::Ls => {
            let pools = coordinator.pools().await?;
            let views: Vec<Pool> = pools.iter().cloned().map(Pool::from).collect();
            session.printer.emit(&views, |printer| table(printer, &pools))
        }
        PoolCommand::Set { pool, capacity } => {
            let status = coordinator.set_pool(&pool, capacity).await?;
            session.printer.emit(&Pool::from(status.clone()), |_| {
                let over = status.in_use.saturating_sub(status.capacity);
                let after = match over {
                    0 => String::new(),
                    n => format!("; it takes {} back", format::count(n.into(), "instance")),
                };
                format!("{} holds {} now{after}\n", status.pool, format::count(status.capacity.into(), "instance"))
            })
        }
    }
}

fn table(printer: &Printer, pools: &[PoolStatus]) -> String {
    let mut rows =
        Rows::new(printer, &["POOL", "KIND", "SPOT", ">CAPACITY", ">IN USE", ">NOTICE", ">EVICTIONS", "NOTE"]);
    for pool in pools {
        rows.push([
            plain(&pool.pool),
            plain(&pool.kind),
            plain(if pool.spot { "yes" } else { "no" }),
            plain(pool.capacity),
            plain(pool.in_use),
            plain(if pool.spot { format::duration(Duration::from_millis(pool.notice_ms)) } else { "-".to_owned() }),
            plain(pool.evictions),
            plain(&pool.note),
        ]);
    }
    rows.render()
}
