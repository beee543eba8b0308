//! The gradient of every parameter against the reference's (fixtures/models), which computed in float64.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use onsa_compute::Trainable;
use onsa_tune::engine::TrainStep;
use onsa_tune::models::load;
use onsa_tune::train::loss::LossConfig;

mod support;
use support::{FAMILIES, Fixture, batch, distance, norm, sampled, threads};

/// Largest error of a parameter's gradient, as a share of the gradient's length.
const TOLERANCE: f64 = 1e-3;

#[test]
fn every_parameters_gradient_and_every_loss_term_equal_the_reference() {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let model = fixture.model();
        let start = load(&model, &fixture.weights, &fixture.classes(), 0).unwrap();
        let (pictures, images) = fixture.values.get("images");
        let config = LossConfig::new(fixture.json["nc"].as_u64().unwrap() as usize);
        for case in ["full", "one_empty", "none"] {
            let targets = fixture.values.find(&format!("{case}/targets")).map_or(&[][..], |(_, rows)| rows);
            let batch = batch(&pictures.shape, images, targets);
            let mut params = start.clone();
            let mut grads = vec![f32::NAN; params.values.len()];
            let trainable = Trainable::all(&model.graph);
            let mut step = TrainStep::new(&model, trainable, config.clone(), threads(2));
            let items = step.run(&batch, &mut params, &mut grads).unwrap();

            let expected = &fixture.json["cases"][case]["with_gains"];
            for (name, got) in [("box", items.box_), ("cls", items.cls), ("dfl", items.dfl)] {
                let want = expected[name].as_f64().unwrap();
                assert!(
                    (got - want).abs() <= 1e-4 * want.abs().max(1e-9),
                    "{family:?} {case} {name}: {got}, not {want}"
                );
            }
            // A shift that a later norm takes away has the gradient 0, which float32 meets to its own precision of the
            // network's largest gradient.
            let lengths = fixture.json["cases"][case]["grad_norm"].as_object().unwrap();
            let largest = lengths.values().map(|v| v.as_f64().unwrap()).fold(0.0, f64::max);
            let vanishing = f64::from(f32::EPSILON) * largest;
            let mut compared = 0;
            for info in model.graph.params() {
                let Some((_, want)) = fixture.values.find(&format!("{case}/grad/{}", info.name)) else {
                    continue;
                };
                let sample = fixture.json["grad_step"][case][&info.name].as_u64().unwrap() as usize;
                let error = distance(&sampled(info, &grads, sample), want);
                let length = norm(want);
                assert!(
                    error <= TOLERANCE * length + vanishing,
                    "{family:?} {case} {}: {error} of {length}",
                    info.name
                );
                compared += 1;
            }
            let trained = model.graph.params().iter().filter(|p| !p.name.contains("running_")).count();
            assert_eq!(compared, trained, "{family:?} {case}");
        }
    }
}
