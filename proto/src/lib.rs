//! The wire: messages and services between people, the coordinator and its workers, generated from
//! `proto/trainctl/v1`. What they mean is written in the `.proto` files; conversions to the cores' own types live
//! with whoever speaks the protocol.
#![allow(missing_docs, unreachable_pub)]

/// Version 1 of the protocol.
pub mod v1 {
    tonic::include_proto!("trainctl.v1");
}
