//! The classifiers against PyTorch's (fixtures/classify, made by fixtures/export_classify.py, which computed in float64):
//! logits, loss, every gradient, running statistics; the published networks' parameters; the real EfficientNet-Lite0 on two
//! photographs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use onsa_compute::Trainable;
use onsa_tune::data::batch::{Batch, Target};
use onsa_tune::data::classify::label_of;
use onsa_tune::engine::{Inference, TrainStep};
use onsa_tune::models::{ClassMap, Model, TensorInfo, identify, load, open, registry};
use onsa_tune::train::loss::LossConfig;
use sha2::{Digest, Sha256};

mod support;
use support::classifiers::{Classifier, classifiers};
use support::{Tensors, distance, json, largest_difference, norm, sampled, threads, to_nhwc};

fn batch(f: &Classifier) -> Batch {
    let (info, images) = f.values.get("images");
    let targets = &f.values.get("targets").1;
    let target = |(i, &class): (usize, &f32)| Target { image: i as u32, label: label_of(class as u32) };
    Batch {
        n: info.shape[0],
        h: info.shape[2],
        w: info.shape[3],
        images: to_nhwc(&info.shape, images),
        targets: targets.iter().enumerate().map(target).collect(),
        items: (0..info.shape[0]).collect(),
        ..Batch::default()
    }
}

#[test]
fn logits_equal_pytorchs() {
    for f in classifiers() {
        let params = f.params();
        let batch = batch(&f);
        let mut network = Inference::new(&f.model, params, threads(2));
        let logits = network.logits([batch.n, batch.h, batch.w], &batch.images).unwrap();
        let expected = &f.values.get("eval/logits").1;
        let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let difference = largest_difference(logits, expected);
        assert!(difference <= 1e-4 * scale, "{}: {difference} of {scale}", f.name);
    }
}

#[test]
fn loss_gradients_and_running_statistics_equal_pytorchs() {
    for f in classifiers() {
        let mut params = f.params();
        let mut grads = vec![f32::NAN; params.values.len()];
        let mut step =
            TrainStep::new(&f.model, Trainable::all(&f.model.graph), LossConfig::new(5), threads(2));
        let items = step.run(&batch(&f), &mut params, &mut grads).unwrap();
        let loss = f.json["loss"].as_f64().unwrap();
        assert!((items.cls - loss).abs() <= 1e-4 * loss, "{}: {} {loss}", f.name, items.cls);

        let lengths = f.json["grad_norm"].as_object().unwrap();
        let largest = lengths.values().map(|v| v.as_f64().unwrap()).fold(0.0, f64::max);
        let vanishing = f64::from(f32::EPSILON) * largest;
        let (mut trained, mut statistics) = (0, 0);
        for (i, info) in f.model.graph.params().iter().enumerate() {
            if info.role.is_trained() {
                let want = &f.values.get(&format!("grad/{}", info.name)).1;
                let sample = f.json["grad_step"][&info.name].as_u64().unwrap() as usize;
                let error = distance(&sampled(info, &grads, sample), want);
                assert!(
                    error <= 1e-3 * norm(want) + vanishing,
                    "{} {}: {error} of {}",
                    f.name,
                    info.name,
                    norm(want)
                );
                trained += 1;
            } else {
                let want = &f.values.get(&format!("after/{}", info.name)).1;
                let step = info.len.div_ceil(want.len());
                let got: Vec<f32> = params.get(i).to_vec();
                // Sampled as gradients are, by a prime near the quotient: the length tells it.
                let step = (step.max(1)..).find(|s| got.iter().step_by(*s).count() == want.len()).unwrap();
                let got: Vec<f32> = got.into_iter().step_by(step).collect();
                if step == 1 {
                    let size = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
                    assert!(largest_difference(&got, want) <= 1e-4 * size, "{} {}", f.name, info.name);
                    statistics += 1;
                }
            }
        }
        assert_eq!(trained, lengths.len(), "{}", f.name);
        assert!(statistics > 10, "{}", f.name);
    }
}

fn tensors(model: &Model) -> Vec<TensorInfo> {
    let infos = model.graph.params().iter();
    infos.map(|p| TensorInfo { name: p.name.clone(), shape: p.shape.clone() }).collect()
}

#[test]
fn the_published_networks_have_their_parameters() {
    let expected = json("classify/published.json");
    for spec in registry::classifiers() {
        let model = Model::build(&spec.architecture(1000), [1, 64, 64]).unwrap();
        let want = &expected[&spec.name];
        assert_eq!(model.parameter_count() as u64, want["parameters"].as_u64().unwrap(), "{}", spec.name);
        let shape = |s: &[usize]| s.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let mut lines: Vec<String> =
            tensors(&model).iter().map(|t| format!("{} {}", t.name, shape(&t.shape))).collect();
        lines.sort();
        let hash: String = Sha256::digest(lines.join("\n")).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, want["sha256"].as_str().unwrap(), "{}", spec.name);
        if let Some(published) = spec.published {
            let millions = model.parameter_count() as f64 / 1e6;
            assert!((millions - published.parameters).abs() < 0.06, "{}: {millions} M", spec.name);
        }
    }
}

#[test]
fn every_classifier_is_recognised_by_its_tensors_and_by_its_description() {
    for spec in registry::classifiers() {
        let model = Model::build(&spec.architecture(7), [1, 64, 64]).unwrap();
        let found = identify::from_tensors(&tensors(&model)).unwrap();
        assert_eq!(found.name(), spec.name);
        assert_eq!(tensors(&Model::build(&found, [1, 64, 64]).unwrap()), tensors(&model), "{}", spec.name);
        assert_eq!(
            identify::from_description(&model.architecture.description()).unwrap(),
            model.architecture
        );
        let wrapped: Vec<TensorInfo> = tensors(&model)
            .into_iter()
            .map(|t| TensorInfo { name: format!("module.{}", t.name), ..t })
            .collect();
        assert_eq!(identify::from_tensors(&wrapped).unwrap().name(), spec.name, "inside a wrapper");
    }
}

#[test]
fn a_new_head_keeps_the_rows_of_classes_with_the_same_name() {
    let model =
        Model::build(&registry::find("mobilenet_v3_small").unwrap().architecture(3), [1, 64, 64]).unwrap();
    let params = onsa_tune::models::init_fresh(&model, 5);
    let held = Tensors(
        tensors(&model).into_iter().enumerate().map(|(i, info)| (info, params.get_torch(i))).collect(),
    );
    let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let map = ClassMap::by_name(Some(&names(&["cat", "dog", "fox"])), 3, &names(&["Fox", "owl"]));
    let two = Model::build(&model.architecture.with_classes(2), [1, 64, 64]).unwrap();
    let moved = load(&two, &held, &map, 9).unwrap();
    let row = |params: &onsa_compute::Params, i: usize| {
        let weight = params.get_torch(params.find("classifier.3.weight").unwrap());
        weight[i * 1024..(i + 1) * 1024].to_vec()
    };
    assert_eq!(row(&moved, 0), row(&params, 2));
    assert_ne!(row(&moved, 1), row(&params, 1));
}

#[test]
fn the_real_efficientnet_lite0_sees_two_photographs_as_pytorch_does() {
    let assets = std::env::var_os("ONSA_ASSETS").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/onsa/assets")
    });
    let file = assets.join("efficientnet-lite0-57934424.pth");
    if !file.is_file() {
        assert!(
            std::env::var_os("CI").is_none(),
            "no weights in {}: run `onsa demo --fetch-only`",
            assets.display()
        );
        eprintln!("skipped: no weights in {}", assets.display());
        return;
    }
    let expected = json("classify/efficientnet_lite0_real.json");
    let values = Tensors::read_file("classify/efficientnet_lite0_real.safetensors");
    let source = open::find("efficientnet_lite0", std::slice::from_ref(&assets), true).unwrap();
    let opened = open::open(&source, None, [224, 224], true, 0).unwrap();
    assert_eq!(opened.names.len(), 1000);
    let weights = opened.weights.unwrap();
    assert_eq!(
        (weights.sha256.as_str(), weights.licence.as_str()),
        (expected["weights"].as_str().unwrap(), "Apache-2.0")
    );
    let mut network = Inference::new(&opened.model, opened.params, threads(2));
    for name in ["bus", "zidane"] {
        let photo = image::open(assets.join(format!("photos/{name}.jpg"))).unwrap().to_rgb8();
        let (left, top) = ((photo.width() - 672) / 2, (photo.height() - 672) / 2);
        let crop: Vec<u8> = (0..224 * 224)
            .flat_map(|i| photo.get_pixel(left + 3 * (i % 224), top + 3 * (i / 224)).0)
            .collect();
        let hash: String = Sha256::digest(&crop).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, expected["photos"][name]["sha256"].as_str().unwrap(), "{name}: other pixels");
        let input: Vec<f32> = crop.iter().map(|&v| f32::from(v) / 255.0).collect();
        let logits = network.logits([1, 224, 224], &input).unwrap();
        let difference = largest_difference(logits, &values.get(&format!("{name}/logits")).1);
        assert!(difference <= 1e-4, "{name}: {difference}");
        let top = (0..1000).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(top as u64, expected["photos"][name]["top"].as_u64().unwrap());
    }
}
