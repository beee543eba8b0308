//! Exported classifiers in ONNX Runtime, LiteRT and PyTorch, against PyTorch's own logits (fixtures/classify) and against the
//! engine on the real EfficientNet-Lite0; broken exports are caught by their proof.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/python.rs"]
mod python;
mod support;

use std::path::Path;

use onsa_compute::Params;
use onsa_tune::data::raster::Rgb8;
use onsa_tune::engine::Inference;
use onsa_tune::export::calibrate::{Samples, calibrate};
use onsa_tune::export::job::{ExportError, Format, Pictures, Precision, Request, export};
use onsa_tune::export::metadata;
use onsa_tune::export::network::Network;
use onsa_tune::export::onnx::{self, Numbers, OnnxOptions};
use onsa_tune::export::proof::{
    ClassProof, Classifying, Interpreter, OnnxFile, Picture, Proved, prove_classes,
};
use onsa_tune::export::{tflite, torch};
use onsa_tune::models::Model;
use onsa_tune::models::open::{Opened, find, open};
use onsa_tune::predict::{View, middle_square};
use onsa_tune::train::loss::log_softmax;
use onsa_tune::train::start::decoder;
use python::{bytes, python, run, run_with};
use support::classifiers::classifiers;
use support::{Tensors, asset, largest_difference, path, threads, to_nhwc};

struct Tiny {
    name: &'static str,
    values: Tensors,
    model: Model,
    params: Params,
    network: Network,
}

fn tiny() -> impl Iterator<Item = Tiny> {
    classifiers().map(|fixture| {
        let params = fixture.params();
        let network = Network::new(&fixture.model.graph, &params);
        Tiny { name: fixture.name, values: fixture.values, model: fixture.model, params, network }
    })
}

impl Tiny {
    /// The images, 0 to 1, `[n, h, w, 3]`.
    fn images(&self) -> Vec<f32> {
        let (info, images) = self.values.get("images");
        to_nhwc(&info.shape, images)
    }

    /// PyTorch's probabilities.
    fn expected(&self) -> Vec<f32> {
        probabilities(&self.values.get("eval/logits").1, self.model.architecture.classes)
    }
}

fn probabilities(logits: &[f32], classes: usize) -> Vec<f32> {
    logits
        .chunks_exact(classes)
        .flat_map(|row| log_softmax(row).into_iter().map(|v| v.exp() as f32))
        .collect()
}

#[test]
fn onnx_files_give_pytorchs_probabilities() {
    let Some(python) = python("onnxruntime") else { return };
    for tiny in tiny() {
        let (info, images) = tiny.values.get("images");
        for (numbers, dynamic, limit) in
            [(Numbers::Float32, false, 2e-5), (Numbers::Float32, true, 2e-5), (Numbers::Float16, false, 0.02)]
        {
            let options = OnnxOptions { numbers, dynamic, ..OnnxOptions::default() };
            let file = onnx::encode(&tiny.model, &tiny.network, &[], &options);
            let ran = run("run_onnx.py", &python, &file, &bytes(images), "float32", &info.shape);
            let output = &ran.outputs["output0"];
            assert_eq!(output.shape, [info.shape[0], 5]);
            let off = largest_difference(&output.floats(), &tiny.expected());
            assert!(off < limit, "{} dynamic {dynamic}: {off}", tiny.name);
        }
    }
}

#[test]
fn litert_files_give_pytorchs_probabilities() {
    let Some(python) = python("ai_edge_litert.interpreter") else { return };
    for tiny in tiny() {
        let images = tiny.images();
        let ranges = calibrate(
            &tiny.model,
            &tiny.params,
            &tiny.network,
            Samples { images: std::slice::from_ref(&images), others: &[] },
            &threads(2),
            |_, _| {},
        );
        for (numbers, limit, apart) in [
            (Numbers::Float32, 2e-5, 1e-5),
            (Numbers::Float16, 0.02, 1e-5),
            // Random weights: what the rounding costs is for real ones to say, below.
            (Numbers::Int8(ranges), 1.0, 0.02),
        ] {
            let file = tflite::encode(&tiny.model, &tiny.network, &[], &numbers);
            let ran = run("run_tflite.py", &python, &file, &bytes(&images), "float32", &tiny.model.input);
            let output = ran.outputs["output0"].floats();
            let off = largest_difference(&output, &tiny.expected());
            let interpreter = Interpreter::load(&file, &threads(2)).unwrap();
            let own = largest_difference(&interpreter.run(images.clone()).unwrap().1, &output);
            println!("{}: {off} from PyTorch, {own} between the interpreters", tiny.name);
            assert!(off < limit, "{}: {off}", tiny.name);
            assert!(own < apart, "{}: the interpreters differ by {own}", tiny.name);
        }
    }
}

fn real() -> Option<(Opened, Vec<Picture>)> {
    let source = find(asset("efficientnet-lite0-57934424.pth")?.to_str().unwrap(), &[], true).unwrap();
    let opened = open(&source, None, [224, 224], true, 0).unwrap();
    let photos = ["bus", "zidane"].map(|name| {
        let path = asset(&format!("photos/{name}.jpg"))?;
        Some(Picture { image: decoder()(&path).unwrap().into(), name: path, truths: None })
    });
    Some((opened, photos.into_iter().collect::<Option<_>>()?))
}

fn engine(opened: &Opened, image: &View) -> Vec<f32> {
    let mut network = Inference::new(&opened.model, opened.params.clone(), threads(2));
    probabilities(network.logits([1, 224, 224], &image.centre(224)).unwrap(), 1000)
}

fn request(format: Format, precision: Precision, output: &Path) -> Request {
    Request {
        format,
        output: output.to_owned(),
        precision,
        dynamic: false,
        letterbox: false,
        suppression: None,
        tolerance: precision.tolerance(),
        class_tolerance: precision.class_tolerance(),
    }
}

fn proof(proof: &Proved) -> &ClassProof {
    match proof {
        Proved::Classes(proof) => proof,
        Proved::Boxes(_) => panic!("a classifier has no boxes"),
    }
}

#[test]
fn the_real_efficientnet_is_the_same_in_every_format() {
    let Some((opened, photos)) = real() else { return };
    let (onnx, litert) = (python("onnxruntime"), python("ai_edge_litert.interpreter"));
    let folder = tempfile::tempdir().unwrap();
    let pictures = Pictures { proof: photos.clone(), calibration: photos.clone(), ..Pictures::default() };
    for (format, precision, ending) in [
        (Format::Onnx, Precision::Float32, "onnx"),
        (Format::Onnx, Precision::Float16, "onnx"),
        (Format::Onnx, Precision::Int8, "onnx"),
        (Format::Tflite, Precision::Float32, "tflite"),
        (Format::Tflite, Precision::Float16, "tflite"),
        (Format::Tflite, Precision::Int8, "tflite"),
        (Format::Torch, Precision::Float32, "pt"),
        (Format::Safetensors, Precision::Float32, "safetensors"),
    ] {
        let output = folder.path().join(format!("lite0_{}.{ending}", precision.name()));
        let asked = request(format, precision, &output);
        let report = export(&opened, &asked, &pictures, &threads(2), |_, _, _| {}).unwrap();
        let proof = proof(&report.proof);
        println!("{} {}: {proof:?}", report.format, report.precision);
        assert!(proof.ok && proof.images == 2, "{proof:?}");
        assert!(precision == Precision::Int8 || proof.top1_agreement == 1.0, "{proof:?}");
        let limit = match precision {
            Precision::Float32 => 1e-4,
            Precision::Float16 => 0.01,
            Precision::Int8 => 0.1,
        };
        assert!(proof.max_score_difference < limit, "{proof:?}");

        let file = std::fs::read(&output).unwrap();
        for picture in &photos {
            let expected = engine(&opened, &picture.image);
            let square = picture.image.centre(224);
            let got = match format {
                Format::Onnx => {
                    let Some(python) = &onnx else { continue };
                    let planes: Vec<f32> =
                        (0..3).flat_map(|c| square.iter().skip(c).step_by(3)).copied().collect();
                    run("run_onnx.py", python, &file, &bytes(&planes), "float32", &[1, 3, 224, 224])
                }
                Format::Tflite => {
                    let Some(python) = &litert else { continue };
                    run("run_tflite.py", python, &file, &bytes(&square), "float32", &[1, 224, 224, 3])
                }
                Format::Torch | Format::Safetensors => continue,
            };
            let scores = got.outputs["output0"].floats();
            let off = largest_difference(&scores, &expected);
            println!("  in its own runtime: {off}");
            assert!(off < limit as f32, "{format:?} {precision:?}: {off}");
            let best = |s: &[f32]| (0..s.len()).max_by(|&a, &b| s[a].total_cmp(&s[b])).unwrap();
            let lost = expected[best(&expected)] - expected[best(&scores)];
            assert!(lost < 0.04, "{format:?} {precision:?}: another class, by {lost}");
        }
    }
}

#[test]
fn pictures_are_cut_in_the_graph_as_the_engine_cuts_them() {
    let Some(python) = python("onnxruntime") else { return };
    // A network that tells nothing but its input: what differs is the fitting alone.
    let tiny = tiny().find(|tiny| tiny.name == "mobilenet_v3_small").unwrap();
    let model = tiny.model.resized([1, 64, 64]).unwrap();
    let network = Network::new(&model.graph, &tiny.params);
    let file =
        onnx::encode(&model, &network, &[], &OnnxOptions { letterbox: true, ..OnnxOptions::default() });
    let plain = onnx::encode(&model, &network, &[], &OnnxOptions::default());
    for (width, height) in [(300, 140), (33, 57), (64, 64), (9, 70), (1000, 667), (65, 64), (640, 480)] {
        let data: Vec<u8> = (0..width * height * 3).map(|i| ((i * 7919 + i / 977) % 256) as u8).collect();
        let image = Rgb8::new(width, height, data.clone()).unwrap();
        let square = middle_square(&image, 64);
        let planes: Vec<f32> = (0..3).flat_map(|c| square.iter().skip(c).step_by(3)).copied().collect();
        let expected = run("run_onnx.py", &python, &plain, &bytes(&planes), "float32", &[1, 3, 64, 64]);
        let ran = run("run_onnx.py", &python, &file, &data, "uint8", &[height, width, 3]);
        let off = largest_difference(&ran.outputs["output0"].floats(), &expected.outputs["output0"].floats());
        println!("{width} x {height}: {off}");
        // A weight's last digit may fall to either side of a half: single bytes then differ by one.
        assert!(off < 2e-4, "{width} x {height}: {off}");
    }
}

#[test]
fn the_proof_covers_the_graph_that_takes_pictures() {
    let Some((opened, photos)) = real() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut asked = request(Format::Onnx, Precision::Float32, &folder.path().join("whole.onnx"));
    asked.letterbox = true;
    let pictures = Pictures { proof: photos.clone(), ..Pictures::default() };
    let report = export(&opened, &asked, &pictures, &threads(2), |_, _, _| {}).unwrap();
    let found = proof(&report.proof);
    assert!(found.ok && found.max_score_difference < 1e-3, "{found:?}");
    let Some(python) = python("onnxruntime") else { return };
    let file = std::fs::read(&asked.output).unwrap();
    for picture in &photos {
        let image = picture.image.shown();
        let ran = run("run_onnx.py", &python, &file, &image.data, "uint8", &[image.height, image.width, 3]);
        let off = largest_difference(&ran.outputs["output0"].floats(), &engine(&opened, &picture.image));
        assert!(off < 1e-3, "{}: {off}", picture.name.display());
        assert_eq!(ran.metadata["task"], "classify");
    }
}

/// A proof of a file against the real model.
fn proof_of(opened: &Opened, photos: &[Picture], file: &mut dyn Classifying) -> ClassProof {
    let mut network = Inference::new(&opened.model, opened.params.clone(), threads(2));
    let tolerance = Precision::Float32.class_tolerance();
    prove_classes((&mut network, &opened.names, 224), file, photos, tolerance, |_, _| {}).unwrap()
}

fn onnx_file(opened: &Opened, change: impl FnOnce(&mut Opened)) -> OnnxFile {
    let mut changed = opened.clone();
    change(&mut changed);
    let entries = metadata::entries(opened, [224, 224], 1);
    let network = Network::new(&changed.model.graph, &changed.params);
    let bytes = onnx::encode(&changed.model, &network, &entries, &OnnxOptions::default());
    OnnxFile::load(bytes, &onsa_tune::evaluate::Postprocess::validation()).unwrap()
}

#[test]
fn classes_in_another_order_are_caught() {
    let Some((opened, photos)) = real() else { return };
    assert!(proof_of(&opened, &photos, &mut onnx_file(&opened, |_| {})).ok);
    let mut swapped = onnx_file(&opened, |opened| {
        for part in ["weight", "bias"] {
            let i = opened.params.find(&format!("_fc.{part}")).unwrap();
            let mut values = opened.params.get_torch(i);
            // All classes one further, as with a background class.
            let row = values.len() / 1000;
            values.rotate_right(row);
            opened.params.set_torch(i, &values);
        }
    });
    let proof = proof_of(&opened, &photos, &mut swapped);
    assert!(!proof.ok && proof.top1_agreement == 0.0, "{proof:?}");
    assert!(proof.worst_image.is_some());
}

#[test]
fn missing_means_and_deviations_are_caught() {
    let Some((opened, photos)) = real() else { return };
    // What a user does who feeds values from 0 to 255.
    struct Unscaled(OnnxFile);
    impl Classifying for Unscaled {
        fn runtime(&self) -> &'static str {
            "test"
        }
        fn names(&self) -> &[String] {
            Classifying::names(&self.0)
        }
        fn scores(&mut self, image: &View) -> Result<Vec<f32>, onsa_tune::export::proof::ProofError> {
            // As if the graph divided by the deviations alone: darker by their means.
            let mut shifted = (*image.shown()).clone();
            shifted.data.iter_mut().for_each(|v| *v = v.saturating_add(127));
            self.0.scores(&shifted.into())
        }
    }
    let proof = proof_of(&opened, &photos, &mut Unscaled(onnx_file(&opened, |_| {})));
    assert!(!proof.ok && proof.max_score_difference > 0.01, "{proof:?}");
}

#[test]
fn a_classifier_that_fails_its_proof_names_the_worst_picture() {
    let Some((opened, photos)) = real() else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("lite0.onnx");
    let mut asked = request(Format::Onnx, Precision::Int8, &output);
    asked.class_tolerance.score = Some(1e-6);
    let worst = photos[0].name.clone();
    let (proof, calibration) = (photos[..1].to_vec(), photos[..1].to_vec());
    let pictures = Pictures { proof, calibration, ..Pictures::default() };
    let error = export(&opened, &asked, &pictures, &threads(2), |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains(worst.to_str().unwrap()), "{error}");
    let ExportError::Unproved { proof, kept } = error else { panic!("{error}") };
    assert!(!proof.ok() && kept.is_file() && !output.exists());
}

#[test]
fn pytorch_takes_the_weights_whole() {
    for tiny in tiny() {
        let file = torch::encode(&torch::state_dict(&tiny.model, &tiny.params)).unwrap();
        let source = path(&format!("classify/{}_tiny.weights.safetensors", tiny.name));
        let original = Tensors::read_file(&format!("classify/{}_tiny.weights.safetensors", tiny.name));
        let read = onsa_intake::checkpoint::read_bytes(&file).unwrap();
        for (info, values) in &original.0 {
            let tensor = read.tensors.iter().find(|t| t.name == info.name).unwrap();
            assert_eq!((&tensor.shape, &tensor.to_f32()), (&info.shape, values), "{}", info.name);
        }
        let Some(python) = python::reference() else { continue };
        let (info, images) = tiny.values.get("images");
        let ran = run_with(
            "run_torch_classify.py",
            &python,
            &file,
            &bytes(images),
            "float32",
            &info.shape,
            &[source.to_str().unwrap(), "", tiny.name],
        );
        let off = largest_difference(&ran.outputs["output0"].floats(), &tiny.expected());
        assert!(off < 1e-4, "{}: {off}", tiny.name);
    }
}
