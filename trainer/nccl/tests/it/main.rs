//! The sum over TCP, the real NCCL library as far as it goes without a GPU, and the calls into NCCL and CUDA against a
//! stand-in for both.

mod again;
mod library;
mod stand_in;
mod sums;
mod support;
mod vectors;
