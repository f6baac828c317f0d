//! `cargo xtask demo`: what a visitor sees first. The same job twice, once with its workers evicted and killed, once
//! left alone; then the bits are compared.
//!
//! [`story`] is what happens, [`stage`] how it is shown, [`verdict`] how it ends.

mod stage;
mod story;
mod verdict;

use crate::cluster::{self, Cluster, Programs};
use anyhow::Result;
use stage::Stage;

const POOLS: &str = r#"
[pools.local-spot]
kind = "local"
spot = true
capacity = 4
notice = "5s"
"#;

/// Builds, trains twice, compares. An error where the bits differ or the model is poor.
pub(crate) fn run() -> Result<()> {
    let programs = Programs::build(false)?;
    cluster::catch_interrupts()?;
    let cluster = Cluster::start(&programs, POOLS)?;

    let mut stage = Stage::open("trainctl: machines are taken away, the bits stay the same");
    let disturbed = story::disturbed(&cluster, &mut stage)?;
    let undisturbed = story::undisturbed(&cluster, &mut stage)?;
    stage.close();

    verdict::tell(&disturbed, &undisturbed);
    verdict::judge(&disturbed, &undisturbed)
}
