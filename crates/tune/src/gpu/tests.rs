//! The kernels against the processor's code, on random inputs and awkward shapes: on the emulator in every test run,
//! and on a GPU where `on_the_gpu` is asked for.

mod augmentation;
mod boxes;
mod crops;
mod guesses;
mod losses;
mod timing;
mod updates;

use std::sync::Arc;

use onsa_compute::cuda::Device;

use super::emulator::Emulator;
use super::{Gpu, Machine};

/// A comparison's result.
struct Row {
    name: String,
    /// The largest deviation, in the measure that `what` names.
    worst: f64,
    /// Which must not be above this.
    limit: f64,
    what: &'static str,
}

impl Row {
    fn holds(&self) -> bool {
        self.worst <= self.limit
    }
}

/// The largest |a - b| over the largest |b|; infinite where a value is not finite.
fn deviation(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(f64::MIN_POSITIVE, |m, &v| m.max(f64::from(v).abs()));
    a.iter().zip(b).fold(0.0, |worst: f64, (&a, &b)| {
        let d = (f64::from(a) - f64::from(b)).abs() / scale;
        if d.is_nan() { f64::INFINITY } else { worst.max(d) }
    })
}

fn check(compare: impl Fn(&Arc<dyn Machine>) -> Vec<Row>) {
    let Some(machine) = Emulator::open() else { return };
    let rows = compare(&machine);
    assert!(!rows.is_empty());
    for row in rows {
        println!("{}: {:.3e} {} (limit {:.0e})", row.name, row.worst, row.what, row.limit);
        assert!(row.holds(), "{}: {:e} {}", row.name, row.worst, row.what);
    }
}

#[test]
fn samples_have_the_processors_pixels() {
    check(|machine| augmentation::compare(machine, &[(64, 6), (96, 2)]));
}

#[test]
fn crops_have_the_processors_pixels() {
    check(|machine| crops::compare(machine, &[(24, 20), (32, 3)]));
}

#[test]
fn guesses_are_judged_as_by_the_processor() {
    check(guesses::compare);
}

#[test]
fn losses_and_gradients_are_the_processors() {
    check(|machine| losses::compare(machine, &losses::SMALL));
}

#[test]
fn updates_are_the_processors() {
    check(|machine| updates::compare(machine, &updates::SMALL));
}

#[test]
fn candidates_are_the_processors() {
    check(boxes::compare);
}

/// Everything on a real GPU, larger, with times; goes on after a failure.
#[test]
#[ignore = "needs a GPU"]
fn on_the_gpu() {
    let device = Device::open(0).unwrap();
    let machine: Arc<dyn Machine> = Gpu::new(&device);
    println!("{:?}", device.info());
    let mut rows = augmentation::compare(&machine, &[(64, 6), (96, 3), (640, 5)]);
    rows.extend(crops::compare(&machine, &[(24, 20), (224, 64), (256, 5)]));
    rows.extend(guesses::compare(&machine));
    rows.extend(losses::compare(&machine, &losses::SMALL));
    rows.extend(losses::compare(&machine, &losses::LARGE));
    rows.extend(updates::compare(&machine, &updates::SMALL));
    rows.extend(updates::compare(&machine, &updates::LARGE));
    rows.extend(boxes::compare(&machine));
    for row in &rows {
        let mark = if row.holds() { "ok  " } else { "FAIL" };
        println!("{mark} {:56} {:.2e} {} (limit {:.0e})", row.name, row.worst, row.what, row.limit);
    }
    for n in [16, 64] {
        timing::print(&device, &machine, n);
    }
    let failed = rows.iter().filter(|row| !row.holds()).count();
    println!("{} comparisons, {failed} failed", rows.len());
    assert_eq!(failed, 0);
}
