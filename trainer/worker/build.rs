//! Sets the run path, so that the worker finds libtorch with no shell variable: beside itself when it was packed with
//! its libraries, else where it was built.

use std::path::PathBuf;

fn main() {
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        panic!("torch-sys did not say where libtorch lies: set LIBTORCH, or run `cargo xtask setup`");
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
