//! Writes `docs/JOB_SPEC.md` from the types.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/JOB_SPEC.md");
    std::fs::write(path, trainctl_jobs::reference_markdown())
}
