//! How long work on a checkpoint's bytes is shown.

use crate::printer::Printer;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar of bytes, such as `pulling step 20`, seen on terminals only.
pub(super) fn bytes(printer: &Printer, what: String, total: u64) -> ProgressBar {
    let style = "{msg}  {wide_bar}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    printer.live().add(ProgressBar::new(total).with_style(style).with_message(what))
}
