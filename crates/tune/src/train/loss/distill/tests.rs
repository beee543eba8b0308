//! Distillation within the whole loss: against PyTorch's own losses, and what masks and agreement do.

use super::*;
use crate::boxes::Label;
use crate::train::fixture::{Tensors, json, number};
use crate::train::loss::{DetectLoss, Gains, LossConfig, LossItems, Target};

const OLD: usize = 3;
const NC: usize = 4;
const SHAPES: [(usize, usize); 2] = [(4, 4), (2, 2)];

fn noise(i: usize) -> f32 {
    let x = (i as u32).wrapping_mul(2_654_435_761) ^ 0x51ed;
    let x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
    ((x ^ (x >> 13)) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

fn maps(n: usize, classes: usize, seed: usize) -> Vec<Vec<f32>> {
    let map = |(level, &(h, w)): (usize, &(usize, usize))| {
        (0..n * h * w * (64 + classes)).map(|i| 2.0 * noise(i + 7919 * level + 104_729 * seed)).collect()
    };
    SHAPES.iter().enumerate().map(map).collect()
}

/// The first `to` classes' channels of maps with `from`.
fn narrowed(maps: &[Vec<f32>], from: usize, to: usize) -> Vec<Vec<f32>> {
    maps.iter().map(|m| m.chunks(64 + from).flat_map(|row| row[..64 + to].to_vec()).collect()).collect()
}

/// The new data label class 3 alone, the replayed ones the three old classes.
fn config() -> LossConfig {
    let sources = [[false, false, false, true], [true, true, true, false]];
    let sources = sources.map(|labelled| Source::new(&labelled, &[1.0; NC], OLD)).to_vec();
    let distill = Some(DistillConfig { gain: 1.0, old: OLD, sources });
    LossConfig { strides: vec![8, 16], distill, ..LossConfig::new(NC) }
}

fn compute(
    config: &LossConfig,
    ours: &[Vec<f32>],
    theirs: &[Vec<f32>],
    sources: &[usize],
    targets: &[Target],
) -> (LossItems, Vec<Vec<f32>>) {
    let mut grads: Vec<Vec<f32>> = ours.iter().map(|m| vec![f32::NAN; m.len()]).collect();
    let theirs: Vec<&[f32]> = theirs.iter().map(Vec::as_slice).collect();
    let taught = Some(Taught { maps: &theirs, sources });
    let mut loss = DetectLoss::new(config.clone());
    let items = loss.compute_taught(ours, &SHAPES, (sources.len(), targets), taught, &mut grads).unwrap();
    (items, grads)
}

fn tree(image: u32) -> Target {
    Target { image, label: Label { class: 3, cx: 0.5, cy: 0.5, w: 0.6, h: 0.5 } }
}

#[test]
fn terms_and_gradient_equal_pytorch() {
    let facts = json("loss/distill.json");
    let file = Tensors::open("loss/distill.safetensors");
    let list = |value: &serde_json::Value| -> Vec<usize> {
        value.as_array().unwrap().iter().map(|v| number(v) as usize).collect()
    };
    let (old, nc) = (number(&facts["old"]) as usize, number(&facts["nc"]) as usize);
    let shapes: Vec<(usize, usize)> =
        facts["shapes"].as_array().unwrap().iter().map(|s| (list(s)[0], list(s)[1])).collect();
    for (name, case) in facts["cases"].as_object().unwrap() {
        let sources = list(&case["sources"]);
        let covered = case["labels"].as_array().unwrap().iter().map(|labels| {
            let labelled: Vec<bool> = (0..nc).map(|c| list(labels).contains(&c)).collect();
            Source::new(&labelled, &vec![1.0; nc], old)
        });
        let gain = number(&facts["gain"]) as f32;
        let distill = Some(DistillConfig { gain, old, sources: covered.collect() });
        let config = LossConfig { gains: Gains::default(), distill, ..LossConfig::new(nc) };
        let read = |what: &str| -> Vec<Vec<f32>> {
            (0..3).map(|l| file.f32(&format!("{name}/{what}{l}"))).collect()
        };
        let (ours, theirs) = (read("maps"), read("taught"));
        let theirs: Vec<&[f32]> = theirs.iter().map(Vec::as_slice).collect();
        let mut grads: Vec<Vec<f32>> = ours.iter().map(|m| vec![f32::NAN; m.len()]).collect();
        let taught = Some(Taught { maps: &theirs, sources: &sources });
        let mut loss = DetectLoss::new(config);
        let items = loss.compute_taught(&ours, &shapes, (sources.len(), &[]), taught, &mut grads).unwrap();
        for (got, what) in [(items.cls, "cls"), (items.distill.unwrap(), "distill"), (items.total, "total")] {
            let want = number(&case[what]);
            assert!((got - want).abs() <= 2e-6 * want, "{name} {what}: {got} {want}");
        }
        for (level, grad) in grads.iter().enumerate() {
            let want = file.f32(&format!("{name}/grad{level}"));
            let largest = want.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            for (i, (g, w)) in grad.iter().zip(&want).enumerate() {
                assert!((g - w).abs() <= 2e-6 * largest, "{name} level {level} value {i}: {g} {w}");
            }
        }
    }
}

#[test]
fn where_both_models_agree_there_is_nothing_to_learn_of_old_classes() {
    let ours = maps(2, NC, 1);
    let theirs = narrowed(&ours, NC, OLD);
    let (items, grads) = compute(&config(), &ours, &theirs, &[0, 0], &[]);
    assert_eq!(items.distill, Some(0.0));
    for (c, g) in grads.iter().flat_map(|g| g.chunks(64 + NC)).flat_map(|row| row.iter().enumerate()) {
        // Of the new class, which the labels cover, everything here is background.
        assert_eq!(*g != 0.0, c == 64 + 3, "channel {c}: {g}");
    }
    // Without the starting model the same labels would push every old class down.
    let mut plain: Vec<Vec<f32>> = ours.iter().map(|m| vec![0.0; m.len()]).collect();
    let unmasked = LossConfig { distill: None, ..config() };
    DetectLoss::new(unmasked).compute(&ours, &SHAPES, 2, &[], &mut plain).unwrap();
    assert!(plain[0].chunks(64 + NC).all(|row| row[64..].iter().all(|&g| g > 0.0)));
}

#[test]
fn each_source_learns_what_its_labels_cover_and_the_starting_model_says_the_rest() {
    let (ours, theirs) = (maps(2, NC, 1), maps(2, OLD, 2));
    let (_, grads) = compute(&config(), &ours, &theirs, &[0, 1], &[]);
    for level in &grads {
        let (new, replayed) = level.split_at(level.len() / 2);
        let some = |rows: &[f32], channel: usize| rows.chunks(64 + NC).any(|row| row[channel] != 0.0);
        assert!(
            (64..64 + NC).all(|c| some(new, c)),
            "old classes from the starting model, the new one from labels"
        );
        // Nobody says where trees are on the replayed images.
        assert!((64..64 + OLD).all(|c| some(replayed, c)) && !some(replayed, 64 + 3));
        let pushes_down = replayed.chunks(64 + NC).all(|row| row[64..64 + OLD].iter().all(|&g| g > 0.0));
        assert!(pushes_down, "labelled old classes without a box are background there");
    }
}

#[test]
fn an_anchor_that_learns_a_labelled_box_is_not_pulled_to_the_starting_models() {
    let ours = maps(1, NC, 1);
    let mut theirs = maps(1, OLD, 2);
    // The starting model is sure of one place, in the middle of the labelled box.
    for row in theirs.iter_mut().flat_map(|m| m.chunks_mut(64 + OLD)) {
        row[64..].fill(-12.0);
    }
    theirs[0][5 * (64 + OLD) + 64] = 6.0;
    let box_gradient = |targets: &[Target], theirs: &[Vec<f32>]| {
        let (_, grads) = compute(&config(), &ours, theirs, &[0], targets);
        grads[0][5 * (64 + NC)..][..64].to_vec()
    };
    let alone = box_gradient(&[], &theirs);
    assert!(alone.iter().any(|&g| g != 0.0), "the confident place teaches its box");
    let other: Vec<Vec<f32>> = theirs.iter().map(|m| m.iter().map(|v| v * 0.5).collect()).collect();
    assert_eq!(
        box_gradient(&[tree(0)], &theirs),
        box_gradient(&[tree(0)], &other),
        "the label's box counts alone"
    );
}

#[test]
fn maps_that_do_not_fit_and_numbers_that_are_none_are_refused() {
    let (ours, theirs) = (maps(1, NC, 1), maps(1, OLD, 2));
    let refuse = |theirs: &[Vec<f32>]| {
        let mut grads: Vec<Vec<f32>> = ours.iter().map(|m| vec![0.0; m.len()]).collect();
        let theirs: Vec<&[f32]> = theirs.iter().map(Vec::as_slice).collect();
        let taught = Some(Taught { maps: &theirs, sources: &[0] });
        DetectLoss::new(config()).compute_taught(&ours, &SHAPES, (1, &[]), taught, &mut grads).unwrap_err()
    };
    use crate::train::loss::LossError;
    assert!(matches!(refuse(&theirs[..1]), LossError::Levels { found: 1, expected: 2 }));
    assert!(matches!(refuse(&maps(1, OLD + 1, 2)), LossError::Shape { level: 0, .. }));
    let mut bad = theirs.clone();
    bad[1][64] = f32::NAN;
    assert_eq!(refuse(&bad), LossError::NonFinite { image: 0 });
}
