//! Checkpoints that four releases of the reference wrote (fixtures/pt): nothing is missing, and the output is theirs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use onsa_tune::engine::Inference;
use onsa_tune::models::open::{find, open};

mod support;
use support::{Tensors, json, largest_difference, path, threads, to_nhwc};

#[test]
fn checkpoints_of_four_releases_load_whole_and_give_the_references_output() {
    let (input, images) = Tensors::read_file("pt/input.safetensors").0.remove(0);
    let images = to_nhwc(&input.shape, &images);
    let mut releases = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(path("pt")).unwrap() {
        let file = entry.unwrap().path();
        let key = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if !key.starts_with("v8_") || file.extension().is_none_or(|e| e != "pt") {
            continue;
        }
        let source = find(file.to_str().unwrap(), &[], true).unwrap();
        let opened = open(&source, None, [input.shape[2], input.shape[3]], true, 0).unwrap();
        assert!(!opened.folded, "{key}");
        let facts = json(&format!("pt/{key}.json"));
        let names: Vec<&str> =
            facts["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        assert_eq!(opened.names, names, "{key}");
        releases.insert(facts["ultralytics"].as_str().unwrap().to_owned());

        let mut network = Inference::new(&opened.model, opened.params.clone(), threads(2));
        let dense =
            network.run([1, input.shape[2], input.shape[3]], &images).unwrap().head().unwrap().dense();
        let expected = Tensors::read_file(&format!("pt/{key}.expected.safetensors"));
        let (shape, decoded) = expected.get("decoded");
        let anchors = shape.shape[2];
        let (boxes, scores) = (0..4 * anchors, 4 * anchors..decoded.len());
        let pixels = largest_difference(&dense[boxes.clone()], &decoded[boxes]);
        assert!(pixels <= 0.01, "{key}: {pixels} px");
        let difference = largest_difference(&dense[scores.clone()], &decoded[scores]);
        assert!(difference <= 1e-4, "{key}: score off by {difference}");
    }
    assert_eq!(releases.into_iter().collect::<Vec<_>>(), ["8.0.20", "8.0.200", "8.3.100", "8.4.190"]);
}
