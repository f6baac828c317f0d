//! Sets the run path, so that tests find libtorch with no shell variable.

use std::path::PathBuf;

fn main() {
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        panic!("torch-sys did not say where libtorch lies: set LIBTORCH, or run `cargo xtask setup`");
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
