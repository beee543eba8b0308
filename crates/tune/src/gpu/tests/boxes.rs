//! The device's search for boxes against `HeadMaps::candidates`.

use std::sync::Arc;

use super::super::candidates::{DeviceCandidates, Found};
use super::super::loss::{DeviceLoss, HeadLevel, LossPlaces};
use super::super::{Machine, Memory};
use super::{Row, losses};
use crate::data::rng::{Draw, Purpose};
use crate::evaluate::{HeadMaps, Level};
use crate::train::loss::LossConfig;

pub(super) fn compare(machine: &Arc<dyn Machine>) -> Vec<Row> {
    let case = (96, 64, 2, 5, 0);
    let (h, w, n, nc, _) = case;
    let maps = losses::maps(case, &mut Draw::new(4, 0, 0, Purpose::Init));
    let stored: Vec<Memory> = maps.iter().map(|map| Memory::of(machine, map).unwrap()).collect();
    let level = |i: usize| {
        let stride = 8 << i;
        HeadLevel {
            map: stored[i].address(),
            grad: 0,
            h: h / stride,
            w: w / stride,
            map_pitch: 64 + nc,
            grad_pitch: 0,
            map_half: false,
            grad_half: false,
        }
    };
    let levels: Vec<HeadLevel> = (0..3).map(level).collect();
    let places = LossPlaces { targets: 0, starts: 0, items: 0 };
    let loss = DeviceLoss::new(machine, &LossConfig::new(nc), n, &levels, places, 0).unwrap();
    let finder = DeviceCandidates::new(machine, &loss).unwrap();
    let views = (0..3)
        .map(|i| Level {
            values: &maps[i],
            height: levels[i].h,
            width: levels[i].w,
            stride: (8 << i) as f32,
            classes: 0..nc,
        })
        .collect();
    let head = HeadMaps::new(n, 16, views).unwrap();
    let mut rows = Vec::new();
    for (conf, limit) in [(0.001, 30_000), (0.25, 30_000), (0.25, 7), (0.999_999, 10)] {
        finder.enqueue(conf).unwrap();
        let (mut worst, mut count) = (0.0f64, 0);
        for (image, found) in finder.collect(limit).unwrap().into_iter().enumerate() {
            let want = head.candidates(image, conf, true, limit).unwrap();
            let Found::All(got) = found else { panic!("image {image}: {found:?}") };
            count += want.len();
            if got.len() != want.len() {
                worst = f64::INFINITY;
            }
            for (g, w) in got.iter().zip(&want) {
                // Scores that are equal but for rounding may change places.
                let same = g.class == w.class || (g.score - w.score).abs() < 1e-6;
                let b = [
                    (g.bbox.x1, w.bbox.x1),
                    (g.bbox.y1, w.bbox.y1),
                    (g.bbox.x2, w.bbox.x2),
                    (g.bbox.y2, w.bbox.y2),
                ];
                let off = b.iter().fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                worst =
                    worst.max(f64::from((g.score - w.score).abs() + if same { off } else { f32::INFINITY }));
            }
        }
        rows.push(Row {
            name: format!("{count} boxes above {conf}, at most {limit}"),
            worst,
            limit: 1e-3,
            what: "px and score",
        });
    }
    let mut bad = maps[2].clone();
    bad[64] = f32::NAN;
    stored[2].write(&bad).unwrap();
    finder.enqueue(0.25).unwrap();
    let noticed = matches!(finder.collect(9).unwrap()[..], [Found::NotFinite, Found::All(_)]);
    rows.push(Row {
        name: "a score that is not a number".into(),
        worst: f64::from(u8::from(!noticed)),
        limit: 0.0,
        what: "missed",
    });
    rows
}
