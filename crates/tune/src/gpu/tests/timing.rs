//! How long the passes take on a GPU, as replayed graphs.

use std::sync::Arc;

use onsa_compute::Trainable;
use onsa_compute::cuda::{CudaError, CudaGraph, Device, Event};

use super::super::augment::{ColourRow, DeviceAugment, DeviceImage, InputView, SampleRow};
use super::super::candidates::DeviceCandidates;
use super::super::loss::{DeviceLoss, HeadLevel, ItemsRow, LossPlaces, TargetTable};
use super::super::optimiser::{DeviceOptimiser, OutcomeRow, RatesRow, StepArenas};
use super::super::{Machine, Memory};
use super::losses;
use crate::data::augment::{AugmentConfig, SampleParams};
use crate::data::rng::{Draw, Purpose};
use crate::data::test_items::drawn_items;
use crate::models::{Model, Normalise, registry};
use crate::train::loss::LossConfig;
use crate::train::optimiser::Kind;
use crate::train::schedule::Rates;
use crate::train::slots::slots;

/// Median milliseconds of `work`, recorded and replayed.
fn median(device: &Device, work: impl FnOnce() -> Result<(), CudaError>) -> f32 {
    let stream = device.stream();
    let mut graph = CudaGraph::capture(&stream, work).unwrap();
    let events = [(); 2].map(|()| Event::new(device).unwrap());
    let mut times: Vec<f32> = (0..60)
        .map(|_| {
            events[0].record(&stream).unwrap();
            graph.replay().unwrap();
            events[1].record(&stream).unwrap();
            events[1].synchronize().unwrap();
            events[0].milliseconds_to(&events[1]).unwrap()
        })
        .skip(10)
        .collect();
    times.sort_by(f32::total_cmp);
    times[times.len() / 2]
}

/// Prints the times for `n` images of 640 px, 20 classes.
pub(super) fn print(device: &Device, machine: &Arc<dyn Machine>, n: usize) {
    let (size, nc) = (640, 20);
    let show = |what: &str, time: f32| println!("{what:32} batch {n:3}: {:8.1} us", time * 1e3);

    let items = drawn_items(64, &[(640, 480)]);
    let image = Memory::of(machine, &vec![77u8; 640 * 480 * 3 * 64]).unwrap();
    let place =
        |item: usize| DeviceImage { address: image.address() + (item * 640 * 480 * 3) as u64, width: 640 };
    let drawer = DeviceAugment::new(machine, Normalise::NONE).unwrap();
    let (mut samples, mut colours) = (Vec::new(), Vec::new());
    for item in 0..n {
        let params =
            SampleParams::draw(&AugmentConfig::default(), 5, 2, item % items.len(), items.len(), size);
        let plan = params.plan(&items, size as u32, (size, size));
        samples.push(SampleRow::new(&params, &plan, place));
        colours.push(ColourRow::new(&params.hsv.unwrap()));
    }
    let tables = (Memory::of(machine, &samples).unwrap(), Memory::of(machine, &colours).unwrap());
    let out = Memory::zeros::<u16>(machine, n * size * size * 8).unwrap();
    let input = InputView { address: out.address(), stride: 8, half: true };
    let addresses = [tables.0.address(), tables.1.address()];
    drawer.enqueue(addresses, input, [n, size, size]).unwrap();
    show("augment, mosaic", median(device, || drawer.enqueue(addresses, input, [n, size, size])));

    let case = (size, size, n, nc, 30);
    let mut draw = Draw::new(11, 0, 0, Purpose::Init);
    let maps = losses::maps(case, &mut draw);
    let targets = losses::targets(case, &mut draw);
    let table = TargetTable::new(&targets, n, (size, size), nc).unwrap();
    let bits =
        |map: &Vec<f32>| -> Vec<u16> { map.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect() };
    for half in [false, true] {
        let stored: Vec<Memory> = maps
            .iter()
            .map(|map| if half { Memory::of(machine, &bits(map)) } else { Memory::of(machine, map) }.unwrap())
            .collect();
        let grads: Vec<Memory> =
            maps.iter().map(|map| Memory::zeros::<f32>(machine, map.len()).unwrap()).collect();
        let level = |i: usize| HeadLevel {
            map: stored[i].address(),
            grad: grads[i].address(),
            h: size / (8 << i),
            w: size / (8 << i),
            map_pitch: 64 + nc,
            grad_pitch: 64 + nc,
            map_half: half,
            grad_half: half,
        };
        let levels: Vec<HeadLevel> = (0..3).map(level).collect();
        let rows = Memory::of(machine, &table.rows).unwrap();
        let starts = Memory::of(machine, &table.starts).unwrap();
        let items = Memory::zeros::<ItemsRow>(machine, 1).unwrap();
        let places = LossPlaces { targets: rows.address(), starts: starts.address(), items: items.address() };
        let loss =
            DeviceLoss::new(machine, &LossConfig::new(nc), n, &levels, places, table.rows.len()).unwrap();
        loss.enqueue(true).unwrap();
        let name = format!("loss, {} targets{}", table.rows.len(), if half { ", bf16" } else { "" });
        show(&name, median(device, || loss.enqueue(true)));
        if half {
            let finder = DeviceCandidates::new(machine, &loss).unwrap();
            finder.enqueue(0.25).unwrap();
            let begun = std::time::Instant::now();
            finder.enqueue(0.001).unwrap();
            let found = finder.collect(30_000).unwrap();
            println!("boxes above .001: {} images, {:?}", found.len(), begun.elapsed());
        }
    }

    let model = Model::build(&registry::find("yolo11n").unwrap().architecture(nc), [1, 64, 64]).unwrap();
    let trained = Trainable::all(&model.graph).params;
    let len = model.blank_params().values.len();
    let arenas = [(); 4].map(|()| Memory::of(machine, &vec![0.01f32; len]).unwrap());
    let rates = Memory::zeros::<RatesRow>(machine, 1).unwrap();
    let outcome = Memory::zeros::<OutcomeRow>(machine, 1).unwrap();
    let items = Memory::of(machine, &[0u32; 12]).unwrap();
    let step = StepArenas {
        params: arenas[0].address(),
        grads: arenas[1].address(),
        gathered: arenas[2].address(),
        ema: arenas[3].address(),
        rates: rates.address(),
        outcome: outcome.address(),
    };
    for kind in [Kind::Sgd, Kind::AdamW, Kind::MuSgd] {
        let optimiser =
            DeviceOptimiser::new(machine, kind, 0.9, 10.0, len, &slots(&model, &trained, kind)).unwrap();
        rates.write(&[optimiser.row(&Rates::constant(1e-4, 0.9, 1e-4))]).unwrap();
        let work = || {
            optimiser.enqueue_gather(&step, items.address())?;
            optimiser.enqueue_step(&step)
        };
        work().unwrap();
        show(&format!("{} with average, yolo11n", kind.name()), median(device, work));
    }
}
