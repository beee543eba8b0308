//! The proof of an export on the real YOLO12n and two photographs: a sound file passes, broken ones are caught.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use onsa_tune::boxes::Detection;
use onsa_tune::data::resize::resize_bilinear;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::Postprocess;
use onsa_tune::export::job::{ExportError, Format, Pictures, Precision, Request, export};
use onsa_tune::export::metadata;
use onsa_tune::export::network::Network;
use onsa_tune::export::onnx::{OnnxOptions, Suppression, encode};
use onsa_tune::export::proof::{Exported, OnnxFile, Original, Picture, Proof, ProofError, prove};
use onsa_tune::models::open::{Opened, find, open};
use onsa_tune::predict::View;
use onsa_tune::train::start::decoder;
use support::{asset, threads};

const SIDE: usize = 320;

fn opened() -> Option<Opened> {
    let source = find(asset("yolov12n.onnx")?.to_str().unwrap(), &[], true).unwrap();
    Some(open(&source, None, [SIDE, SIDE], true, 0).unwrap())
}

fn photos() -> Option<Vec<Picture>> {
    ["bus", "zidane"]
        .map(|name| {
            let path = asset(&format!("photos/{name}.jpg"))?;
            Some(Picture { image: decoder()(&path).unwrap().into(), name: path, truths: None })
        })
        .into_iter()
        .collect()
}

fn proof(opened: &Opened, file: &mut dyn Exported, rules: &Postprocess) -> Proof {
    let mut network = Inference::new(&opened.model, opened.params.clone(), threads(2));
    let tolerance = Precision::Float32.tolerance();
    let photos = photos().unwrap();
    let original = Original { network: &mut network, names: &opened.names, canvas: [SIDE, SIDE] };
    prove(original, file, &photos, rules, tolerance, |_, _| {}).unwrap()
}

fn file(
    opened: &Opened,
    params: &onsa_compute::Params,
    options: &OnnxOptions,
    rules: &Postprocess,
) -> OnnxFile {
    let entries = metadata::entries(opened, [SIDE, SIDE], 1);
    let bytes = encode(&opened.model, &Network::new(&opened.model.graph, params), &entries, options);
    OnnxFile::load(bytes, rules).unwrap()
}

#[test]
fn a_sound_file_does_what_the_model_does() {
    let (Some(opened), Some(_)) = (opened(), photos()) else { return };
    let suppression = Suppression { conf: 0.25, iou: 0.7, max_det: 300 };
    for (letterbox, suppression) in [(false, None), (true, Some(suppression))] {
        let rules = suppression.map_or_else(Postprocess::validation, |_| Postprocess::prediction());
        let options = OnnxOptions { letterbox, suppression, ..OnnxOptions::default() };
        let proof = proof(&opened, &mut file(&opened, &opened.params, &options, &rules), &rules);
        assert!(proof.ok, "{proof:?}");
        assert!(proof.boxes >= 6 && proof.agreement == 1.0, "{proof:?}");
        assert!(proof.max_box_difference < 0.02 && proof.max_score_difference < 1e-4, "{proof:?}");
    }
}

#[test]
fn classes_in_another_order_are_caught() {
    let (Some(opened), Some(_)) = (opened(), photos()) else { return };
    let mut swapped = opened.params.clone();
    for level in 0..3 {
        let logits = opened.model.logit_names(level).1;
        for part in ["weight", "bias"] {
            let i = swapped.find(&format!("{logits}.{part}")).unwrap();
            let mut values = swapped.get_torch(i);
            let row = values.len() / 80;
            // Person and bicycle change places, as after a sort of the names.
            let (first, rest) = values.split_at_mut(row);
            first.swap_with_slice(&mut rest[..row]);
            swapped.set_torch(i, &values);
        }
    }
    let rules = Postprocess::validation();
    let proof = proof(&opened, &mut file(&opened, &swapped, &OnnxOptions::default(), &rules), &rules);
    assert!(!proof.ok && proof.agreement < 0.9 && proof.map_difference > 0.1, "{proof:?}");
    assert!(proof.worst_image.is_some());
}

/// What an export's user does who stretches pictures to the network's size.
struct Stretching(OnnxFile);

impl Exported for Stretching {
    fn runtime(&self) -> &'static str {
        self.0.runtime()
    }

    fn names(&self) -> &[String] {
        self.0.names()
    }

    fn detect(&mut self, image: &View) -> Result<Vec<Detection>, ProofError> {
        let image = image.shown();
        let (x, y) = (image.width as f32 / SIDE as f32, image.height as f32 / SIDE as f32);
        let mut found = self.0.detect(&resize_bilinear(&image, SIDE, SIDE).into())?;
        for Detection { bbox: b, .. } in &mut found {
            (b.x1, b.y1, b.x2, b.y2) = (b.x1 * x, b.y1 * y, b.x2 * x, b.y2 * y);
        }
        Ok(found)
    }
}

#[test]
fn a_missing_letterbox_is_caught() {
    let (Some(opened), Some(_)) = (opened(), photos()) else { return };
    let rules = Postprocess::validation();
    let whole = file(&opened, &opened.params, &OnnxOptions::default(), &rules);
    let proof = proof(&opened, &mut Stretching(whole), &rules);
    assert!(!proof.ok && proof.max_box_difference > 3.0, "{proof:?}");
}

#[test]
fn a_file_that_fails_its_proof_does_not_take_its_place() {
    let (Some(opened), Some(photos)) = (opened(), photos()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("small.onnx");
    std::fs::write(&output, "the last good one").unwrap();
    let mut tolerance = Precision::Int8.tolerance();
    tolerance.box_pixels = Some(0.001);
    let request = Request {
        format: Format::Onnx,
        output: output.clone(),
        precision: Precision::Int8,
        dynamic: false,
        letterbox: false,
        suppression: None,
        tolerance,
        class_tolerance: Precision::Int8.class_tolerance(),
    };
    let worst = photos[0].name.clone();
    let (proof, calibration) = (photos[..1].to_vec(), photos[..1].to_vec());
    let pictures = Pictures { proof, calibration, ..Pictures::default() };
    let error = export(&opened, &request, &pictures, &threads(2), |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains(worst.to_str().unwrap()), "{error}");
    let ExportError::Unproved { proof, kept } = error else { panic!("{error}") };
    assert!(!proof.ok() && kept.is_file());
    assert_eq!(std::fs::read(&output).unwrap(), b"the last good one");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("export.json")).unwrap()).unwrap();
    assert_eq!(report["proof"]["ok"], false);
}
