//! Compiles the shim over what tch does not expose, and sets the run path, so that tests and benchmarks find
//! libtorch with no shell variable.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=shim");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        panic!("torch-sys did not say where libtorch lies: set LIBTORCH, or run `cargo xtask setup`");
    };
    let include = lib.parent().expect("the lib folder lies in libtorch's own").join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .opt_level(2)
        .files(["shim/config.cpp", "shim/gradients.cpp", "shim/module.cpp"])
        .compile("trainctl_torch_shim");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
