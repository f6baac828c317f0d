//! The wire: messages and services between people, the coordinator and its workers, generated from
//! `proto/trainctl/v1`. What they mean is written in the `.proto` files; conversions to the cores' own types live
//! with whoever speaks the protocol. How a coordinator is dialled is in [`dial`].

pub mod dial;

/// Version 1 of the protocol.
#[allow(missing_docs, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("trainctl.v1");
}
