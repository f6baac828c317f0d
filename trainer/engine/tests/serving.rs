//! A trained module goes back into a file, and a job that begins with that file begins where the other ended.

mod common;

use common::{Fixture, bits, train};
use std::path::Path;
use tch::Tensor;
use trainctl_checkpoint::{Group, TensorInfo};
use trainctl_jobs::ModelSpec;
use trainer_engine::{Engine, EngineError, export_torchscript};

fn model(engine: &Engine) -> Vec<TensorInfo> {
    engine.tensors().iter().filter(|tensor| tensor.group == Group::Model).cloned().collect()
}

fn write_weights(engine: &Engine, path: &Path) {
    let tensors: Vec<(String, Tensor)> = model(engine)
        .iter()
        .map(|info| {
            let shape: Vec<i64> = info.shape.iter().map(|&dim| dim as i64).collect();
            (info.name.clone(), Tensor::from_slice(info.values(engine.state())).reshape(shape))
        })
        .collect();
    Tensor::write_safetensors(&tensors, path).expect("write the weights");
}

fn source(fixture: &Fixture) -> (&str, &str) {
    let ModelSpec::Torchscript { path, digest, .. } = &fixture.spec.model else { panic!("a module of the user's") };
    (path, digest)
}

#[test]
fn an_exported_module_holds_what_was_trained() {
    let fixture = Fixture::new("conv.pt");
    let mut engine = fixture.engine();
    train(&mut engine, 0..3, false);
    let folder = tempfile::tempdir().expect("make a folder");
    let (weights, exported) = (folder.path().join("model.safetensors"), folder.path().join("model.pt"));
    write_weights(&engine, &weights);
    let (path, digest) = source(&fixture);
    export_torchscript(path, digest, &weights, &exported).expect("export");

    let mut again = Fixture::new("conv.pt");
    let ModelSpec::Torchscript { path, digest, .. } = &mut again.spec.model else { panic!("a module of the user's") };
    *path = exported.to_str().expect("a plain path").to_owned();
    *digest = format!("blake3:{}", blake3::hash(&std::fs::read(&exported).expect("read it")).to_hex());
    let begins = again.engine();
    for info in model(&engine) {
        assert_eq!(bits(info.values(begins.state())), bits(info.values(engine.state())), "{}", info.name);
    }
}

#[test]
fn weights_of_another_module_and_another_file_are_refused() {
    let fixture = Fixture::new("conv.pt");
    let folder = tempfile::tempdir().expect("make a folder");
    let (weights, exported) = (folder.path().join("model.safetensors"), folder.path().join("model.pt"));
    let foreign = [("nowhere.weight".to_owned(), Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu)))];
    Tensor::write_safetensors(&foreign, &weights).expect("write the weights");
    let (path, digest) = source(&fixture);
    let error = export_torchscript(path, digest, &weights, &exported).unwrap_err();
    assert!(matches!(error, EngineError::Spec { .. }) && error.to_string().contains("nowhere.weight"), "{error}");
    let error = export_torchscript(path, "blake3:00", &weights, &exported).unwrap_err();
    assert!(error.to_string().contains("blake3:00"), "{error}");
    assert!(!exported.exists());
}
