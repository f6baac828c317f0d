//! The provider on EC2 as moto serves it.

mod buying;
mod conforming;
mod coordinator;
mod failing;
mod watching;
