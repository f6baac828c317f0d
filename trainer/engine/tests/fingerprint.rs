//! The fingerprint tells machines of different arithmetic apart, and no others.

mod common;

use common::{in_another_process, report};
use trainer_engine::{Device, fingerprint};

#[test]
fn it_is_the_same_again_and_in_another_process() {
    let ours = fingerprint(Device::Cpu).expect("measure");
    assert_eq!(ours, fingerprint(Device::Cpu).expect("measure again"));
    assert_eq!(format!("{} {}", ours.digest, ours.detail), in_another_process("measure_here", &[]));
    assert!(ours.detail.contains("libtorch 2."), "{}", ours.detail);
}

#[test]
fn other_kernels_give_another() {
    let ours = fingerprint(Device::Cpu).expect("measure");
    if ours.detail.contains("cpu DEFAULT") {
        // There are no other kernels on this CPU.
        return;
    }
    let theirs = in_another_process("measure_here", &[("ATEN_CPU_CAPABILITY", "default")]);
    let (digest, detail) = theirs.split_once(' ').expect("digest and detail");
    assert!(detail.contains("cpu DEFAULT"), "{detail}");
    assert_ne!(ours.digest, digest);
}

#[test]
#[ignore = "run by the tests above, in a process of its own"]
fn measure_here() {
    let measured = fingerprint(Device::Cpu).expect("measure");
    report(&format!("{} {}", measured.digest, measured.detail));
}
