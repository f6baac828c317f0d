//! Sets the run path, so that the worker finds libtorch with no shell variable: in the bundle that it was packed into,
//! else where it was built.

use std::path::PathBuf;

fn main() {
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        panic!("torch-sys did not say where libtorch lies: set LIBTORCH, or run `cargo xtask setup`");
    };
    println!("cargo:rerun-if-env-changed=TRAINCTL_FOR_BUNDLE");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    // What goes to other machines says nothing about this one.
    if std::env::var_os("TRAINCTL_FOR_BUNDLE").is_none() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
