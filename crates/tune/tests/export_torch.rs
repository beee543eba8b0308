//! Exported weights in the reference's own model: loaded strictly, with the same output.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/python.rs"]
mod python;
mod support;

use onsa_tune::export::job::{Format, Pictures, Precision, Request, export};
use onsa_tune::export::pictures::drawn;
use onsa_tune::models::open::{find, open};
use python::{bytes, run_with};
use support::{FAMILIES, Fixture, path, threads};

#[test]
fn the_reference_takes_the_weights_whole() {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let file = path(&format!("models/{}n_tiny.weights.safetensors", family.name()));
        let source = find(file.to_str().unwrap(), &[], true).unwrap();
        let opened = open(&source, None, [64, 96], true, 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (format, ending) in [(Format::Torch, "pt"), (Format::Safetensors, "safetensors")] {
            let output = folder.path().join(format!("out.{ending}"));
            let request = Request {
                format,
                output: output.clone(),
                precision: Precision::Float32,
                dynamic: false,
                letterbox: false,
                suppression: None,
                tolerance: Precision::Float32.tolerance(),
                class_tolerance: Precision::Float32.class_tolerance(),
            };
            let pictures = Pictures { proof: drawn(1, 3), ..Pictures::default() };
            let report = export(&opened, &request, &pictures, &threads(2), |_, _, _| {}).unwrap();
            assert!(report.proof.ok(), "{:?}", report.proof);

            // In CI the file is read back by our own reader alone: torch is a download of gigabytes.
            let Some(python) = python::reference() else { continue };
            let (info, images) = fixture.values.get("images");
            let weights = std::fs::read(&output).unwrap();
            let description = fixture.json["yaml"].to_string();
            let ran = run_with(
                "run_torch.py",
                &python,
                &weights,
                &bytes(images),
                "float32",
                &info.shape,
                &[&description],
            );
            let expected = &fixture.values.get("eval/decoded").1;
            let got = ran.outputs["output0"].floats();
            let most = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert_eq!(got.len(), expected.len());
            assert!(most < 1e-3, "{family:?} as {ending}: {most}");
        }
    }
}
