//! Checkpoints on real files: saved, raced, killed, corrupted, pruned, pulled, and read by another program.

mod commit;
mod damage;
mod disk_full;
mod faults;
mod inputs;
mod kill;
mod prune;
mod pull;
mod python;
mod round_trip;
mod run;
mod shares;
mod states;
mod support;
mod tensors;
