//! What is the user's to mend in a module of their own: each refusal says what was expected, what was found and what to
//! do, before training and in it.

mod common;

use common::{Fixture, cells, module_path};
use trainctl_jobs::{ModelSpec, RefusalCause};
use trainer_engine::{Device, Engine, EngineError, try_module};

/// What a module on these data is refused with: its message, without where the modules lie, and its hint.
fn refusal(fixture: &Fixture) -> (String, String) {
    let error = match Engine::new(&fixture.spec, fixture.data(), Device::Cpu) {
        Ok(_) => panic!("{:?} was taken", fixture.spec.model),
        Err(error) => error,
    };
    assert!(matches!(error, EngineError::Spec { .. }), "{:?}: {error:?}", fixture.spec.model);
    // The check before anything is bought says the same.
    let refusal = match try_module(&fixture.spec, fixture.data(), Device::Cpu) {
        Ok(_) => panic!("{:?} was taken by the check", fixture.spec.model),
        Err(error) => error.refusal(),
    };
    assert_eq!(refusal.cause, RefusalCause::Job);
    let text = error.to_string();
    assert_eq!(format!("{}: {}", refusal.field.unwrap_or_default(), refusal.message), text);
    assert_eq!(refusal.hint.as_deref(), error.hint().as_deref());
    (text.replace(&module_path("misfits/"), ""), error.hint().expect("what to do").into_owned())
}

fn taken(fixture: &Fixture) {
    let contents = try_module(&fixture.spec, fixture.data(), Device::Cpu);
    let contents = contents.unwrap_or_else(|error| panic!("{:?}: {error}", fixture.spec.model));
    let trial = contents.trial.expect("it was tried");
    assert!(trial.loss.is_finite() && trial.samples == 13, "{trial:?}");
}

#[test]
fn modules_that_do_not_fit_tables_are_refused() {
    let batch = "the data's batches, float32 of shape [13, 64]";
    for (file, expected, hint) in [
        ("few-features", "a module for BATCH, found one with a layer that takes 16 values and is given 64", "--shape"),
        (
            "image",
            "a module for BATCH, found one for another shape: Expected 3D (unbatched) or 4D (batched) input to \
             conv2d, but got input of size: [13, 64]",
            "--shape",
        ),
        (
            "view",
            "a module for BATCH, found one for another shape: shape '[-1, 1, 28, 28]' is invalid for input of size \
             832",
            "x.view(",
        ),
        (
            "layer-norm",
            "a module for BATCH, found one for another shape: Given normalized_shape=[32], expected input with \
             shape [*, 32], but got input of size[13, 64]",
            "x.flatten(1)",
        ),
        (
            "shifted",
            "a module for BATCH, found one for another shape: The size of tensor a (64) must match the size of \
             tensor b (32) at non-singleton dimension 1",
            "x.flatten(1)",
        ),
        ("raises", "a module for BATCH, found one that raises ValueError: this model is for images", "forward"),
        (
            "two-arguments",
            "a forward that takes BATCH, and nothing else, found one that also needs `mask`",
            "a default",
        ),
        ("no-argument", "a forward that takes BATCH, and nothing else, found one that takes nothing", "one input"),
        (
            "list-argument",
            "a forward that takes BATCH, and nothing else, found one that takes List[Tensor]",
            "one input",
        ),
        ("no-forward", "a forward that takes BATCH, and nothing else, found a module without forward", "one input"),
        ("dictionary", "a forward that returns one tensor, found a dict", "return the outputs alone"),
        ("float", "a forward that returns one tensor, found a float", "return the outputs alone"),
        ("mean", "float32 outputs of shape [13, 4] for 13 samples, found float32 of shape []", "logits"),
        ("seven-classes", "float32 outputs of shape [13, 4] for 13 samples, found float32 of shape [13, 7]", "logits"),
        ("double-output", "float32 outputs of shape [13, 4] for 13 samples, found float64 of shape [13, 4]", "float32"),
        (
            "in-place",
            "a forward that leaves alone what the gradient is computed from, found one that writes to it in place: \
             one of the variables needed for gradient computation has been modified by an inplace operation: \
             [CPUFloatType [13, 4]], which is output 0 of Add1, is at version 1; expected version 0 instead",
            "y = y + 1",
        ),
        (
            "overwritten",
            "a forward that leaves alone what the gradient is computed from, found one that writes to it in place: \
             a leaf Variable that requires grad is being used in an in-place operation",
            "y = y + 1",
        ),
        ("detached", "outputs that depend on the parameters, found outputs without a gradient", "detach()"),
        (
            "on-cuda",
            "a module that computes where its input is, found one that names a device: Could not run \
             'aten::empty.memory_format' with arguments from the 'CUDA' backend",
            "x.device",
        ),
    ] {
        let (message, said) = refusal(&Fixture::new(&format!("misfits/{file}.pt")));
        assert_eq!(message, format!("model.path: expected {}", expected.replace("BATCH", batch)), "{file}");
        assert!(said.contains(hint), "{file}: {said}");
    }
}

#[test]
fn modules_that_do_not_fit_text_are_refused() {
    let batch = "the data's batches, int64 of shape [13, 20]";
    for (file, expected, hint) in [
        ("misfits/sparse.pt", "gradients that are dense, found a sparse one", "sparse=False"),
        ("misfits/few-tokens.pt", "a module for BATCH, found an embedding with too few rows", "nn.Embedding(256"),
        (
            "plain.pt",
            "a module for BATCH, found one that takes them for another type: mat1 and mat2 must have the same \
             dtype, but got Long and Float",
            "nn.Embedding(256",
        ),
    ] {
        let (message, said) = refusal(&Fixture::of_text(file));
        assert_eq!(message, format!("model.path: expected {}", expected.replace("BATCH", batch)), "{file}");
        assert!(said.contains(hint), "{file}: {said}");
    }
    // The other way around: an embedding is given a table's numbers.
    let mut fixture = Fixture::new("plain.pt");
    fixture.spec.model = Fixture::new("text.pt").spec.model;
    if let ModelSpec::Torchscript { context, .. } = &mut fixture.spec.model {
        *context = None;
    }
    let (message, said) = refusal(&fixture);
    let expected = "model.path: expected a module for the data's batches, float32 of shape [13, 64], found one that looks \
                    them up in an embedding: Expected tensor for argument #1 'indices'";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(said, "write embedding(x.long()) for data of whole numbers");
}

#[test]
fn batch_norm_needs_more_than_one_sample() {
    let mut fixture = Fixture::new("misfits/batch-norm.pt");
    taken(&fixture);
    fixture.spec.train.global_batch = fixture.spec.train.logical_shards;
    let (message, hint) = refusal(&fixture);
    assert_eq!(
        message,
        "train.global_batch: expected more than one sample in each micro-batch, for BatchNorm, found one"
    );
    assert_eq!(hint, "raise train.global_batch, or lower train.logical_shards");
}

#[test]
fn an_argument_with_a_default_is_no_misfit() {
    taken(&Fixture::new("misfits/optional-argument.pt"));
}

#[test]
fn other_files_than_torchscript_are_named() {
    for (file, expected, hint) in [
        (
            "misfits/whole-module.pt",
            "a pickled __main__.Head, which torch.save wrote, in whole-module.pt",
            "weights_only=False",
        ),
        ("misfits/checkpoint.pt", "a dictionary, which torch.save wrote, in checkpoint.pt", "load_state_dict"),
        ("misfits/old-state.pt", "a state_dict, which torch.save wrote, in old-state.pt", "load_state_dict"),
        (
            "misfits/old-module.pt",
            "a pickled __main__.Bare, which torch.save wrote, in old-module.pt",
            "weights_only=False",
        ),
        ("misfits/exported.pt2", "a program that torch.export wrote (.pt2), in exported.pt2", "nn.Module"),
        ("misfits/head.safetensors", "tensors without a module (safetensors), in head.safetensors", "load_model"),
    ] {
        let (message, said) = refusal(&Fixture::new(file));
        assert_eq!(message, format!("model.path: expected a TorchScript file, found {expected}"), "{file}");
        assert!(said.contains(hint), "{file}: {said}");
    }
}

#[test]
fn a_module_that_fails_in_training_is_told_as_at_the_start() {
    let mut engine = Fixture::new("misfits/late.pt").engine();
    let mut out = vec![0f32; engine.train_len()];
    let error = (0..200).find_map(|step| engine.train_shard(step, 0, cells(&mut out), &mut |_| {}).err());
    let error = error.expect("a hundred passes");
    assert_eq!(
        error.to_string(),
        "model.path: expected a module for the data's batches, float32 of shape [13, 64], found one that raises \
         ValueError: a hundred is enough"
    );
    let mut again = [0f32; 3];
    let error = engine.eval_shard(0, cells(&mut again)).expect_err("it goes on failing");
    assert!(error.to_string().starts_with("model.path: expected a module for "), "{error}");
}

#[test]
fn memory_is_the_machines_trouble() {
    let fixture = Fixture::new("misfits/huge.pt");
    let error = Engine::new(&fixture.spec, fixture.data(), Device::Cpu).err().expect("no machine has a petabyte");
    let refusal = error.refusal();
    assert_eq!(refusal.cause, RefusalCause::Machine);
    assert!(refusal.message.starts_with("can't compute a first pass: "), "{}", refusal.message);
    assert!(refusal.message.contains("can't allocate memory") && !refusal.message.contains("nternal"), "{refusal:?}");
    assert!(refusal.hint.is_some_and(|hint| hint.starts_with("give each worker more memory")));
}
