//! `pool ls|set|token`: where instances come from, drills in capacity that goes and comes, and how machines join.

use crate::cli::Session;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::table::{Rows, plain};
use crate::view::Pool;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::time::Duration;
use trainctl_proto::v1::{self, PoolStatus};

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
    /// Print the command by which a machine of one's own joins a pool of kind "static"
    #[command(after_help = "Example:\n  trainctl pool token lab\n  trainctl pool token lab --valid 8h")]
    Token {
        /// Which one
        #[arg(value_name = "NAME")]
        pool: String,
        /// How long machines may join with it; 0: for good
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = valid)]
        valid: Duration,
    },
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

/// How machines join a pool.
#[derive(Serialize)]
struct Token {
    pool: String,
    token: String,
    /// The URL at which machines reach the coordinator.
    coordinator: String,
    /// By which they know it; absent: it answers in the clear.
    #[serde(skip_serializing_if = "String::is_empty")]
    certificate: String,
    /// Absent: never.
    expires: Option<String>,
    /// To be run on each machine.
    command: String,
}

fn valid(text: &str) -> Result<Duration, String> {
    let time = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    time.map_err(|_| format!("expected a time such as 8h or 30d, or 0, found {text:?}"))
}

/// Lists, sets, or tells how to join.
pub(crate) async fn run(session: &Session, args: PoolArgs) -> Result<(), Failure> {
    let mut coordinator = session.reach.connect().await?;
    match args.command {
        PoolCommand::Ls => {
            let pools = coordinator.pools().await?;
            let views: Vec<Pool> = pools.iter().cloned().map(Pool::from).collect();
            session.printer.emit(&views, |printer| table(printer, &pools))
        }
        PoolCommand::Token { pool, valid } => {
            let reply = coordinator.pool_token(&pool, valid.as_secs()).await?;
            let v1::PoolTokenReply { token, coordinator: url, certificate, expires_ms } = reply;
            let known_by = match certificate.as_str() {
                "" => String::new(),
                certificate => format!(" TRAINCTL_CERTIFICATE={certificate}"),
            };
            let command =
                format!("TRAINCTL_JOIN_TOKEN={token}{known_by} trainctl-worker run --join --coordinator {url}");
            let expires = format::rfc3339(expires_ms);
            let token = Token { pool, token, coordinator: url, certificate, expires, command };
            session.printer.emit(&token, |_| format!("{}\n", token.command))?;
            session.printer.note("whoever has this token can join; run the command on each machine of the pool");
            Ok(())
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
    let placed = pools.iter().any(|pool| !pool.region.is_empty() || !pool.zone.is_empty());
    let priced = pools.iter().any(|pool| pool.usd_per_hour > 0.0);
    let mut headings = vec!["POOL", "KIND", "SPOT"];
    headings.extend(placed.then_some("PLACE"));
    headings.extend(priced.then_some(">USD/H"));
    headings.extend([">CAPACITY", ">IN USE", ">NOTICE", ">EVICTIONS", "NOTE"]);
    let mut rows = Rows::new(printer, &headings);
    for pool in pools {
        let mut cells = vec![plain(&pool.pool), plain(&pool.kind), plain(if pool.spot { "yes" } else { "no" })];
        if placed {
            cells.push(plain(if pool.zone.is_empty() { &pool.region } else { &pool.zone }));
        }
        if priced {
            cells.push(plain(if pool.usd_per_hour > 0.0 {
                format!("{:.4}", pool.usd_per_hour)
            } else {
                "-".to_owned()
            }));
        }
        let notice = Duration::from_millis(pool.notice_ms);
        cells.extend([
            plain(pool.capacity),
            plain(pool.in_use),
            plain(if pool.spot { format::duration(notice) } else { "-".to_owned() }),
            plain(pool.evictions),
            plain(note(pool)),
        ]);
        rows.push(cells);
    }
    rows.render()
}

fn note(pool: &PoolStatus) -> String {
    let unowned = match pool.unowned.as_slice() {
        [] => String::new(),
        some => {
            format!("ended {} that nobody asked for: {}", format::count(some.len() as u64, "instance"), some.join(", "))
        }
    };
    let notes = [pool.note.as_str(), unowned.as_str()];
    notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ")
}
