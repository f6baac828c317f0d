//! Members of a group in threads of one process, over real sockets.

mod bad_peers;
mod exact;
mod joining;
mod links;
mod support;
