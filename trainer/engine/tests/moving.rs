//! What a module's passes move beside what is trained: the same bits for any number of engines that share the shards, also
//! where some of them are replaced; or a refusal that names it.

mod common;

use common::{Fixture, bits, cells, digest, evaluate_shards, train_shards, tree_sum, vector};
use trainctl_checkpoint::Group;
use trainer_engine::{Engine, EngineError};

const SHARDS: u32 = 12;
const STEPS: u64 = 14;

const MODULES: [&str; 7] = ["conv.pt", "counted.pt", "momentum.pt", "through.pt", "late.pt", "quantised.pt", "kept.pt"];

fn fixture(model: &str) -> Fixture {
    let mut fixture = Fixture::new(model);
    fixture.spec.train.logical_shards = SHARDS;
    fixture.spec.train.global_batch = 5 * SHARDS;
    fixture
}

/// Trains with so many engines, of which one is replaced by a fresh one after every second step.
fn train_with(fixture: &Fixture, workers: u32) -> (String, u64) {
    let mut engines: Vec<Engine> = (0..workers).map(|_| fixture.engine()).collect();
    for step in 0..STEPS {
        let mut vectors = Vec::new();
        for (rank, engine) in (0..workers).zip(&mut engines) {
            let shards = SHARDS * rank / workers..SHARDS * (rank + 1) / workers;
            vectors.extend(shards.map(|shard| vector(engine, step, shard)));
        }
        let sum = tree_sum(vectors);
        for engine in &mut engines {
            engine.apply(step, &sum).expect("apply the sum");
        }
        if workers > 1 && step % 2 == 1 {
            let dies = (step / 2) as usize % engines.len();
            let mut joiner = fixture.engine();
            joiner.state_mut().copy_from_slice(engines[(dies + 1) % engines.len()].state());
            engines[dies] = joiner;
        }
        let digests: Vec<String> = engines.iter().map(|engine| digest(engine, step + 1)).collect();
        assert!(digests.iter().all(|other| *other == digests[0]), "{workers} engines, step {step}: {digests:?}");
    }
    for engine in &engines {
        engine.check_constants().expect("constants stay");
    }
    (digest(&engines[0], STEPS), evaluate_shards(&mut engines[0], SHARDS).loss.to_bits())
}

#[test]
fn any_number_of_engines_ends_with_the_same_bits() {
    for model in MODULES.into_iter().chain(["convnet"]) {
        let fixture = fixture(model);
        let alone = train_with(&fixture, 1);
        for workers in 2..=5 {
            assert_eq!(train_with(&fixture, workers), alone, "{model}: {workers} engines");
        }
    }
}

fn values(engine: &Engine, name: &str) -> Vec<f32> {
    let tensor = engine.tensors().iter().find(|tensor| tensor.name == name && tensor.group == Group::Model);
    tensor.unwrap_or_else(|| panic!("no tensor is named {name}")).values(engine.state()).to_vec()
}

#[test]
fn a_momentum_encoder_moves_once_a_step() {
    let mut engine = fixture("momentum.pt").engine();
    let mut expected = values(&engine, "teacher.weight");
    for step in 0..5 {
        let student = values(&engine, "student.weight");
        train_shards(&mut engine, SHARDS, step..step + 1, false);
        for (teacher, student) in expected.iter_mut().zip(student) {
            *teacher += 0.1 * (student - *teacher);
        }
        for (found, expected) in values(&engine, "teacher.weight").iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "step {step}: {found} {expected}");
        }
    }
    assert!(values(&engine, "teacher.weight") != values(&engine, "student.weight"));
}

#[test]
fn whole_numbers_gain_the_mean_over_the_shards() {
    let mut engine = fixture("counted.pt").engine();
    train_shards(&mut engine, SHARDS, 0..7, false);
    assert_eq!(values(&engine, "seen"), [35.0], "five samples a shard, seven steps");
}

#[test]
fn what_begins_to_move_after_the_trials_is_carried() {
    let mut engine = fixture("late.pt").engine();
    train_shards(&mut engine, SHARDS, 0..3, false);
    assert_eq!((values(&engine, "steps"), values(&engine, "started")), (vec![3.0], vec![0.0]));
    assert_eq!(values(&engine, "average"), [0.0; 4]);
    train_shards(&mut engine, SHARDS, 3..9, false);
    assert_eq!((values(&engine, "steps"), values(&engine, "started")), (vec![3.0], vec![1.0]));
    assert!(values(&engine, "average").iter().all(|&value| value != 0.0));
    let mask = values(&engine, "mask");
    assert!(mask[1] == f32::NEG_INFINITY && mask[0] == 0.0, "what is infinite and stays is no trouble: {mask:?}");
}

#[test]
fn what_is_not_carried_and_moves_is_named() {
    let mut engine = fixture("wide.pt").engine();
    engine.check_constants().expect("nothing moved yet");
    train_shards(&mut engine, SHARDS, 0..4, false);
    engine.check_constants().expect("nothing moved yet");
    train_shards(&mut engine, SHARDS, 4..5, false);
    let error = engine.check_constants().expect_err("the table moved");
    assert!(matches!(&error, EngineError::Moved { tensor } if tensor == "table"), "{error}");
    let expected = "model: expected table to stay as it is, as in the trial passes, found other values";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_audit_gives_the_same_bits_unless_a_pass_depends_on_what_is_no_state() {
    let audit = |engine: &mut Engine, step, shard| {
        let mut out = vec![f32::NAN; engine.train_len()];
        engine.audit_shard(step, shard, cells(&mut out)).expect("audit a shard");
        bits(&out)
    };
    for model in MODULES.into_iter().chain(["convnet", "mlp", "gpt", "text.pt"]) {
        let mut engine = fixture(model).engine();
        train_shards(&mut engine, SHARDS, 0..3, false);
        for shard in [0, 7] {
            assert!(audit(&mut engine, 3, shard) == bits(&vector(&mut engine, 3, shard)), "{model}: shard {shard}");
        }
    }
    let mut engine = fixture("tenth.pt").engine();
    assert!(audit(&mut engine, 0, 0) == bits(&vector(&mut engine, 0, 0)), "before the tenth pass");
    train_shards(&mut engine, SHARDS, 0..1, false);
    assert!(audit(&mut engine, 1, 0) != bits(&vector(&mut engine, 1, 0)), "after it");
}

#[test]
fn all_shards_of_a_job_are_audited_in_time() {
    let engine = fixture("mlp").engine();
    let mut seen = [false; SHARDS as usize];
    (0..200).for_each(|step| seen[engine.audited_shard(step) as usize] = true);
    assert_eq!(seen, [true; SHARDS as usize]);
}

#[test]
fn a_checkpoint_from_before_constants_were_carried_need_not_have_them() {
    let engine = fixture("conv.pt").engine();
    let absent: Vec<(&str, bool)> = engine
        .tensors()
        .iter()
        .filter(|t| t.group == Group::Model)
        .map(|t| (t.name.as_str(), t.absent.is_some()))
        .collect();
    assert!(absent.contains(&("order", true)), "{absent:?}");
    assert!(absent.contains(&("norm.running_mean", false)) && absent.contains(&("norm.num_batches_tracked", false)));
    let order = engine.tensors().iter().find(|tensor| tensor.name == "order").and_then(|tensor| tensor.absent.clone());
    assert_eq!(
        order.expect("values").iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>(),
        [0.0, 1.0, 2.0, 3.0]
    );
}
