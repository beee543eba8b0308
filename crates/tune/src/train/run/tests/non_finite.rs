//! Numbers that are not finite: in pixels, labels, weights, the loss. Each is reported with its batch and its cause, and
//! either costs that batch alone or ends the run with the last good state kept.

use super::*;
use crate::data::batch::Batch;

/// Keeps what a run says.
#[derive(Default)]
struct Log(Vec<String>);

impl Observer for Log {
    fn warning(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// A run before its first step, and its first batch.
fn begun<'a>(recipe: &'a Recipe) -> (Run<'a>, Batch) {
    let prepared = start::prepare(recipe, &mut Silent).unwrap();
    let run_dir = recipe.project.join(&recipe.name);
    files::prepare_folders(&run_dir).unwrap();
    let place = place(recipe, prepared.dataset.pixels).unwrap();
    let run = Run::new(recipe, prepared, run_dir, &place, &mut Silent).unwrap();
    // Floats, that a test can spoil one.
    let config = LoaderConfig { floats: true, ..run.loader_config() };
    let mut loader = TrainLoader::new(Arc::clone(&run.train_cache), config, run.counters.position()).unwrap();
    let batch = loader.next().unwrap().unwrap().batch;
    (run, batch)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// One bad batch costs nothing but itself: the next one trains as if it had been the first.
fn recovers(spoil: impl Fn(&mut Batch), cause: &str) {
    let data = drawn();
    let recipe = recipe(data.path(), "run", &[]);
    let (mut run, batch) = begun(&recipe);
    let (mut untouched, _) = begun(&recipe);
    let before = bits(&run.params.values);
    let mut spoilt = batch.clone();
    spoil(&mut spoilt);
    let mut log = Log::default();
    run.train_step(&spoilt, 0, &mut log, &NEVER).unwrap();
    assert_eq!((run.counters.skipped, run.counters.bad), (1, 1));
    assert!(bits(&run.params.values) == before, "a batch that is left out changed the weights");
    let [warning] = &log.0[..] else { panic!("{:?}", log.0) };
    for word in ["epoch 1, batch 1", cause, "left out", ".png"] {
        assert!(warning.contains(word), "{word:?} is not in: {warning}");
    }
    run.train_step(&batch, 1, &mut log, &NEVER).unwrap();
    untouched.counters.last_step = Some(0);
    untouched.train_step(&batch, 1, &mut log, &NEVER).unwrap();
    assert!(bits(&run.params.values) != before, "the next batch trains");
    assert!(bits(&run.params.values) == bits(&untouched.params.values));
    assert_eq!((run.counters.skipped, run.counters.bad, log.0.len()), (1, 0, 1));
}

#[test]
fn a_pixel_that_is_no_number_costs_its_batch_alone() {
    recovers(|batch| batch.images[100] = f32::NAN, "not finite");
}

#[test]
fn an_infinite_pixel_costs_its_batch_alone() {
    recovers(|batch| batch.images[100] = f32::INFINITY, "not finite");
}

#[test]
fn a_label_that_is_no_number_costs_its_batch_alone() {
    recovers(|batch| batch.targets[0].label.w = f32::NAN, "finite");
}

#[test]
fn a_weight_that_is_no_number_ends_the_run_and_the_saved_state_is_the_last_good_one() {
    let data = drawn();
    let recipe = recipe(data.path(), "run", &[]);
    let (mut run, batch) = begun(&recipe);
    run.train_step(&batch, 0, &mut Silent, &NEVER).unwrap();
    run.save().unwrap();
    let good = bits(&run.params.values);
    let weight = run.params.infos.iter().find(|info| info.name == "model.1.conv.weight").unwrap().range();
    run.params.values[weight.start] = f32::NAN;
    let mut log = Log::default();
    let error =
        (1..20).find_map(|i| run.train_step(&batch, i, &mut log, &NEVER).err()).expect("the run ends");
    let text = error.to_string();
    assert!(matches!(error, TrainError::Diverged { .. }) && text.contains("epoch 1, batch 1"), "{text}");
    assert_eq!(log.0.len(), MAX_BAD_BATCHES as usize);
    let (_, arenas) = state::restore(&checkpoint_path(&run.run_dir)).unwrap();
    assert!(bits(&arenas["params"]) == good);
}

#[test]
fn a_step_that_blows_the_weights_up_is_not_kept_and_names_the_first_that_did() {
    let data = drawn();
    let recipe = recipe(data.path(), "run", &[("optimizer", "SGD"), ("lr0", "1e39"), ("warmup_epochs", "0")]);
    let (mut run, batch) = begun(&recipe);
    run.save().unwrap();
    let good = bits(&run.params.values);
    let error = run.train_step(&batch, 0, &mut Silent, &NEVER).unwrap_err();
    assert!(
        matches!(&error, TrainError::WeightsNotFinite { tensor, .. } if tensor.contains("model.")),
        "{error}"
    );
    let (_, arenas) = state::restore(&checkpoint_path(&run.run_dir)).unwrap();
    assert!(bits(&arenas["params"]) == good && finite::all(&arenas["ema"]));
}

#[test]
fn a_checkpoint_with_a_weight_that_is_no_number_is_refused_by_name() {
    let data = drawn();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt/v8_4_190_mid.pt");
    let mut checkpoint = onsa_intake::checkpoint::read(&model).unwrap();
    let at = checkpoint.tensors.iter().position(|t| t.name == "model.1.conv.weight").unwrap();
    let mut values = checkpoint.tensors[at].to_f32();
    values[7] = f32::NAN;
    let shape = checkpoint.tensors[at].shape.clone();
    checkpoint.tensors[at] =
        onsa_intake::checkpoint::Tensor::from_f32("model.1.conv.weight", &shape, &values);
    let path = data.path().join("poisoned.safetensors");
    let file = onsa_intake::checkpoint::write_safetensors(&checkpoint.tensors, &checkpoint.meta).unwrap();
    std::fs::write(&path, file).unwrap();
    let recipe = recipe(data.path(), "run", &[("model", &path.display().to_string())]);
    let error = run_to_end(&recipe).unwrap_err().to_string();
    for word in ["poisoned.safetensors", "model.1.conv.weight", "1 of its", "not finite"] {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}
