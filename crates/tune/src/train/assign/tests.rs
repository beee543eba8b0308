use super::*;

const REG_MAX: usize = 16;

/// A map of one level on which every anchor predicts `ltrb` (whole bins, in stride units) and the class logits.
fn map(cells: usize, ltrb: impl Fn(usize) -> [usize; 4], logits: impl Fn(usize) -> Vec<f32>) -> Vec<f32> {
    let mut out = Vec::new();
    for cell in 0..cells {
        for bin in ltrb(cell) {
            out.extend((0..REG_MAX).map(|j| if j == bin { 40.0 } else { 0.0 }));
        }
        out.extend(logits(cell));
    }
    out
}

fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> Xyxy {
    Xyxy { x1, y1, x2, y2 }
}

fn run(
    config: TalConfig,
    shape: (usize, usize),
    map: &[f32],
    nc: usize,
    truths: &[Truth],
) -> (Vec<Foreground>, f64) {
    let grid = Grid::new(&[shape], &[8]);
    let mut assigner = Assigner { truths: truths.to_vec(), ..Assigner::default() };
    let sum = assigner.assign(&config, &grid, ImageMaps { levels: &[map], reg_max: REG_MAX, nc });
    (assigner.foreground, sum)
}

#[test]
fn the_best_anchors_win_and_the_peak_takes_the_overlap() {
    // 4 x 4 cells; the truth covers the middle 2 x 2. Cell 5 predicts it exactly, cell 6 a wider box.
    let truth = Truth { class: 1, bbox: bbox(8.0, 8.0, 24.0, 24.0) };
    let raw = map(16, |cell| if cell == 6 { [2, 1, 2, 2] } else { [1, 1, 2, 2] }, |_| vec![9.0, 0.0]);
    // Cell 5's centre is (1.5, 1.5): sides (1, 1, 2, 2) give (4, 4, 28, 28) px; IoU 256 / 576.
    let (all, sum) = run(TalConfig::default(), (4, 4), &raw, 2, &[truth]);
    assert_eq!(all.iter().map(|f| f.anchor).collect::<Vec<_>>(), [5, 6, 9, 10]);
    let best = all.iter().find(|f| f.anchor == 5).expect("cell 5");
    assert!((best.score - 256.0 / 576.0).abs() < 1e-5, "{}", best.score);
    assert!(all.iter().all(|f| f.truth == 0 && f.score <= best.score && f.score > 0.0));
    assert!((sum - all.iter().map(|f| f64::from(f.score)).sum::<f64>()).abs() < 1e-12);
    let (one, _) = run(TalConfig { topk: 1, ..TalConfig::default() }, (4, 4), &raw, 2, &[truth]);
    assert_eq!(one.iter().map(|f| f.anchor).collect::<Vec<_>>(), [5]);
}

#[test]
fn the_class_score_weighs_in() {
    let truth = Truth { class: 0, bbox: bbox(0.0, 0.0, 16.0, 8.0) };
    // Both cells predict the truth exactly; the second is surer of its class.
    let raw = map(2, |cell| if cell == 0 { [0, 0, 2, 1] } else { [1, 0, 1, 1] }, |cell| vec![cell as f32]);
    let (all, _) = run(TalConfig { topk: 1, ..TalConfig::default() }, (1, 2), &raw, 1, &[truth]);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].anchor, 1);
}

#[test]
fn a_conflict_goes_to_the_larger_overlap() {
    // Two truths hold both cells; every cell predicts close to the second.
    let first = Truth { class: 0, bbox: bbox(0.0, 0.0, 32.0, 16.0) };
    let second = Truth { class: 0, bbox: bbox(0.0, 0.0, 18.0, 16.0) };
    let raw = map(8, |_| [1, 1, 1, 1], |_| vec![0.0]);
    let (all, _) = run(TalConfig::default(), (2, 4), &raw, 1, &[first, second]);
    for f in all.iter().filter(|f| f.anchor % 4 < 2) {
        assert_eq!(f.truth, 1, "{f:?}");
    }
    assert!(all.iter().any(|f| f.truth == 0), "cells beyond the second truth stay with the first");
}

#[test]
fn no_truth_no_foreground_and_scratch_is_reused() {
    let raw = map(4, |_| [1, 1, 1, 1], |_| vec![0.0]);
    let grid = Grid::new(&[(2, 2)], &[8]);
    let levels: &[&[f32]] = &[&raw];
    let maps = ImageMaps { levels, reg_max: REG_MAX, nc: 1 };
    let mut assigner = Assigner::default();
    assert_eq!(assigner.assign(&TalConfig::default(), &grid, maps), 0.0);
    assigner.truths = vec![Truth { class: 0, bbox: bbox(0.0, 0.0, 16.0, 16.0) }];
    let first = assigner.assign(&TalConfig::default(), &grid, maps);
    let kept = assigner.foreground.clone();
    assert!(first > 0.0);
    assert_eq!(assigner.assign(&TalConfig::default(), &grid, maps), first);
    assert_eq!(assigner.foreground, kept);
    assigner.truths.clear();
    assert_eq!(assigner.assign(&TalConfig::default(), &grid, maps), 0.0);
    assert!(assigner.foreground.is_empty());
}
