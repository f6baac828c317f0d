//! Manifests that older versions pinned: the same rows, bit for bit, whatever pinning makes of the data today.

use crate::folder::{classes, features};
use std::path::Path;
use trainctl_data::{Dataset, Manifest};

#[test]
fn old_manifests_give_the_bits_that_they_gave() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old");
    for (name, shape, digest, targets) in [
        ("photos", &[3, 16, 24][..], "5749972498d8bbba9fc0c52f9b018f7dc9456426f563be994077ab46d3839327", [1, 0, 2]),
        ("tables", &[2], "18a2b51af13a9977ef7f88247947a373a1fdf80f0d5c3dfeb0a2367fe475f2b5", [0, 2, 1]),
        ("times", &[3], "5e53a249f7c6f01a909dfa021dc6b4e925690e1a7ba99d593df6ac9f21c10cd2", [0, 1, 2]),
    ] {
        let bytes = std::fs::read(folder.join(format!("{name}.manifest.json"))).unwrap();
        let manifest = Manifest::parse(&bytes, name).unwrap();
        assert_eq!(manifest.to_bytes(), bytes, "{name}: what is absent stays absent");
        let data = Dataset::open(&manifest, &folder).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((data.sample_shape(), classes(&data)), (shape, targets.to_vec()), "{name}");
        let bytes: Vec<u8> = features(&data).iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), digest, "{name}");
    }
}
