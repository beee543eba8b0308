//! The zoo's outputs against the reference's (fixtures/models/*_tiny.*, made by fixtures/export_models.py), on the CPU.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use onsa_compute::{Executor, Mode, Params, Plan, Trainable};
use onsa_tune::models::norm::{NormStatistics, calibrate};
use onsa_tune::models::{Architecture, Model, TensorInfo, WeightSource, identify, load};

mod support;
use support::{FAMILIES, Fixture, Tensors, largest_difference, threads, to_nhwc};

/// Largest difference of an output: the reference computed in float64.
const TOLERANCE: f32 = 1e-4;

/// Runs one forward pass and gives the executor back for what it knows.
fn forward(model: &Model, params: &Params, mode: Mode, images: &[f32]) -> (Executor, Vec<Vec<f32>>) {
    let trainable = match mode {
        Mode::Training => Trainable::all(&model.graph),
        _ => Trainable::nothing(&model.graph),
    };
    let mut executor = Executor::new(Arc::new(Plan::new(&model.graph, mode, &trainable)), threads(2));
    executor.prepare(params);
    executor.input_mut(0).copy_from_slice(images);
    executor.forward();
    let outputs = (0..model.levels.len()).map(|level| executor.output(level).to_vec()).collect();
    (executor, outputs)
}

fn assert_outputs(fixture: &Fixture, mode: &str, outputs: &[Vec<f32>]) {
    for (level, output) in outputs.iter().enumerate() {
        let (info, expected) = fixture.values.get(&format!("{mode}/level{level}"));
        let difference = largest_difference(output, &to_nhwc(&info.shape, expected));
        // Batch statistics over a dozen positions amplify rounding (the reference's own float32 pass is off by up to
        // 7e-5): there the largest logit, about 14, sets the measure.
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let allowed = if mode == "train" { 0.1 * TOLERANCE * largest } else { TOLERANCE };
        assert!(difference <= allowed, "{} {mode} level {level}: {difference}", fixture.json["family"]);
    }
}

#[test]
fn the_description_and_the_tensors_alone_give_the_same_network() {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let described = fixture.architecture();
        assert_eq!(described.family, family);
        assert_eq!(described.classes, 5);
        let scale = &fixture.json["scale"];
        assert_eq!(described.scaling.width, scale["width"].as_f64().unwrap());
        assert_eq!(described.scaling.depth, scale["depth"].as_f64().unwrap());
        let measured = identify::from_tensors(&fixture.weights.tensors()).unwrap();
        let parameters = |a: &Architecture| Model::build(a, [1, 64, 64]).unwrap().graph.params().to_vec();
        assert_eq!(parameters(&measured), parameters(&described), "{family:?}");
    }
}

#[test]
fn inference_equals_the_reference() {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let model = fixture.model();
        let params = load(&model, &fixture.weights, &fixture.classes(), 0).unwrap();
        let (_, outputs) = forward(&model, &params, Mode::Inference, &fixture.images());
        assert_outputs(&fixture, "eval", &outputs);
    }
}

#[test]
fn training_mode_and_the_running_statistics_equal_the_reference() {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let model = fixture.model();
        let mut params = load(&model, &fixture.weights, &fixture.classes(), 0).unwrap();
        let (executor, outputs) = forward(&model, &params, Mode::Training, &fixture.images());
        assert_outputs(&fixture, "train", &outputs);
        executor.update_running(&mut params);
        let mut compared = 0;
        for (i, info) in params.infos.iter().enumerate().filter(|(_, info)| info.name.contains("running_")) {
            let (_, expected) = fixture.values.get(&format!("train/after/{}", info.name));
            let difference = largest_difference(params.get(i), expected);
            let size = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            assert!(difference <= TOLERANCE * size, "{family:?} {}: {difference}", info.name);
            compared += 1;
        }
        assert_eq!(compared, 2 * model.norm_names().len());
    }
}

/// The checkpoint as an exporter writes it: norms folded into the convolutions.
fn folded(weights: &Tensors) -> Tensors {
    let mut out = vec![];
    for (info, values) in &weights.0 {
        let Some(module) = info.name.strip_suffix(".conv.weight").filter(|_| !info.name.contains("dfl"))
        else {
            if !info.name.contains(".bn.") {
                out.push((info.clone(), values.clone()));
            }
            continue;
        };
        let norm = |part: &str| &weights.get(&format!("{module}.bn.{part}")).1;
        let (gamma, beta, mean, var) =
            (norm("weight"), norm("bias"), norm("running_mean"), norm("running_var"));
        let factors: Vec<f32> = gamma.iter().zip(var).map(|(g, v)| g / (v + 1e-3).sqrt()).collect();
        let row = values.len() / factors.len();
        let weight = values.iter().enumerate().map(|(i, v)| v * factors[i / row]).collect();
        let bias: Vec<f32> = (0..factors.len()).map(|c| beta[c] - mean[c] * factors[c]).collect();
        let bias_info = TensorInfo { name: format!("{module}.conv.bias"), shape: vec![bias.len()] };
        out.push((info.clone(), weight));
        out.push((bias_info, bias));
    }
    Tensors(out)
}

#[test]
fn folded_norms_are_calibrated_without_changing_the_network() {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let model = fixture.model();
        let images = fixture.images();
        let folded = folded(&fixture.weights);
        assert_eq!(identify::from_tensors(&folded.tensors()).unwrap().classes, 5);
        let mut params = load(&model, &folded, &fixture.classes(), 0).unwrap();
        let (executor, outputs) = forward(&model, &params, Mode::Calibration, &images);
        assert_outputs(&fixture, "eval", &outputs);

        let statistics: Vec<NormStatistics> = executor
            .norm_statistics()
            .map(|(name, mean, var)| NormStatistics {
                name: name.into(),
                mean: mean.to_vec(),
                var: var.to_vec(),
            })
            .collect();
        let mut named: Vec<&str> = statistics.iter().map(|s| s.name.as_str()).collect();
        let mut norms = model.norm_names();
        named.sort_unstable();
        norms.sort_unstable();
        assert_eq!(named, norms);
        calibrate(&mut params, &statistics).unwrap();
        let (_, outputs) = forward(&model, &params, Mode::Inference, &images);
        assert_outputs(&fixture, "eval", &outputs);
        // The batch's statistics are now the running ones: training mode starts where inference is.
        let (_, outputs) = forward(&model, &params, Mode::Training, &images);
        assert_outputs(&fixture, "eval", &outputs);
    }
}
