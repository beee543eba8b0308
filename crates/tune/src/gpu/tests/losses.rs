//! The device's loss, gradient and assignment against `DetectLoss`.

use std::sync::Arc;

use super::super::loss::{DeviceLoss, HeadLevel, ItemsRow, LossPlaces, TargetTable};
use super::super::{Machine, Memory};
use super::{Row, deviation};
use crate::boxes::Label;
use crate::data::batch::Target;
use crate::data::rng::{Draw, Purpose};
use crate::train::loss::{DetectLoss, LossConfig};

/// Height and width in pixels, images, classes, most targets an image.
pub(super) type Case = (usize, usize, usize, usize, usize);

/// For a GPU: as a training run has it, and sizes that are no multiples of anything.
pub(super) const LARGE: [Case; 4] =
    [(640, 640, 16, 20, 40), (640, 640, 3, 80, 200), (1280, 736, 2, 20, 60), (416, 416, 8, 1, 100)];

pub(super) const SMALL: [Case; 6] = [
    (64, 64, 1, 1, 0),
    (64, 64, 1, 3, 1),
    (96, 64, 3, 20, 9),
    (160, 160, 2, 5, 60),
    (640, 640, 1, 2, 3),
    (32, 32, 2, 80, 4),
];

/// Raw maps as a network half trained gives them: sides that peak somewhere, classes mostly low.
pub(super) fn maps((h, w, n, nc, _): Case, draw: &mut Draw) -> Vec<Vec<f32>> {
    [8, 16, 32]
        .map(|stride| {
            let cells = n * (h / stride) * (w / stride);
            let mut map = Vec::with_capacity(cells * (64 + nc));
            for _ in 0..cells {
                for _ in 0..4 {
                    let peak = draw.uniform(0.0, 6.0);
                    map.extend((0..16).map(|j| (3.0 - (f64::from(j) - peak).abs() + draw.normal()) as f32));
                }
                map.extend((0..nc).map(|_| (draw.normal() * 2.0 - 2.0) as f32));
            }
            map
        })
        .to_vec()
}

pub(super) fn targets((_, _, n, nc, most): Case, draw: &mut Draw) -> Vec<Target> {
    let mut targets = Vec::new();
    for image in 0..n {
        // The first image is full, the others have fewer, the last perhaps none.
        let count = if image == 0 { most } else { draw.below(most as u32 + 1) as usize };
        for k in 0..count {
            let size = if k % 3 == 0 { 0.03 } else { 0.5 };
            let (w, h) = (draw.uniform(0.01, size) as f32, draw.uniform(0.01, size) as f32);
            let cx = draw.uniform(0.0, 1.0) as f32;
            let cy = draw.uniform(0.0, 1.0) as f32;
            let label = Label { class: draw.below(nc as u32), cx, cy, w, h };
            targets.push(Target { image: image as u32, label });
        }
    }
    targets
}

pub(super) fn compare(machine: &Arc<dyn Machine>, cases: &[Case]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, &case) in cases.iter().enumerate() {
        let (h, w, n, nc, _) = case;
        let mut draw = Draw::new(11, 0, index as u32, Purpose::Init);
        for half in [false, true] {
            let mut maps = maps(case, &mut draw);
            let targets = targets(case, &mut draw);
            if half {
                maps.iter_mut().flatten().for_each(|v| *v = half::bf16::from_f32(*v).to_f32());
            }
            let shapes = [8, 16, 32].map(|s| (h / s, w / s));
            let class_weights = (0..nc).map(|c| 0.5 + c as f32 / nc as f32).collect();
            let config = LossConfig { class_weights, ..LossConfig::new(nc) };
            let mut loss = DetectLoss::new(config.clone());
            let mut grads: Vec<Vec<f32>> = maps.iter().map(|m| vec![7.0; m.len()]).collect();
            let want = loss.compute(&maps, &shapes, n, &targets, &mut grads).unwrap();

            let stored: Vec<Memory> = maps
                .iter()
                .map(|map| {
                    if half {
                        let bits: Vec<u16> = map.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect();
                        Memory::of(machine, &bits).unwrap()
                    } else {
                        Memory::of(machine, map).unwrap()
                    }
                })
                .collect();
            // Gradients with room between the cells, as in an arena's slice.
            let pitch = 64 + nc + 5;
            let filled: Vec<Memory> = maps
                .iter()
                .map(|map| Memory::of(machine, &vec![9.0f32; map.len() / (64 + nc) * pitch]).unwrap())
                .collect();
            let levels: Vec<HeadLevel> = (0..3)
                .map(|i| HeadLevel {
                    map: stored[i].address(),
                    grad: filled[i].address(),
                    h: shapes[i].0,
                    w: shapes[i].1,
                    map_pitch: 64 + nc,
                    grad_pitch: pitch,
                    map_half: half,
                    grad_half: false,
                })
                .collect();
            let table = TargetTable::new(&targets, n, (h, w), nc).unwrap();
            let rows_on_device = Memory::of(machine, &table.rows).unwrap();
            let starts = Memory::of(machine, &table.starts).unwrap();
            let items_on_device = Memory::zeros::<ItemsRow>(machine, 1).unwrap();
            let places = LossPlaces {
                targets: rows_on_device.address(),
                starts: starts.address(),
                items: items_on_device.address(),
            };
            let device = DeviceLoss::new(machine, &config, n, &levels, places, table.rows.len()).unwrap();
            // Twice: what a batch leaves behind must not matter to the next.
            device.enqueue(true).unwrap();
            device.enqueue(true).unwrap();
            let items = items_on_device.read::<ItemsRow>(1).unwrap()[0].items().unwrap();
            let name = format!(
                "{n} x {h}x{w} px, {nc} classes, {} targets{}",
                targets.len(),
                if half { ", bf16" } else { "" }
            );
            let relative = |a: f64, b: f64| (a - b).abs() / b.abs().max(1e-12);
            let worst = [
                (items.box_, want.box_),
                (items.cls, want.cls),
                (items.dfl, want.dfl),
                (items.total, want.total),
            ]
            .iter()
            .fold(0.0f64, |m, &(a, b)| m.max(if a == b { 0.0 } else { relative(a, b) }));
            rows.push(Row { name: format!("loss {name}"), worst, limit: 1e-6, what: "relative" });
            let assigned = device.assignment(&table.starts).unwrap();
            let mut different = (items.foreground != want.foreground) as usize;
            let mut scores = 0.0f64;
            for (image, got) in assigned.iter().enumerate() {
                let want = loss.assignment(image);
                different += got.len().abs_diff(want.len());
                for (g, w) in got.iter().zip(want) {
                    different += usize::from((g.anchor, g.truth) != (w.anchor, w.truth));
                    scores = scores.max(f64::from((g.score - w.score).abs()));
                }
            }
            rows.push(Row {
                name: format!("assignment {name}"),
                worst: different as f64,
                limit: 0.0,
                what: "differences",
            });
            rows.push(Row {
                name: format!("class targets {name}"),
                worst: scores,
                limit: 1e-6,
                what: "absolute",
            });
            let mut worst = 0.0f64;
            for (memory, want) in filled.iter().zip(&grads) {
                let got: Vec<f32> = memory.read(want.len() / (64 + nc) * pitch).unwrap();
                let kept: Vec<f32> =
                    got.chunks_exact(pitch).flat_map(|cell| cell[..64 + nc].to_vec()).collect();
                assert!(got.chunks_exact(pitch).all(|cell| cell[64 + nc..].iter().all(|&v| v == 9.0)));
                worst = worst.max(deviation(&kept, want));
            }
            rows.push(Row { name: format!("gradient {name}"), worst, limit: 1e-5, what: "of the largest" });

            let mut bad = maps[1].clone();
            let image = n - 1;
            let at = bad.len() / n * image + 70.min(bad.len() / n - 1);
            bad[at] = f32::NAN;
            if !half {
                stored[1].write(&bad).unwrap();
                device.enqueue(true).unwrap();
                let row = items_on_device.read::<ItemsRow>(1).unwrap()[0];
                let found = row.items().err().map(|error| error.to_string()).unwrap_or_default();
                let named = found.contains(&format!("image {image} "));
                rows.push(Row {
                    name: format!("not finite {name}"),
                    worst: f64::from(u8::from(!named)),
                    limit: 0.0,
                    what: "missed",
                });
            }
        }
    }
    rows
}
