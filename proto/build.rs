//! Compiles the `.proto` files with protox, so that no protoc need be installed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["trainctl/v1/jobs.proto", "trainctl/v1/machines.proto", "trainctl/v1/workers.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
