//! The whole loss: against an independent form in double precision with finite differences, and against the reference.

use super::*;
use crate::boxes::Label;
use crate::train::fixture::{Tensors, json, number};

const SHAPES: [(usize, usize); 2] = [(6, 8), (3, 4)];
const NC: usize = 3;
const N: usize = 2;

fn config() -> LossConfig {
    LossConfig { strides: vec![8, 16], class_weights: vec![0.5, 2.0, 1.25], ..LossConfig::new(NC) }
}

fn target(image: u32, class: u32, cx: f32, cy: f32, w: f32, h: f32) -> Target {
    Target { image, label: Label { class, cx, cy, w, h } }
}

fn targets() -> Vec<Target> {
    vec![
        target(0, 0, 0.4, 0.5, 0.5, 0.6),
        target(0, 2, 0.5, 0.45, 0.45, 0.5),
        target(0, 1, 0.9, 0.9, 0.1, 0.15),
        target(1, 1, 0.3, 0.3, 0.6, 0.5),
    ]
}

fn noise(i: usize) -> f32 {
    let x = (i as u32).wrapping_mul(2_654_435_761) ^ 0x9e37;
    let x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
    ((x ^ (x >> 13)) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

/// Maps of small boxes and unsure classes.
fn maps(shapes: &[(usize, usize)], n: usize, nc: usize) -> Vec<Vec<f32>> {
    let channels = 64 + nc;
    let map = |(level, &(h, w)): (usize, &(usize, usize))| {
        (0..n * h * w * channels)
            .map(|i| {
                let c = i % channels;
                let small = if c < 64 && c % 16 < 3 { 2.0 } else { 0.0 };
                2.0 * noise(i + 7919 * level) + small
            })
            .collect()
    };
    shapes.iter().enumerate().map(map).collect()
}

/// The four sides' expected bins of one row.
fn sides(row: &[f64]) -> [f64; 4] {
    std::array::from_fn(|side| {
        let bins = &row[side * 16..(side + 1) * 16];
        let norm: f64 = bins.iter().map(|x| x.exp()).sum();
        bins.iter().enumerate().map(|(j, x)| j as f64 * x.exp() / norm).sum()
    })
}

/// The total from the formulas, in double precision, for the assignment of the last batch. CIoU's alpha, which counts
/// as a constant, is taken from the maps `base`.
fn total(loss: &DetectLoss, maps: &[Vec<f64>], base: &[Vec<f64>]) -> f64 {
    let (reg_max, channels) = (16, 64 + NC);
    let (mut cls, mut iou, mut dfl, mut sum) = (0.0, 0.0, 0.0, 0.0f64);
    for (level, map) in maps.iter().enumerate() {
        let run = SHAPES[level].0 * SHAPES[level].1 * channels;
        for (image, map) in map.chunks(run).enumerate() {
            for (cell, row) in map.chunks(channels).enumerate() {
                let anchor = cell + if level == 1 { SHAPES[0].0 * SHAPES[0].1 } else { 0 };
                let mine = loss.assignment(image).iter().find(|f| f.anchor == anchor);
                let truth = mine.map(|f| loss.images[image].assigner.truths[f.truth]);
                for (c, x) in row[64..].iter().enumerate() {
                    let t = match (mine, truth) {
                        (Some(f), Some(truth)) if truth.class == c => f64::from(f.score),
                        _ => 0.0,
                    };
                    cls += f64::from(loss.config.class_weights[c]) * (x.exp().ln_1p() - t * x);
                }
                let (Some(f), Some(truth)) = (mine, truth) else { continue };
                let stride = [8.0, 16.0][level];
                let (cx, cy) = loss.grid.centre(level, cell);
                let (cx, cy) = (f64::from(cx), f64::from(cy));
                let b = truth.bbox;
                let b = [b.x1, b.y1, b.x2, b.y2].map(|v| f64::from(v) / stride);
                let score = f64::from(f.score);
                sum += score;
                for side in 0..4 {
                    let bins = &row[side * reg_max..(side + 1) * reg_max];
                    let norm: f64 = bins.iter().map(|x| x.exp()).sum();
                    let y: f64 = [cx - b[0], cy - b[1], b[2] - cx, b[3] - cy][side];
                    let y = y.clamp(0.0, 14.99);
                    let i = y.floor();
                    let log = |j: f64| (bins[j as usize].exp() / norm).ln();
                    dfl -= score / 4.0 * ((i + 1.0 - y) * log(i) + (y - i) * log(i + 1.0));
                }
                let corners = |row: &[f64]| {
                    let [l, t, r, b] = sides(row);
                    [cx - l, cy - t, cx + r, cy + b]
                };
                let alpha = ciou::paper(corners(&base[level][image * run + cell * channels..]), b, None).1;
                iou += score * (1.0 - ciou::paper(corners(row), b, Some(alpha)).0);
            }
        }
    }
    N as f64 * (7.5 * iou + 0.5 * cls + 1.5 * dfl) / sum.max(1.0)
}

#[test]
fn gradient_equals_finite_differences() {
    let maps = maps(&SHAPES, N, NC);
    let mut grads: Vec<Vec<f32>> = maps.iter().map(|m| vec![f32::NAN; m.len()]).collect();
    let mut loss = DetectLoss::new(config());
    let items = loss.compute(&maps, &SHAPES, N, &targets(), &mut grads).expect("finite");
    assert!(items.foreground > 15, "{items:?}");
    let double: Vec<Vec<f64>> = maps.iter().map(|m| m.iter().map(|&v| f64::from(v)).collect()).collect();
    let want = total(&loss, &double, &double);
    assert!((items.total - want).abs() < 1e-6 * want, "{} {want}", items.total);

    let mut checked = 0;
    for level in 0..2 {
        for at in (0..maps[level].len()).step_by(5) {
            let mut slope = 0.0;
            for sign in [1.0, -1.0] {
                let mut moved = double.clone();
                moved[level][at] += sign * 1e-4;
                slope += sign * total(&loss, &moved, &double) / 2e-4;
            }
            let got = f64::from(grads[level][at]);
            assert!((got - slope).abs() < 1e-5 + 1e-4 * slope.abs(), "level {level} {at}: {got} {slope}");
            checked += usize::from(slope.abs() > 1e-3);
        }
    }
    assert!(checked > 100, "{checked} values with a slope");
}

/// Largest difference over the largest value.
fn relative(got: &[f32], want: &[f32]) -> f64 {
    let largest = want.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let difference = got.iter().zip(want).fold(0.0f32, |a, (g, w)| a.max((g - w).abs()));
    f64::from(difference) / f64::from(largest.max(1e-12))
}

fn rows_to_targets(rows: &[f32]) -> Vec<Target> {
    rows.chunks(6).map(|r| target(r[0] as u32, r[1] as u32, r[2], r[3], r[4], r[5])).collect()
}

#[test]
fn terms_assignment_and_gradient_equal_the_reference() {
    let facts = json("loss/loss_grad.json");
    let file = Tensors::open("loss/loss_grad.safetensors");
    for case in ["crowded", "sparse", "empty"] {
        let nc = number(&facts[case]["nc"]) as usize;
        let maps: Vec<Vec<f32>> = (0..3).map(|l| file.f32(&format!("{case}/level{l}"))).collect();
        let dims: Vec<Vec<usize>> = (0..3).map(|l| file.shape(&format!("{case}/level{l}"))).collect();
        let shapes: Vec<(usize, usize)> = dims.iter().map(|d| (d[1], d[2])).collect();
        let n = dims[0][0];
        let targets = rows_to_targets(&file.f32(&format!("{case}/targets")));
        let mut grads: Vec<Vec<f32>> = maps.iter().map(|m| vec![0.0; m.len()]).collect();
        let mut loss = DetectLoss::new(LossConfig::new(nc));
        let items = loss.compute(&maps, &shapes, n, &targets, &mut grads).expect("finite");

        for (got, name) in
            [(items.box_, "box"), (items.cls, "cls"), (items.dfl, "dfl"), (items.total, "total")]
        {
            let want = number(&facts[case][name]);
            assert!((got - want).abs() <= 1e-5 * want, "{case} {name}: {got} {want}");
        }
        assert_eq!(items.foreground as f64, number(&facts[case]["foreground"]), "{case}");
        let (scores, truth) = (file.f32(&format!("{case}/scores")), file.i32(&format!("{case}/truth")));
        let anchors = loss.grid.anchors();
        for image in 0..n {
            let mut want = scores[image * anchors..(image + 1) * anchors].to_vec();
            for f in loss.assignment(image) {
                assert_eq!(truth[image * anchors + f.anchor], f.truth as i32, "{case} {image} {f:?}");
                // The fixture is from double precision; float32 leaves a tiny overlap few digits.
                assert!((want[f.anchor] - f.score).abs() < 1e-5 * f.score + 1e-7, "{case} {f:?}");
                want[f.anchor] = 0.0;
            }
            assert!(want.iter().all(|&s| s == 0.0), "{case}: anchors that were not taken");
        }
        for (level, grad) in grads.iter().enumerate() {
            let want = file.f32(&format!("{case}/grad{level}"));
            let error = relative(grad, &want);
            assert!(error < 2e-5, "{case} level {level}: {error:e}");
        }
        assert_eq!(loss.evaluate(&maps, &shapes, n, &targets), Ok(items), "{case} without gradients");
    }
}

/// [n, c, h, w] to [n, h, w, c].
fn channels_last(v: &[f32], shape: &[usize]) -> Vec<f32> {
    let (c, cells) = (shape[1], shape[2] * shape[3]);
    let mut out = Vec::with_capacity(v.len());
    for image in v.chunks(c * cells) {
        for cell in 0..cells {
            out.extend((0..c).map(|c| image[c * cells + cell]));
        }
    }
    out
}

#[test]
fn losses_of_real_heads_equal_the_reference() {
    for family in ["yolov8n", "yolo11n", "yolo12n"] {
        let facts = json(&format!("models/{family}_tiny.json"));
        let file = Tensors::open(&format!("models/{family}_tiny.safetensors"));
        let nc = number(&facts["nc"]) as usize;
        let dims: Vec<Vec<usize>> = (0..3).map(|l| file.shape(&format!("train/level{l}"))).collect();
        let shapes: Vec<(usize, usize)> = dims.iter().map(|d| (d[2], d[3])).collect();
        let maps: Vec<Vec<f32>> =
            (0..3).map(|l| channels_last(&file.f32(&format!("train/level{l}")), &dims[l])).collect();
        for case in ["full", "one_empty", "none"] {
            let targets = rows_to_targets(&file.f32(&format!("{case}/targets")));
            let mut grads: Vec<Vec<f32>> = maps.iter().map(|m| vec![0.0; m.len()]).collect();
            let mut loss = DetectLoss::new(LossConfig::new(nc));
            let items = loss.compute(&maps, &shapes, 2, &targets, &mut grads).expect("finite");
            let want = &facts["cases"][case];
            for (got, name) in [(items.box_, "box"), (items.cls, "cls"), (items.dfl, "dfl")] {
                let want = number(&want["with_gains"][name]);
                assert!((got - want).abs() <= 1e-4 * want, "{family} {case} {name}: {got} {want}");
            }
            let total = number(&want["total_times_batch"]);
            assert!((items.total - total).abs() <= 1e-4 * total, "{family} {case}: {} {total}", items.total);

            // The last convolutions' biases are added to every cell: their gradient is the maps' summed over cells.
            for (level, grad) in grads.iter().enumerate() {
                let channels = 64 + nc;
                let mut sums = vec![0.0f32; channels];
                for row in grad.chunks(channels) {
                    for (s, g) in sums.iter_mut().zip(row) {
                        *s += g;
                    }
                }
                for (branch, got) in [("cv2", &sums[..64]), ("cv3", &sums[64..])] {
                    let want = bias_gradient(&file, case, branch, level);
                    if case == "none" && branch == "cv2" {
                        assert!(got.iter().all(|&g| g == 0.0), "{family} {case}");
                    } else {
                        let error = relative(got, &want);
                        assert!(error < 1e-4, "{family} {case} {branch} {level}: {error:e}");
                    }
                }
            }
        }
    }
}

/// Gradient of the bias of the last convolution of a branch of the head, whatever the head's index.
fn bias_gradient(file: &Tensors, case: &str, branch: &str, level: usize) -> Vec<f32> {
    let end = format!(".{branch}.{level}.2.bias");
    let start = format!("{case}/grad/");
    file.f32(&file.find(&start, &end))
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (shapes, nc) = ([(12, 16), (6, 8), (3, 4)], 5);
    let maps = maps(&shapes, 5, nc);
    let targets: Vec<Target> = (0..40)
        .map(|i| {
            let u = |k: usize| (noise(100 + i * 4 + k) + 1.0) / 2.0;
            target((i % 5) as u32, (i % nc) as u32, u(0), u(1), 0.05 + 0.5 * u(2), 0.05 + 0.5 * u(3))
        })
        .collect();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut grads: Vec<Vec<f32>> = maps.iter().map(|m| vec![0.0; m.len()]).collect();
            let mut loss = DetectLoss::new(LossConfig::new(nc));
            let items = loss.compute(&maps, &shapes, 5, &targets, &mut grads).expect("finite");
            (items, grads)
        })
    };
    let (items, grads) = run(1);
    assert!(items.foreground > 50);
    for threads in [2, 3] {
        let (other, other_grads) = run(threads);
        assert_eq!(items.total.to_bits(), other.total.to_bits());
        for (a, b) in grads.iter().flatten().zip(other_grads.iter().flatten()) {
            assert_eq!(a.to_bits(), b.to_bits());
        }
    }
}

#[test]
fn a_map_that_is_not_finite_names_its_image() {
    let good = maps(&SHAPES, N, NC);
    let mut grads = good.clone();
    let mut loss = DetectLoss::new(config());
    // A box logit far from any target, one under a target, a class logit.
    for (level, at) in [(0, 48 * 67 + 3), (1, 12 * 67 + 67 * 5 + 20), (1, 24 * 67 - 1)] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut maps = good.clone();
            maps[level][at] = bad;
            let got = loss.compute(&maps, &SHAPES, N, &targets(), &mut grads);
            assert_eq!(got, Err(LossError::NonFinite { image: 1 }), "level {level} {at} {bad}");
            assert_eq!(loss.evaluate(&maps, &SHAPES, N, &targets()), Err(LossError::NonFinite { image: 1 }));
        }
    }
    assert!(loss.compute(&good, &SHAPES, N, &targets(), &mut grads).is_ok(), "the next batch is fine");
}

#[test]
fn wrong_input_is_an_error() {
    let maps = maps(&SHAPES, N, NC);
    let mut grads = maps.clone();
    let mut loss = DetectLoss::new(config());
    let mut run = |targets: &[Target]| loss.compute(&maps, &SHAPES, N, targets, &mut grads).map(|_| ());
    assert_eq!(run(&[target(2, 0, 0.5, 0.5, 0.1, 0.1)]), Err(LossError::Image { image: 2, n: N }));
    let class = LossError::Class { image: 1, class: 3, nc: NC };
    assert_eq!(run(&[target(1, 3, 0.5, 0.5, 0.1, 0.1)]), Err(class));
    assert_eq!(run(&[target(0, 0, f32::NAN, 0.5, 0.1, 0.1)]), Err(LossError::Target { image: 0 }));
    let mut loss = DetectLoss::new(config());
    assert_eq!(
        loss.evaluate(&maps[..1], &SHAPES[..1], N, &[]),
        Err(LossError::Levels { found: 1, expected: 2 })
    );
    let expected = 3 * 48 * 67;
    assert_eq!(
        loss.evaluate(&maps, &SHAPES, 3, &[]),
        Err(LossError::Shape { level: 0, found: expected / 3 * 2, expected })
    );
    let mut short = vec![vec![0.0f32; 4]; 2];
    assert_eq!(
        loss.compute(&maps, &SHAPES, N, &[], &mut short),
        Err(LossError::Shape { level: 0, found: 4, expected: 2 * 48 * 67 })
    );
}
