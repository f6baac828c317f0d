//! How an operation is waited for that nobody can be woken from: by asking, again and again, while asking whether this
//! thread is wanted elsewhere.

use crate::error::NcclError;
use std::thread;
use std::time::{Duration, Instant};

/// So many questions come one right after another; then the thread rests in between.
const EAGER: u32 = 2000;
const REST: Duration = Duration::from_micros(20);

/// How far something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    Underway,
    Done,
}

/// Asks until it is done, fails, is interrupted, or took longer than `patience`.
pub(crate) fn settle(
    doing: &'static str,
    patience: Option<Duration>,
    interrupted: &dyn Fn() -> bool,
    ask: &mut dyn FnMut() -> Result<Progress, NcclError>,
) -> Result<(), NcclError> {
    let begun = Instant::now();
    let mut asked = 0_u32;
    loop {
        if ask()? == Progress::Done {
            return Ok(());
        }
        if interrupted() {
            return Err(NcclError::Interrupted);
        }
        if let Some(patience) = patience.filter(|patience| begun.elapsed() > *patience) {
            return Err(NcclError::Patience { doing, patience });
        }
        asked = asked.saturating_add(1);
        if asked < EAGER {
            std::hint::spin_loop();
        } else {
            thread::sleep(REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn it_is_asked_until_it_is_done() {
        let mut left = 5000;
        let mut ask = || {
            left -= 1;
            Ok(if left == 0 { Progress::Done } else { Progress::Underway })
        };
        settle("wait", None, &|| false, &mut ask).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn what_never_ends_is_interrupted() {
        let asked = Cell::new(0);
        let mut ask = || {
            asked.set(asked.get() + 1);
            Ok(Progress::Underway)
        };
        assert_eq!(settle("wait", None, &|| asked.get() == 9, &mut ask), Err(NcclError::Interrupted));
        assert_eq!(asked.get(), 9);
        let patience = Duration::ZERO;
        let over = settle("wait", Some(patience), &|| false, &mut ask);
        assert_eq!(over, Err(NcclError::Patience { doing: "wait", patience }));
    }

    #[test]
    fn an_error_ends_it_at_once() {
        let lost = NcclError::PeerLost { doing: "wait", detail: "reset".to_owned() };
        assert_eq!(settle("wait", None, &|| true, &mut || Err(lost.clone())), Err(lost));
    }
}
