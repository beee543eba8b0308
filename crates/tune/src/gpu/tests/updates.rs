//! The device's gathering, clipping, optimisers and moving average against the processor's.

use std::sync::Arc;

use super::super::loss::ItemsRow;
use super::super::optimiser::{CountersRow, DeviceOptimiser, OutcomeRow, RatesRow, StepArenas};
use super::super::{Machine, Memory};
use super::{Row, deviation};
use crate::data::rng::{Draw, Purpose};
use crate::train::clip::clip_global_norm;
use crate::train::ema::Ema;
use crate::train::optimiser::{Group, Kind, Matrix, Optimiser, ParamSlot};
use crate::train::schedule::{Schedule, ScheduleConfig};

/// For a GPU: with the shapes of a small network's largest convolutions.
pub(super) const LARGE: [[usize; 4]; 5] =
    [[3, 3, 256, 256], [1, 1, 384, 128], [3, 3, 1, 128], [3, 3, 3, 16], [1, 1, 77, 33]];

/// Kernel height and width, inputs and outputs of each convolution.
pub(super) const SMALL: [[usize; 4]; 4] = [[3, 3, 3, 16], [1, 1, 16, 8], [3, 3, 1, 24], [1, 1, 70, 5]];

fn slots(convs: &[[usize; 4]], kind: Kind) -> (Vec<ParamSlot>, usize) {
    let (mut slots, mut at) = (Vec::new(), 0usize);
    let mut push = |len: usize, matrix, group, lr_scale, trained: bool| {
        if trained {
            slots.push(ParamSlot { offset: at, len, matrix, group, lr_scale });
        }
        at = (at + len).next_multiple_of(16);
    };
    for (i, &[kh, kw, inputs, outputs]) in convs.iter().enumerate() {
        // Of its own for each, as `layer_decay` has it.
        let scale = 0.9f64.powi(i as i32) * if kind == Kind::MuSgd && i % 2 == 1 { 3.0 } else { 1.0 };
        let matrix = Matrix::conv((kh, kw), inputs, outputs);
        push(kh * kw * inputs * outputs, Some(matrix), Group::Weight, scale, true);
        push(outputs, None, Group::Norm, scale, true);
        push(outputs, None, Group::Bias, scale, true);
        // Running statistics.
        push(outputs, None, Group::Bias, 1.0, false);
    }
    (slots, at)
}

pub(super) fn compare(machine: &Arc<dyn Machine>, convs: &[[usize; 4]]) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let (slots, len) = slots(convs, kind);
        let mut draw = Draw::new(3, 0, 0, Purpose::Init);
        let trained: Vec<bool> = {
            let mut trained = vec![false; len];
            slots.iter().for_each(|slot| trained[slot.range()].fill(true));
            trained
        };
        // Gaps between parameters are zero, in values and in gradients; running statistics have values but no gradient.
        let mut noise = |scale: f64| -> Vec<f32> {
            trained.iter().map(|&t| if t { (draw.normal() * scale) as f32 } else { 0.0 }).collect()
        };
        let mut params = noise(0.1);
        let config = ScheduleConfig { epochs: 5, batches: 4, batch: 16, ..ScheduleConfig::default() };
        let schedule = Schedule::new(config);
        let mut optimiser = Optimiser::new(kind, 0.9, len, &slots).unwrap();
        let mut ema = Ema::new(&params);
        let device = DeviceOptimiser::new(machine, kind, 0.9, 10.0, len, &slots).unwrap();
        let on_device =
            [&params, &vec![0.0; len], &vec![0.0; len], &params].map(|v| Memory::of(machine, v).unwrap());
        let [p, grads, gathered, average] = &on_device;
        let rates_on_device = Memory::zeros::<RatesRow>(machine, 1).unwrap();
        let outcome_on_device = Memory::zeros::<OutcomeRow>(machine, 1).unwrap();
        let arenas = StepArenas {
            params: p.address(),
            grads: grads.address(),
            gathered: gathered.address(),
            ema: average.address(),
            rates: rates_on_device.address(),
            outcome: outcome_on_device.address(),
        };
        let items = Memory::zeros::<ItemsRow>(machine, 1).unwrap();
        let bad = items.address() + 36;
        let mut sum = vec![0.0f32; len];
        for step in 0..4u64 {
            // Small, clipped, not finite, small.
            let scale = [0.01, 20.0, 1.0, 0.5][step as usize];
            for batch in 0..2 {
                let mut g = noise(scale);
                if step == 2 && batch == 0 {
                    g[5] = f32::INFINITY;
                }
                let left_out = step == 3 && batch == 1;
                items.write(&[0u32, 0, 0, 0, 0, 0, 0, 0, 0, u32::from(left_out)]).unwrap();
                grads.write(&g).unwrap();
                device.enqueue_gather(&arenas, bad).unwrap();
                if !left_out {
                    sum.iter_mut().zip(&g).for_each(|(s, g)| *s += g);
                }
            }
            let rates = schedule.at(3 + 4 * step);
            rates_on_device.write(&[device.row(&rates)]).unwrap();
            device.enqueue_step(&arenas).unwrap();
            let outcome = outcome_on_device.read::<OutcomeRow>(1).unwrap()[0];
            match clip_global_norm(&mut sum, &slots, 10.0) {
                Ok(norm) => {
                    assert_eq!(outcome.stepped, 1);
                    assert!((outcome.norm - norm).abs() < 1e-9 * norm);
                    optimiser.step(&mut params, &sum, &rates);
                    ema.update(&params);
                }
                Err(_) => assert_eq!((step, outcome.stepped), (2, 0)),
            }
            sum.fill(0.0);
            assert_eq!(gathered.read::<f32>(len).unwrap(), sum);
        }
        assert_eq!(device.counters().unwrap(), CountersRow { steps: 3, updates: 3 });
        let mut row = |what: &str, got: Vec<f32>, want: &[f32]| {
            let worst = deviation(&got, want);
            rows.push(Row {
                name: format!("{} {what}", kind.name()),
                worst,
                limit: 1e-6,
                what: "of the largest",
            });
        };
        row("parameters", p.read(len).unwrap(), &params);
        row("average", average.read(len).unwrap(), ema.values());
        let state = device.state().unwrap();
        for ((name, got), (known, want)) in state.iter().zip(&optimiser.state()) {
            assert_eq!(name, known);
            row(name, got.clone(), want);
        }
        // What was saved comes back.
        device.restore(CountersRow { steps: 9, updates: 8 }, &optimiser.state()).unwrap();
        assert_eq!(device.state().unwrap(), optimiser.state());
        assert_eq!(device.counters().unwrap(), CountersRow { steps: 9, updates: 8 });
    }
    rows
}
