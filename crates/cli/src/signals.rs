//! Ctrl-C and SIGTERM: the first asks the run to stop cleanly, the second ends at once.
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;
use crate::output;

static STOP: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that a second Ctrl-C ended: 128 + SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// Starts to listen for Ctrl-C and SIGTERM; the flag turns true at the first one. Call it once, before the work.
///
/// # Errors
/// The system takes no signal handler.
pub fn stop_flag() -> Result<&'static AtomicBool, Failure> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
        output::note("\nStopping after this step, then saving. Press Ctrl-C again to end at once.");
    })
    .map_err(|error| Failure::from_error(&error))?;
    if let Some(job) = onsa_studio::worker::current() {
        job.watch(&STOP);
    }
    Ok(&STOP)
}
