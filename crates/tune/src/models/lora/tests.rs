//! Adapters beside PyTorch's, and in the zoo's networks.

use std::sync::Arc;

use onsa_compute::graph::{Activation, Conv, Graph};
use onsa_compute::plan::Step;
use onsa_compute::{Executor, Mode, Plan, Trainable};

use super::*;
use crate::models::{Architecture, Family, Scale, init_fresh};
use crate::train::fixture::Tensors;

fn pool() -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap())
}

/// The fixture's network, without adapters.
fn small() -> Graph {
    let conv = |name: &str, out, kernel, step, pad, bias| Conv {
        name: name.into(),
        out,
        kernel: (kernel, kernel),
        stride: (step, step),
        pad: [pad; 4],
        groups: 1,
        bias,
    };
    let mut graph = Graph::new();
    let x = graph.input("x", [2, 9, 8, 3]);
    let y = graph.conv2d(x, conv("one", 6, 3, 2, 1, true));
    let y = graph.activation(y, Activation::Relu);
    let y = graph.conv2d(y, conv("two", 5, 1, 1, 0, false));
    let y = graph.activation(y, Activation::Relu);
    let y = graph.global_avg_pool(y);
    let y = graph.linear(y, "fc", 4, true);
    graph.output("y", y);
    graph
}

/// As sums of a few dozen float32 products allow.
fn close(got: &[f32], want: &[f32], what: &str) {
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 2e-6 * largest.max(1.0), "{what}[{i}]: {g}, PyTorch {w}");
    }
}

#[test]
fn forward_gradients_and_merged_weights_are_pytorchs() {
    let file = Tensors::open("lora/adapters.safetensors");
    let model = Model {
        graph: small(),
        ..Model::build(&Architecture::published(Family::Yolo11, Scale::N, 1), [1, 32, 32]).unwrap()
    };
    let layers = ["one", "two", "fc"].map(String::from).into();
    let adapted = model.adapted(&LowRank { rank: 2, alpha: 3.0, layers });
    let mut params = adapted.adapt(&model.blank_params(), 0);
    for i in 0..params.infos.len() {
        if !params.infos[i].name.ends_with("lora_scale") {
            params.set_torch(i, &file.f32(&params.infos[i].name.clone()));
        }
    }
    let learns = |name: &str| is_adapter(name) || name == "fc.bias";
    let trainable = Trainable {
        params: adapted.graph.params().iter().map(|info| learns(&info.name)).collect(),
        frozen_norms: Default::default(),
    };
    let plan = Arc::new(Plan::new(&adapted.graph, Mode::Training, &trainable));
    let mut executor = Executor::new(Arc::clone(&plan), pool());
    executor.prepare(&params);
    executor.input_mut(0).copy_from_slice(&file.f32("x"));
    executor.forward();
    close(executor.output(0), &file.f32("y"), "y");
    let mut grads = vec![0.0; params.values.len()];
    {
        let (_, mut gradients) = executor.outputs_and_grads();
        gradients[0].copy_from_slice(&file.f32("pull"));
    }
    executor.backward(&mut grads);
    for info in adapted.graph.params() {
        let got = info.to_torch(&grads[info.range()]);
        match learns(&info.name) {
            true => close(&got, &file.f32(&format!("grad.{}", info.name)), &info.name),
            false => assert!(got.iter().all(|&g| g == 0.0), "{} is frozen", info.name),
        }
    }
    let merged =
        Params { infos: model.graph.params().to_vec(), values: adapted.merged(&params.values).into_owned() };
    for layer in ["one", "two", "fc"] {
        let name = format!("{layer}.weight");
        let got = merged.get_torch(merged.find(&name).unwrap());
        close(&got, &file.f32(&format!("merged.{name}")), &name);
    }
    // The sum's gradient is read where it lies: nothing is copied for the two that were added.
    let copies = plan.steps[plan.backward_start..].iter().filter(|s| matches!(s, Step::Copy { .. })).count();
    assert_eq!(copies, 0);
}

#[test]
fn a_network_with_adapters_starts_unchanged_and_merges_to_what_it_does() {
    for (architecture, side) in [
        (Architecture::published(Family::Yolo12, Scale::N, 3), 64),
        (Architecture::published_classifier(Family::EfficientNetLite, Scale::N, 3), 32),
    ] {
        let model = Model::build(&architecture, [2, side, side]).unwrap();
        let low_rank = LowRank::beside(&model, 4, 8.0, |_| true);
        let adapted = model.adapted(&low_rank);
        assert!(low_rank.layers.len() > 20, "{}", low_rank.layers.len());
        let plain = init_fresh(&model, 5);
        let mut params = adapted.adapt(&plain, 9);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&adapted.merged(&params.values)),
            bits(&plain.values),
            "nothing learned, no bit changed"
        );
        let run = |model: &Model, params: &Params| -> Vec<f32> {
            let plan = Plan::new(&model.graph, Mode::Inference, &Trainable::nothing(&model.graph));
            let mut executor = Executor::new(Arc::new(plan), pool());
            executor.prepare(params);
            let input = executor.input_mut(0);
            input.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 37) % 101) as f32 / 101.0);
            executor.forward();
            (0..model.levels.len().max(1)).flat_map(|i| executor.output(i).to_vec()).collect()
        };
        let before = run(&model, &plain);
        let apart = |a: &[f32], b: &[f32]| {
            let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
        };
        // The folded norms of the plain network round otherwise.
        assert!(apart(&before, &run(&adapted, &params)) < 1e-4);
        for adapter in &adapted.adapters {
            let info = &params.infos[adapter.b.index()];
            let fresh = uniform(3, &info.name, info.len, 0.05);
            params.set_torch(adapter.b.index(), &fresh);
        }
        let after = run(&adapted, &params);
        let merged =
            Params { infos: plain.infos.clone(), values: adapted.merged(&params.values).into_owned() };
        for adapter in &adapted.adapters {
            let place = plain.infos[adapter.weight.index()].range();
            assert_ne!(bits(&merged.values[place.clone()]), bits(&plain.values[place]), "it is taken in");
        }
        let apart = apart(&after, &run(&model, &merged));
        assert!(apart < 1e-4, "{apart}");
    }
}

#[test]
fn only_adapters_and_logits_have_gradients_and_thin_layers_no_adapter() {
    let model = Model::build(&Architecture::published(Family::Yolo11, Scale::N, 2), [1, 32, 32]).unwrap();
    let low_rank = LowRank::beside(&model, 8, 16.0, |name| !name.starts_with("model.0."));
    assert!(!low_rank.layers.contains("model.0.conv"), "left out");
    assert!(
        !low_rank.layers.iter().any(|layer| layer.ends_with(".cv2.0.2")),
        "logits are trained themselves"
    );
    // 16 to 16 channels: 256 weights, and as many values of an adapter.
    assert!(!low_rank.layers.contains("model.2.m.0.cv0") && low_rank.layers.contains("model.1.conv"));
    let adapted = model.resized([1, 64, 64]).unwrap().adapted(&low_rank);
    assert_eq!(adapted.graph.params(), model.adapted(&low_rank).resized([2, 64, 96]).unwrap().graph.params());
    let added: usize = adapted.adapter_count();
    assert!(added * 4 < model.parameter_count(), "{added} of {}", model.parameter_count());
}
