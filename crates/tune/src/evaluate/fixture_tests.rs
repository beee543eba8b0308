//! Decoding, suppression and figures against those of the pinned reference and of pycocotools (fixtures/export_*.py).

use std::collections::HashMap;

use safetensors::SafeTensors;
use serde_json::Value;

use super::matching::{IOU_THRESHOLDS, judge};
use super::{Confusion, DetectMetrics, Evaluator, HeadMaps, Level, Truth, nms};
use crate::boxes::{Detection, Xyxy};

fn read(path: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Shapes and values of the float32 and byte tensors of a file.
fn tensors(path: &str) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = read(path);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = match view.dtype() {
                safetensors::Dtype::U8 => view.data().iter().map(|v| f32::from(*v)).collect(),
                safetensors::Dtype::F32 => {
                    view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
                _ => Vec::new(),
            };
            (name, (view.shape().to_vec(), values))
        })
        .collect()
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

fn corners(row: &[f32]) -> Xyxy {
    Xyxy { x1: row[0], y1: row[1], x2: row[2], y2: row[3] }
}

#[track_caller]
fn close(found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn decoding_is_the_references() {
    for model in ["yolov8n", "yolo11n", "yolo12n"] {
        let file = tensors(&format!("models/{model}_tiny.safetensors"));
        let levels: Vec<_> = (0..3)
            .map(|l| {
                let (shape, values) = &file[&format!("eval/level{l}")];
                let [n, c, h, w] = shape[..] else { panic!("{shape:?}") };
                let mut nhwc = vec![0.0; values.len()];
                for (index, value) in values.iter().enumerate() {
                    let (image, channel, cell) = (index / (c * h * w), index / (h * w) % c, index % (h * w));
                    nhwc[(image * h * w + cell) * c + channel] = *value;
                }
                (n, c, h, w, nhwc)
            })
            .collect();
        let views = levels.iter().zip([8.0, 16.0, 32.0]).map(|(l, stride)| Level {
            values: &l.4,
            height: l.2,
            width: l.3,
            stride,
            classes: 0..l.1 - 64,
        });
        let (n, classes) = (levels[0].0, levels[0].1 - 64);
        let maps = HeadMaps::new(n, 16, views.collect()).unwrap();
        let (shape, expected) = &file["eval/decoded"];
        assert_eq!(shape[..], [n, 4 + classes, maps.anchors()]);
        let found = maps.dense();
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected.len() && worst < 1e-4, "{model}: {worst}");

        // The sparse way gives the same boxes and scores as the dense one.
        let anchors = maps.anchors();
        for image in 0..n {
            let sparse = maps.candidates(image, 0.0, true, usize::MAX).unwrap();
            assert_eq!(sparse.len(), anchors * classes);
            let best = &sparse[0];
            let dense = &found[image * (4 + classes) * anchors..];
            let score = |a: usize| dense[(4 + best.class as usize) * anchors + a];
            let anchor = (0..anchors).find(|a| score(*a) == best.score).unwrap();
            let centre = (best.bbox.x1 + best.bbox.x2) / 2.0;
            assert!((centre - dense[anchor]).abs() < 1e-4, "{model}: {centre} {}", dense[anchor]);
        }
    }
}

#[test]
fn suppression_is_the_references() {
    let file = tensors("metrics/metrics.safetensors");
    let (shape, prediction) = &file["nms/prediction"];
    let [images, rows, anchors] = shape[..] else { panic!("{shape:?}") };
    for (k, case) in json("metrics/metrics.json")["nms"].as_array().unwrap().iter().enumerate() {
        let number = |key: &str, default: f64| case.get(key).map_or(default, |v| v.as_f64().unwrap());
        let flag = |key: &str| case.get(key).is_some_and(|v| v.as_bool().unwrap());
        let classes: Option<Vec<u64>> =
            case.get("classes").map(|c| c.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect());
        let conf = number("conf_thres", 0.0) as f32;
        for image in 0..images {
            let at = |row: usize, anchor: usize| prediction[(image * rows + row) * anchors + anchor];
            let mut candidates = Vec::new();
            for anchor in 0..anchors {
                let [x, y, w, h] = [0, 1, 2, 3].map(|row| at(row, anchor));
                let bbox = Xyxy { x1: x - w / 2.0, y1: y - h / 2.0, x2: x + w / 2.0, y2: y + h / 2.0 };
                let mut scores: Vec<_> = (0..rows - 4).map(|c| (c, at(4 + c, anchor))).collect();
                if !flag("multi_label") {
                    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
                    scores.truncate(1);
                }
                for (class, score) in scores.into_iter().filter(|s| s.1 > conf) {
                    if classes.as_ref().is_none_or(|c| c.contains(&(class as u64))) {
                        candidates.push(Detection { class: class as u32, score, bbox });
                    }
                }
            }
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
            candidates.truncate(number("max_nms", 30_000.0) as usize);
            let iou = number("iou_thres", 0.0) as f32;
            let found = nms(&candidates, iou, number("max_det", 300.0) as usize, flag("agnostic"));
            let expected: Vec<_> = file[&format!("nms/{k}/{image}/kept")].1.chunks_exact(6).collect();
            assert_eq!(found.len(), expected.len(), "case {k}, image {image}");
            for (d, e) in found.iter().zip(expected) {
                assert_eq!((d.class as f32, d.score), (e[5], e[4]), "case {k}, image {image}");
                let difference = [d.bbox.x1 - e[0], d.bbox.y1 - e[1], d.bbox.x2 - e[2], d.bbox.y2 - e[3]];
                assert!(difference.iter().all(|v| v.abs() < 1e-3), "case {k}: {difference:?}");
            }
        }
    }
}

/// The fixture's detections and truths, image by image, with the reference's verdicts (bits as ours).
fn images() -> Vec<(Vec<Detection>, Vec<Truth>, Vec<u16>)> {
    let file = tensors("metrics/metrics.safetensors");
    let count = json("metrics/metrics.json")["images"].as_u64().unwrap() as usize;
    let mut out = vec![(Vec::new(), Vec::new(), Vec::new()); count];
    let verdicts = file["correct"].1.chunks_exact(IOU_THRESHOLDS.len());
    for (row, verdict) in file["detections"].1.chunks_exact(7).zip(verdicts) {
        let image = &mut out[row[0] as usize];
        image.0.push(Detection { class: row[1] as u32, score: row[2], bbox: corners(&row[3..]) });
        image.2.push(verdict.iter().enumerate().map(|(i, v)| (*v as u16) << i).sum());
    }
    for row in file["ground_truth"].1.chunks_exact(6) {
        let truth = Truth { class: row[1] as u32, bbox: corners(&row[2..]), crowd: false };
        out[row[0] as usize].1.push(truth);
    }
    out
}

fn metrics() -> DetectMetrics {
    let classes = json("metrics/metrics.json")["classes"].as_u64().unwrap();
    let mut evaluator = Evaluator::new((0..classes).map(|c| format!("c{c}")).collect());
    for (mut detections, truths, _) in images() {
        // The order of the detections must not matter.
        detections.reverse();
        evaluator.add(&detections, &truths).unwrap();
    }
    evaluator.finish()
}

#[test]
fn every_detection_is_judged_as_by_the_reference() {
    for (image, (detections, truths, expected)) in images().into_iter().enumerate() {
        for class in 0..7 {
            let of = |i: &usize| detections[*i].class == class;
            let members: Vec<_> = (0..detections.len()).filter(of).collect();
            let chosen: Vec<_> = members.iter().map(|i| detections[*i]).collect();
            let truths: Vec<_> = truths.iter().filter(|t| t.class == class).copied().collect();
            for (verdict, index) in judge(&chosen, &truths).iter().zip(members) {
                assert_eq!(verdict.right, expected[index], "image {image}, detection {index}");
            }
        }
    }
}

#[test]
fn the_figures_are_the_references() {
    let expected = &json("metrics/metrics.json")["library"];
    let found = metrics();
    close(found.map50, &expected["map50"], 1e-9);
    close(found.map50_95, &expected["map50_95"], 1e-9);
    close(found.fitness, &expected["fitness"], 1e-9);
    close(found.precision, &expected["precision"], 1e-6);
    close(found.recall, &expected["recall"], 1e-6);
    close(found.best_confidence, &expected["best_confidence"], 1e-12);
    assert_eq!(found.unseen_classes, ["c6"]);
    for (index, class) in found.per_class.iter().enumerate() {
        assert_eq!(u64::from(class.class), expected["classes"][index].as_u64().unwrap());
        assert_eq!(class.boxes, expected["nt_per_class"][class.class as usize].as_u64().unwrap());
        close(class.ap50, &expected["ap50"][index], 1e-9);
        close(class.ap, &expected["ap50_95"][index], 1e-9);
        close(class.precision, &expected["p"][index], 1e-6);
        close(class.recall, &expected["r"][index], 1e-6);
    }
}

#[test]
fn the_curves_are_the_references() {
    let file = tensors("metrics/metrics.safetensors");
    let curves = metrics().curves.unwrap();
    for (name, found) in [
        ("p_curve", &curves.precision),
        ("r_curve", &curves.recall),
        ("f1_curve", &curves.f1),
        ("pr_curve_at_iou50", &curves.precision_at_recall),
    ] {
        let found = found.concat();
        let expected = &file[name].1;
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{name}: {worst}");
    }
}

#[test]
fn the_confusion_matrix_is_the_references() {
    let key = "confusion_rows_predicted_columns_true_last_is_background";
    let expected = &json("metrics/metrics.json")["library"][key]["0.25"];
    let found: Confusion = metrics().confusion;
    for predicted in 0..8 {
        for truth in 0..8 {
            let expected = expected[predicted][truth].as_f64().unwrap();
            assert_eq!(found.get(predicted, truth) as f64, expected, "{predicted} {truth}");
        }
    }
}

#[test]
fn cocos_average_precision_is_pycocotools() {
    let expected = &json("metrics/metrics.json")["coco"];
    let found = metrics();
    close(found.coco_ap.unwrap(), &expected["AP"], 1e-9);
    close(found.coco_ap50.unwrap(), &expected["AP50"], 1e-9);
    close(found.coco_ap75.unwrap(), &expected["AP75"], 1e-9);
    for class in &found.per_class {
        close(class.coco_ap, &expected["per_class_AP"][class.class as usize], 1e-9);
    }
}
