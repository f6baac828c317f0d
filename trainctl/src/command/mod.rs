//! The commands, one module each: arguments, what is asked of the coordinator, and what is shown.

pub(crate) mod cancel;
pub(crate) mod ckpt;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod data;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod model;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod reproduce;
pub(crate) mod show;
pub(crate) mod stop;
pub(crate) mod submit;
pub(crate) mod up;
pub(crate) mod watch;
pub(crate) mod worker;
