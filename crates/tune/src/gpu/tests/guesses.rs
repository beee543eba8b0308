//! The device's classification loss and its gradient against `CrossEntropy`; kept features against their values.

use std::sync::Arc;

use onsa_compute::cuda::{Precision, Tensor};

use super::super::cross_entropy::{DeviceCrossEntropy, LogitsView};
use super::super::loss::{ItemsRow, LossPlaces, TargetTable};
use super::super::{Machine, Memory};
use super::{Row, deviation};
use crate::data::batch::Target;
use crate::data::classify::label_of;
use crate::data::rng::{Draw, Purpose};
use crate::train::loss::{CrossEntropy, LossError};

/// Images, classes, elements from one image to the next.
const CASES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (3, 2, 2), (64, 10, 16), (7, 1000, 1000), (300, 131, 136)];

pub(super) fn compare(machine: &Arc<dyn Machine>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, (n, classes, pitch)) in CASES.into_iter().enumerate() {
        for (half, broken) in [(false, false), (true, false), (false, true)] {
            let mut draw = Draw::new(12, 0, index as u32, Purpose::Init);
            let mut logits: Vec<f32> = (0..n * classes).map(|_| (draw.normal() * 4.0) as f32).collect();
            if half {
                logits.iter_mut().for_each(|v| *v = half::bf16::from_f32(*v).to_f32());
            }
            let bad = n / 2;
            if broken {
                logits[bad * classes] = f32::INFINITY;
            }
            let weights: Vec<f32> = (0..classes).map(|c| 0.5 + c as f32 / classes as f32).collect();
            let target = |image: u32| Target { image, label: label_of((image * 7 + 1) % classes as u32) };
            let targets: Vec<Target> = (0..n as u32).map(target).collect();
            let mut want = vec![0.0; n * classes];
            let expected = CrossEntropy::new(weights.clone()).compute(&logits, n, &targets, Some(&mut want));

            let table = TargetTable::new(&targets, n, (32, 32), classes).unwrap();
            let wide = |values: &[f32], fill: f32| -> Vec<f32> {
                let row = |row: &[f32]| {
                    row.iter().copied().chain(std::iter::repeat_n(fill, pitch - classes)).collect::<Vec<_>>()
                };
                values.chunks_exact(classes).flat_map(row).collect()
            };
            let bits = |values: &[f32]| -> Vec<u16> {
                values.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect()
            };
            let values = wide(&logits, 99.0);
            let stored =
                if half { Memory::of(machine, &bits(&values)) } else { Memory::of(machine, &values) };
            let stored = stored.unwrap();
            let grads = Memory::of(machine, &vec![7.0f32; n * pitch]).unwrap();
            let rows_memory = Memory::of(machine, &table.rows).unwrap();
            let starts = Memory::of(machine, &table.starts).unwrap();
            let items = Memory::zeros::<ItemsRow>(machine, 1).unwrap();
            let places = LossPlaces {
                targets: rows_memory.address(),
                starts: starts.address(),
                items: items.address(),
            };
            let view = |address, half| LogitsView { address, pitch, half };
            let views = (view(stored.address(), half), view(grads.address(), false));
            let loss = DeviceCrossEntropy::new(machine, &weights, n, views, places).unwrap();
            loss.enqueue().unwrap();
            let got = items.read::<ItemsRow>(1).unwrap()[0].items();
            let kind = if half { "bf16" } else { "f32" };
            let name = format!("cross-entropy {n} x {classes} {kind}");
            let worst = match (expected, got) {
                (Ok(expected), Ok(got)) => {
                    let grads: Vec<f32> = grads.read(n * pitch).unwrap();
                    let dense: Vec<f32> =
                        grads.chunks_exact(pitch).flat_map(|row| row[..classes].to_vec()).collect();
                    let untouched =
                        grads.chunks_exact(pitch).all(|row| row[classes..].iter().all(|&v| v == 7.0));
                    let off = (got.cls - expected.cls).abs() / expected.cls.max(1e-9);
                    if untouched { off.max(deviation(&dense, &want)) } else { f64::INFINITY }
                }
                (Err(expected), Err(got)) if broken && expected == got => {
                    assert_eq!(got, LossError::NonFinite { image: bad });
                    0.0
                }
                _ => f64::INFINITY,
            };
            // Twice double precision's sums of a thousand terms, then one rounding to float32.
            rows.push(Row { name, worst, limit: 2e-7, what: "relative" });
        }
    }
    rows.extend(features(machine));
    rows
}

/// Rows of kept features in views of both kinds.
fn features(machine: &Arc<dyn Machine>) -> Vec<Row> {
    let (items, shape, stride) = ([4, 0, 4, 2], [4usize, 2, 3, 5], 8usize);
    let len: usize = shape[1..].iter().product();
    let values: Vec<f32> = (0..5 * len).map(|i| i as f32 * 0.5).collect();
    let stored = Memory::of(machine, &values).unwrap();
    let numbers = Memory::of(machine, &items).unwrap();
    [Precision::Float32, Precision::Bf16]
        .map(|precision| {
            let count = shape[..3].iter().product::<usize>() * stride;
            let half = precision == Precision::Bf16;
            let out = Memory::zeros::<f32>(machine, count).unwrap();
            let input = Tensor { address: out.address(), precision, pixel_stride: stride, shape };
            super::super::features::gather(machine, (&stored, len), numbers.address(), &input).unwrap();
            let got: Vec<f32> = if half {
                let bits: Vec<u16> = out.read(count).unwrap();
                bits.into_iter().map(|b| f32::from_bits(u32::from(b) << 16)).collect()
            } else {
                out.read(count).unwrap()
            };
            let want: Vec<f32> = items
                .iter()
                .flat_map(|&item: &i32| values[item as usize * len..][..len].chunks_exact(5))
                .flat_map(|pixel| pixel.iter().copied().chain([0.0; 3]))
                .collect();
            Row {
                name: format!("features {precision:?}"),
                worst: deviation(&got, &want),
                limit: 0.0,
                what: "relative",
            }
        })
        .into()
}
