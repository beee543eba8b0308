//! Every file that a run writes meets every fault of a disk: the error names the file, what stands on the disk is whole,
//! and the run continued from it gives the bytes of one that met no fault.

use super::*;
use crate::durable::Step as WriteStep;
use crate::durable::faults::{self, Fault, Faulty};

const FAULTS: [Fault; 8] = [
    Fault::NoSpace,
    Fault::IoError,
    Fault::ShortWrite,
    Fault::Killed(WriteStep::Create),
    Fault::Killed(WriteStep::Write),
    Fault::Killed(WriteStep::Sync),
    Fault::Killed(WriteStep::Rename),
    Fault::Killed(WriteStep::SyncFolder),
];

fn is_of_a_write(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::Write(_)
            | TrainError::State(state::StateError::Write(_))
            | TrainError::Evaluate(crate::evaluate::EvaluateError::Write(_))
    )
}

/// Every file below the run folder, with hidden ones.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    entries.filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
}

/// Runs until the fault, then on without one.
fn meet(folder: &Path, site: usize, fault: Fault, plots: &str, whole: &Path) {
    let name = format!("{site}-{fault:?}").replace(['(', ')'], "-");
    let recipe = recipe(folder, &name, &[("plots", plots)]);
    let run_dir = folder.join("runs").join(&name);
    let disk = Faulty::new(site, fault);
    let error = faults::with(&disk, || run_to_end(&recipe)).expect_err(&name);
    let path = disk.writes.borrow()[site].clone();
    assert!(is_of_a_write(&error), "{name}: {error:?}");
    assert!(error.to_string().contains(&path.display().to_string()), "{name}: {error}");
    assert!(error.hint().is_some(), "{name}: {error}");
    // What stands there is whole.
    let checkpoint = checkpoint_path(&run_dir);
    if checkpoint.is_file() {
        state::restore(&checkpoint).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for file in files(&run_dir.join("weights")) {
        if file.extension().is_some_and(|e| e == "safetensors") {
            onsa_intake::checkpoint::read(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
    if !run_dir.join("args.yaml").is_file() {
        assert!(path.ends_with("args.yaml"), "{name}: nothing is written before the arguments");
        return;
    }
    resume(&run_dir, &Changes::default(), &mut Silent, &AtomicBool::new(false))
        .map_or_else(|e| assert!(matches!(e, TrainError::Finished { .. }), "{name}: {e}"), drop);
    for weights in ["weights/last.safetensors", "weights/best.safetensors"] {
        assert!(bytes(&run_dir, weights) == bytes(whole, weights), "{name}: {weights} differs");
    }
    let left: Vec<PathBuf> =
        files(&run_dir).into_iter().filter(|f| f.extension().is_some_and(|e| e == "onsa-scratch")).collect();
    assert!(left.is_empty() || matches!(fault, Fault::Killed(_)) && plots == "true", "{name}: {left:?}");
}

#[test]
fn every_write_of_a_run_can_fail_in_every_way_and_the_run_goes_on_from_what_is_there() {
    let data = drawn();
    let counting = Faulty::counting();
    let whole = faults::with(&counting, || run_to_end(&recipe(data.path(), "whole", &[]))).unwrap();
    let sites = counting.writes.borrow().clone();
    for file in [
        "args.yaml",
        "provenance.json",
        "last.safetensors",
        "best.safetensors",
        "results.csv",
        "state.safetensors",
    ] {
        assert!(sites.iter().any(|s| s.ends_with(file)), "{file} is not written durably: {sites:?}");
    }
    for site in 0..sites.len() {
        for fault in FAULTS {
            meet(data.path(), site, fault, "false", &whole.run_dir);
        }
    }
    println!("{} writes x {} faults", sites.len(), FAULTS.len());
}

#[test]
fn a_full_disk_at_any_plot_or_report_leaves_the_weights_and_is_made_good() {
    let data = drawn();
    let plots = [("plots", "true")];
    let counting = Faulty::counting();
    let whole = faults::with(&counting, || run_to_end(&recipe(data.path(), "whole", &plots))).unwrap();
    let sites = counting.writes.borrow().clone();
    let last_state = sites.iter().rposition(|s| s.ends_with("state.safetensors")).unwrap();
    assert!(sites.len() - last_state > 10, "plots and report are written durably: {sites:?}");
    for (site, path) in sites.iter().enumerate().skip(last_state + 1) {
        meet(data.path(), site, Fault::NoSpace, "true", &whole.run_dir);
        let run_dir = data.path().join("runs").join(format!("{site}-NoSpace"));
        assert!(run_dir.join("report.html").is_file(), "{}", path.display());
    }
}

#[test]
fn a_disk_that_is_really_full_is_named_and_the_run_goes_on_once_there_is_space() {
    let data = drawn();
    let whole = run_to_end(&recipe(data.path(), "whole", &[])).unwrap();
    let small = data.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = |options: &str| {
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "onsa-test"])
            .arg(&small)
            .output();
        status.is_ok_and(|o| o.status.success())
    };
    let size = std::fs::metadata(checkpoint_path(&whole.run_dir)).unwrap().len();
    // Room for one checkpoint and a half: the second save finds the disk full.
    if !mount(&format!("size={}", size + size / 2)) {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let project = small.display().to_string();
    let result = run_to_end(&recipe(data.path(), "full", &[("project", &project)]));
    let run_dir = small.join("full");
    let outcome = (|| {
        let error = result.err().ok_or("the run did not notice")?;
        let whole_state =
            !checkpoint_path(&run_dir).is_file() || state::restore(&checkpoint_path(&run_dir)).is_ok();
        mount(&format!("remount,size={}", size * 20));
        let resumed = resume(&run_dir, &Changes::default(), &mut Silent, &AtomicBool::new(false));
        let same = resumed.is_ok()
            && bytes(&run_dir, "weights/last.safetensors")
                == bytes(&whole.run_dir, "weights/last.safetensors");
        Ok::<_, &str>((error.to_string(), whole_state, same, resumed.err().map(|e| e.to_string())))
    })();
    let unmounted = std::process::Command::new("umount").arg(&small).status();
    assert!(unmounted.is_ok_and(|s| s.success()));
    let (error, whole_state, same, resumed) = outcome.unwrap();
    assert!(error.contains("the disk is full") && error.contains("small/full"), "{error}");
    assert!(whole_state && same, "{resumed:?}");
}
