//! `onsa bench`: how fast a model runs here, and where its time goes.
use std::process::ExitCode;

use onsa_tune::bench::{BenchMode, OperatorShare, bench};
use onsa_tune::models::open;
use onsa_tune::train::recipe::table::{self, any};

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::output;
use crate::progress::Counting;

onsa_tune::arguments! {
    /// The arguments of `bench` that a person gave.
    BenchArgs,
    /// The arguments of `bench`.
    BenchArguments {
        "Bench" {
            /// The model: a registered name such as yolo11n, or a checkpoint file. Its architecture is timed, not its weights.
            model: String = "yolo11n".to_owned(), any;
            /// The square input's side in pixels.
            imgsz: u32 = 640, table::image_size;
            /// Images in a batch.
            batch: u32 = 1, table::at_least_one;
            /// What is timed: train or predict.
            mode: String = "predict".to_owned(), any;
            /// Batches that are timed.
            rounds: u32 = 10, table::at_least_one;
            /// Where to compute: auto (a GPU where one can be used), cpu, cuda or cuda:N.
            device: Option<String> = None, any;
            /// Compute in bfloat16 on a GPU, and in training on processors that multiply it faster than float32;
            /// false means float32.
            half: bool = true, any;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "bench",
    about: "Time a model on this machine, operator by operator",
    positional: None,
    tables: &[BenchArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa bench model=yolo11n imgsz=640 batch=8 mode=train"],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = BenchArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let o = args.fill();
    let mode = match o.mode.as_str() {
        "train" => BenchMode::Train,
        "predict" => BenchMode::Predict,
        other => return Err(Failure::usage(format!("mode={other} is neither train nor predict"))),
    };
    let side = o.imgsz as usize;
    let source = open::find(&o.model, &[], false)?;
    let opened = open::open(&source, None, [side, side], false, 0)?;
    let place = super::place(o.device.as_deref(), o.half, o.threads)?;
    let mut counting = Counting::new("timing");
    let size = [o.batch as usize, side, side];
    let result =
        bench(&opened.model, size, mode, o.rounds as usize, &place, |done, all| counting.at(done, all));
    counting.finish();
    let result = result.map_err(|e| Failure::from_error(&e))?;
    if invocation.json {
        output::document(&result);
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!(
        "{:.1} images/s   {:.1} ms a batch   {:.0} GFLOP/s",
        result.images_per_second, result.ms_per_batch, result.gflops
    ));
    if let Some(bytes) = result.peak_memory_bytes {
        output::line(&format!(
            "peak memory {:.0} MiB, of which the plan {:.0} MiB",
            mebi(bytes as f64),
            mebi(result.arena_bytes as f64)
        ));
    }
    output::line(&format!(
        "data wait {:.0} % (batches are drawn before the clock starts; training shows its own)",
        100.0 * result.data_wait_fraction
    ));
    rows("operator", &result.operators);
    rows("convolution in,out,width,kernel,stride,groups", &result.slowest);
    Ok(ExitCode::SUCCESS)
}

fn mebi(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn rows(heading: &str, rows: &[OperatorShare]) {
    output::line(&format!("\n{heading:<46} {:>9} {:>7} {:>9}", "ms/batch", "share", "GFLOP/s"));
    for r in rows {
        let rate = if r.gflops > 0.0 { format!("{:.0}", r.gflops) } else { String::new() };
        output::line(&format!("{:<46} {:>9.2} {:>6.1}% {rate:>9}", r.name, r.ms, 100.0 * r.share));
    }
}
