//! Twenty steps of each optimiser on fixed batches against the reference's (fixtures/train/steps_*).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use onsa_compute::Trainable;
use onsa_tune::engine::TrainStep;
use onsa_tune::models::load;
use onsa_tune::train::clip::clip_global_norm;
use onsa_tune::train::loss::LossConfig;
use onsa_tune::train::optimiser::{Kind, Optimiser};
use onsa_tune::train::schedule::Rates;
use onsa_tune::train::slots::slots;

mod support;
use support::{FAMILIES, Fixture, Tensors, batch, distance, json, norm, parameter, threads};

#[test]
fn twenty_steps_lose_what_the_reference_loses() {
    let mut kinds = vec![];
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let name = format!("train/steps_{}n", family.name());
        let (document, values) =
            (json(&format!("{name}.json")), Tensors::read_file(&format!("{name}.safetensors")));
        for (key, run) in document["runs"].as_object().unwrap() {
            let number = |field: &str| run[field].as_f64().unwrap();
            let kind = Kind::from_name(run["name"].as_str().unwrap()).unwrap();
            kinds.push(kind.name());
            let model = fixture.model();
            let trainable = Trainable::all(&model.graph);
            let mut params = load(&model, &fixture.weights, &fixture.classes(), 0).unwrap();
            let slots = slots(&model, &trainable.params, kind);
            let mut optimiser =
                Optimiser::new(kind, number("momentum"), params.values.len(), &slots).unwrap();
            let rates = Rates::constant(number("lr"), number("momentum"), number("decay"));
            let config = LossConfig::new(fixture.json["nc"].as_u64().unwrap() as usize);
            let mut step = TrainStep::new(&model, trainable, config, threads(2));
            let mut grads = vec![0.0; params.values.len()];
            let losses = run["losses"].as_array().unwrap();
            assert_eq!(losses.len(), 20);
            for (k, expected) in losses.iter().enumerate() {
                let (info, bytes) = values.get(&format!("batch{}/images", k % 4));
                let pictures: Vec<f32> = bytes.iter().map(|v| v / 255.0).collect();
                let batch = batch(&info.shape, &pictures, &values.get(&format!("batch{}/targets", k % 4)).1);
                let items = step.run(&batch, &mut params, &mut grads).unwrap();
                let total = (items.box_ + items.cls + items.dfl) * batch.n as f64;
                let want = expected["total"].as_f64().unwrap();
                assert!(
                    (total - want).abs() <= 0.01 * want,
                    "{family:?} {key} step {k}: {total}, not {want}"
                );
                clip_global_norm(&mut grads, optimiser.slots(), document["clip_norm"].as_f64().unwrap())
                    .unwrap();
                optimiser.step(&mut params.values, &grads, &rates);
            }
            // Where the network has come to. Adam turns gradients that vanish but for rounding into steps of full size, so
            // single shifts may stray; the whole may not.
            let (mut error, mut length, mut compared) = (0.0f64, 0.0f64, 0);
            for (tensor, sample) in run["step"].as_object().unwrap() {
                let sample = sample.as_u64().unwrap() as usize;
                let want = &values.get(&format!("{key}/after/{tensor}")).1;
                error = error.hypot(distance(&parameter(&params, tensor, sample), want));
                length = length.hypot(norm(want));
                compared += 1;
            }
            assert!(error <= 0.002 * length, "{family:?} {key}: {error} of {length}");
            assert!(compared >= model.graph.params().len(), "{compared}");
        }
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["AdamW", "AdamW", "AdamW", "MuSGD", "SGD"]);
}
