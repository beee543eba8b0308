//! A run that is asked to stop amid a step.

use super::*;

#[test]
fn a_step_that_is_stopped_changes_nothing_and_the_run_goes_on_as_if_it_had_not_begun() {
    let data = drawn();
    let whole = run_to_end(&recipe(data.path(), "whole", &[])).unwrap();
    let stopped_recipe = recipe(data.path(), "stopped", &[]);
    let outcome = train(&stopped_recipe, RunOptions::default(), &mut Silent, &AtomicBool::new(true)).unwrap();
    assert!(outcome.stopped);
    let (counters, arenas) = state::restore(&checkpoint_path(&outcome.run_dir)).unwrap();
    assert_eq!((counters.epoch, counters.batch, counters.optimiser_steps), (0, 0, 0));
    assert!(arenas["gathered"].iter().all(|g| *g == 0.0));
    let resumed = resume(&outcome.run_dir, &Changes::default(), &mut Silent, &NEVER).unwrap();
    assert!(!resumed.stopped);
    for weights in ["weights/last.safetensors", "weights/best.safetensors"] {
        assert!(bytes(&resumed.run_dir, weights) == bytes(&whole.run_dir, weights), "{weights} differs");
    }
}
