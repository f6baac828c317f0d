//! Modules of the user's own: trained as exactly as the built-in models, or refused with the reason.

mod common;

use common::{Fixture, bits, evaluate, module_path, train, vector};
use std::collections::BTreeSet;
use tch::{CModule, IValue, Tensor};
use trainctl_checkpoint::Group;
use trainctl_jobs::ModelSpec;
use trainer_engine::{Device, Engine};

fn values(engine: &Engine, name: &str) -> Vec<f32> {
    let tensor = engine.tensors().iter().find(|tensor| tensor.name == name);
    tensor.unwrap_or_else(|| panic!("no tensor is named {name}")).values(engine.state()).to_vec()
}

fn refusal(file: &str) -> String {
    let fixture = Fixture::new(file);
    match Engine::new(&fixture.spec, fixture.data(), Device::Cpu) {
        Ok(_) => panic!("{file} was taken"),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{cause}").replace(&module_path(""), "")
        }
    }
}

#[test]
fn the_thousandth_pass_has_the_bits_of_the_first() {
    for (file, passes) in [("conv.pt", 1000), ("text.pt", 60)] {
        let mut engine = Fixture::new(file).engine();
        let first = bits(&vector(&mut engine, 0, 3));
        for pass in 1..passes {
            assert!(bits(&vector(&mut engine, 0, 3)) == first, "{file}: pass {pass}");
        }
        evaluate(&mut engine);
        assert!(bits(&vector(&mut engine, 0, 3)) == first, "{file}: after an evaluation");
    }
}

#[test]
fn modules_learn() {
    for (file, share) in [("conv.pt", 0.3), ("text.pt", 0.85), ("number.pt", 0.2)] {
        let mut engine = Fixture::new(file).engine();
        let before = evaluate(&mut engine);
        train(&mut engine, 0..60, false);
        let after = evaluate(&mut engine);
        assert!(after.loss < share * before.loss, "{file}: {before:?} {after:?}");
    }
}

#[test]
fn a_module_and_the_built_in_model_of_the_same_operations_agree_in_every_bit() {
    let mut module = Fixture::new("plain.pt").engine();
    let mut fixture = Fixture::new("mlp");
    fixture.spec.model = ModelSpec::Mlp { hidden: vec![48, 20], dropout: 0.0 };
    let mut built_in = fixture.engine();
    assert_eq!(module.tensors(), built_in.tensors());
    built_in.state_mut().copy_from_slice(module.state());
    for step in 0..5 {
        for shard in 0..common::SHARDS {
            assert!(
                bits(&vector(&mut module, step, shard)) == bits(&vector(&mut built_in, step, shard)),
                "step {step}"
            );
        }
        train(&mut module, step..step + 1, false);
        train(&mut built_in, step..step + 1, false);
    }
    assert!(bits(module.state()) == bits(built_in.state()));
}

#[test]
fn the_state_starts_at_the_files_values_under_the_modules_names() {
    let engine = Fixture::new("conv.pt").engine();
    let names = |group| engine.tensors().iter().filter(move |t| t.group == group).map(|t| t.name.as_str());
    let model: BTreeSet<&str> = names(Group::Model).collect();
    let expected = [
        "average",
        "conv.bias",
        "conv.weight",
        "head.bias",
        "head.weight",
        "norm.bias",
        "norm.num_batches_tracked",
        "norm.running_mean",
        "norm.running_var",
        "norm.weight",
        "order",
        "unused",
    ];
    assert_eq!(model, BTreeSet::from(expected), "what training changes or may change, and nothing else");

    let file = CModule::load(module_path("conv.pt")).expect("load the module");
    for (name, tensor) in file.named_parameters().expect("list the parameters") {
        if name != "frozen" {
            let flat = Vec::<f32>::try_from(tensor.flatten(0, -1)).expect("floats");
            assert!(bits(&values(&engine, &name)) == bits(&flat), "{name}");
        }
    }
}

#[test]
fn buffers_follow_the_batches_and_counters_the_steps() {
    let mut engine = Fixture::new("conv.pt").engine();
    assert_eq!(values(&engine, "norm.num_batches_tracked"), [0.0]);
    train(&mut engine, 0..3, false);
    evaluate(&mut engine);
    assert_eq!(values(&engine, "norm.num_batches_tracked"), [3.0]);
    for buffer in ["norm.running_mean", "average"] {
        assert!(values(&engine, buffer).iter().any(|&value| value != 0.0), "{buffer}");
    }
    assert_eq!(values(&engine, "unused"), [1.0; 3], "no gradient and no weight decay");
}

#[test]
fn a_trained_state_put_into_the_module_gives_the_engines_outputs() {
    let fixture = Fixture::new("plain.pt");
    let mut engine = fixture.engine();
    train(&mut engine, 0..20, false);
    let evaluation = evaluate(&mut engine);

    let mut module = CModule::load_on_device(module_path("plain.pt"), tch::Device::Cpu).expect("load the module");
    module.set_eval();
    tch::no_grad(|| {
        for (name, mut tensor) in module.named_parameters().expect("list the parameters") {
            tensor.copy_(&Tensor::from_slice(&values(&engine, &name)).view_as(&tensor));
        }
    });
    let data = fixture.data();
    let split = trainctl_data::Split::new(data.rows(), fixture.spec.data.held_out, fixture.spec.data.held_out_seed);
    let rows: Vec<u64> = (0..split.held_out_len()).map(|i| split.held_out_row(i)).collect();
    let (mut features, mut classes) = (vec![0f32; rows.len() * 64], vec![0i64; rows.len()]);
    data.fill_features(&rows, &mut features).unwrap();
    data.fill_classes(&rows, &mut classes).unwrap();
    let input = Tensor::from_slice(&features).view([-1, 64]);
    let IValue::Tensor(logits) = module.forward_is(&[IValue::Tensor(input)]).expect("run the module") else {
        panic!("expected a tensor")
    };
    let loss = logits.cross_entropy_for_logits(&Tensor::from_slice(&classes)).double_value(&[]);
    assert!((loss - evaluation.loss).abs() < 1e-5, "{loss} {evaluation:?}");
}

#[test]
fn modules_that_can_not_be_trained_are_refused_with_the_reason() {
    for (file, expected) in [
        ("frozen.pt", "model.path: expected a module with parameters, found none in frozen.pt"),
        ("no-gradient.pt", "model.path: expected a parameter with requires_grad, found none in no-gradient.pt"),
        ("double.pt", "model.path: expected float32 parameters, found Double in layers.0.weight in double.pt"),
        (
            "tied.pt",
            "model.path: expected parameters that share no memory, found one tensor that is both first.weight and \
             second.weight in tied.pt",
        ),
        (
            "traced.pt",
            "model.path: expected running statistics that follow the batches, found norm.running_mean, which a training \
             pass leaves alone in traced.pt",
        ),
        (
            "precise.pt",
            "model.path: expected buffers whose values float32 can hold, found average, Double of shape [4], that \
             training changes in precise.pt",
        ),
        (
            "clamped.pt",
            "model.path: expected passes that leave parameters as they are, found a training pass that writes to \
             head.weight, which is trained in clamped.pt",
        ),
        ("random.pt", "model: expected the same outputs in evaluation each time, found other bits when computed again"),
        (
            "restless.pt",
            "model: expected the same gradient of head.weight each time, found other bits when computed again",
        ),
        ("pair.pt", "model.path: expected a forward that returns one tensor, found a tuple"),
        (
            "fixed.pt",
            "model.path: expected a module that takes any count of samples, found one that fails for a single sample: \
             shape '[13, 4]' is invalid for input of size 4",
        ),
        (
            "custom.pt",
            "model.path: expected a module of torch's own operators, found the operator tests::twice in custom.pt",
        ),
        (
            "state.pt",
            "model.path: expected a TorchScript file, found a state_dict, which torch.save wrote, in state.pt",
        ),
    ] {
        assert_eq!(refusal(file), expected, "{file}");
    }
}

#[test]
fn outputs_of_another_shape_are_refused() {
    let mut fixture = Fixture::new("number.pt");
    fixture.spec.model = Fixture::new("plain.pt").spec.model;
    assert!(Engine::new(&fixture.spec, fixture.data(), Device::Cpu).is_err(), "a module for 64 features, data of 2");

    // A module for four classes, on data whose target is a number.
    let mut fixture = Fixture::new("plain.pt");
    fixture.spec.train.loss = trainctl_jobs::LossSpec::Mse;
    let error = Engine::new(&fixture.spec, common::numbers_of_64_features(fixture.folder()), Device::Cpu)
        .err()
        .expect("a refusal");
    assert_eq!(
        error.to_string(),
        "model.path: expected float32 outputs of shape [13, 1] or [13] for 13 samples, found float32 of shape [13, 4]"
    );
    assert_eq!(error.hint().as_deref(), Some("return one float32 for each sample"));
}

#[test]
fn another_file_than_the_pinned_one_is_not_loaded() {
    let mut fixture = Fixture::new("plain.pt");
    let ModelSpec::Torchscript { digest, .. } = &mut fixture.spec.model else { panic!("a module") };
    let right = digest.clone();
    *digest = format!("blake3:{}", "0".repeat(64));
    let error = Engine::new(&fixture.spec, fixture.data(), Device::Cpu).err().expect("a refusal").to_string();
    assert_eq!(
        error,
        format!(
            "model.digest: expected blake3:{}, as the job pins it, found {right} in {}",
            "0".repeat(64),
            module_path("plain.pt")
        )
    );

    let ModelSpec::Torchscript { path: gone, .. } = &mut fixture.spec.model else { panic!("a module") };
    gone.push_str(".gone");
    let error = Engine::new(&fixture.spec, fixture.data(), Device::Cpu).err().expect("a refusal").to_string();
    assert!(error.starts_with("model.path: expected a file that this worker can read, found "), "{error}");
}
