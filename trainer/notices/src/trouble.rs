//! Tells a log once that a metadata server can't be read, and once that it can again. A watch asks for days; what goes on
//! saying the same is not read.

use crate::http::AskError;
use std::error::Error;

/// Whether the last question was answered.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    last: Option<String>,
}

impl Trouble {
    /// The value of an answer; `None` when there was none.
    pub(crate) fn note<T>(&mut self, asked: Result<T, AskError>) -> Option<T> {
        match asked {
            Ok(value) => {
                if self.last.take().is_some() {
                    tracing::info!("the metadata server answers again");
                }
                Some(value)
            }
            Err(error) => {
                let said = chain(&error);
                if self.last.as_ref() != Some(&said) {
                    tracing::warn!("can't watch for the cloud's notice: {said}");
                    self.last = Some(said);
                }
                None
            }
        }
    }
}

fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}
