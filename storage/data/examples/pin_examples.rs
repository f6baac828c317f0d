//! Writes the manifests of the example jobs' data sets beside them, and prints what the jobs must name.
#![allow(clippy::print_stdout)]

use std::path::Path;
use trainctl_data::{DataError, PinOptions, Scale, Shape, pin};

fn main() -> Result<(), DataError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/data").canonicalize().unwrap();
    let digits =
        PinOptions { scale: Some(Scale(1.0 / 16.0)), shape: Some(Shape(vec![1, 8, 8])), ..PinOptions::default() };
    let data_sets = [
        ("digits.csv.gz", digits),
        ("mnist10k-images-idx3-ubyte.gz", PinOptions::default()),
        ("shakespeare.txt.gz", PinOptions::default()),
    ];
    for (file, options) in data_sets {
        let manifest = pin(&folder.join(file).display().to_string(), &options)?;
        let path = folder.join(format!("{}.manifest.json", manifest.name));
        let digest = manifest.write(&path)?;
        println!("{}\ndigest    {digest}\n", manifest.summary());
    }
    Ok(())
}
