//! The reference in the docs is the one that the types make.

#[test]
fn the_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/JOB_SPEC.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let current = written == trainctl_jobs::reference_markdown();
    assert!(current, "{path} is out of date\nhint: cargo run -p trainctl-jobs --example reference");
}
