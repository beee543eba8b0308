//! Progress of a run: a bar on a terminal, one line an epoch elsewhere; both on stderr.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use onsa_studio::worker::{self, Job};
use onsa_tune::train::observer::{EpochEnd, Observer, RunStart, Step};

use crate::output;

/// Shows a run to a person.
pub struct Progress {
    bar: ProgressBar,
    losses: Vec<String>,
    epochs: u32,
    first_epoch: u32,
    /// Whole epochs that this process has done, and when the first of them began.
    done: u32,
    began: Instant,
    /// Is told too where the studio has started this process.
    job: Option<&'static Job>,
}

impl Progress {
    /// Shows progress if `shown`; warnings always.
    pub fn new(shown: bool) -> Progress {
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  {msg}");
        bar.set_style(style.expect("the template is a constant and valid"));
        Progress {
            bar,
            losses: Vec::new(),
            epochs: 0,
            first_epoch: 1,
            done: 0,
            began: Instant::now(),
            job: worker::current(),
        }
    }

    fn tell(&self, tell: impl FnOnce(&Job)) {
        if let Some(job) = self.job {
            tell(job);
        }
    }

    fn line(&self, text: &str) {
        // Above the bar where there is one; indicatif would swallow the line where it is hidden.
        if self.bar.is_hidden() { output::note(text) } else { self.bar.println(text) }
    }

    /// Time left, from the pace so far: whole epochs with their validation, else the running epoch's steps.
    fn left(&self, step: &Step<'_>) -> Duration {
        let epochs_left = f64::from(self.epochs.saturating_sub(step.epoch));
        let share = f64::from(step.step) / f64::from(step.steps.max(1));
        let spent = self.began.elapsed().as_secs_f64();
        let epochs_done = f64::from(self.done) + share;
        Duration::from_secs_f64(spent / epochs_done.max(1e-9) * (epochs_left + 1.0 - share))
    }
}

/// `1:02:03` or `2:03`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `box 1.23  cls 0.88`.
fn named_losses(names: &[String], values: &[f32]) -> String {
    let pairs = names.iter().zip(values).map(|(name, value)| format!("{name} {value:.3}"));
    pairs.collect::<Vec<_>>().join("  ")
}

/// What the bar says beside its length.
fn step_text(names: &[String], step: &Step<'_>, images_so_far: f64, left: Duration) -> String {
    let elapsed = step.elapsed.as_secs_f64().max(1e-9);
    format!(
        "{}  {:.1} img/s  data wait {:.0} %  left {}",
        named_losses(names, step.losses),
        images_so_far / elapsed,
        step.waited.as_secs_f64() / elapsed * 100.0,
        clock(left)
    )
}

/// The line that stays of an epoch.
fn epoch_text(names: &[String], end: &EpochEnd<'_>) -> String {
    let mut text = format!("epoch {}/{}  {}", end.epoch, end.epochs, named_losses(names, end.losses));
    for (name, value) in end.metrics {
        text.push_str(&format!("  {name} {value:.3}"));
    }
    text.push_str(&format!(
        "  {:.1} img/s  data wait {:.0} %{}",
        end.images_per_second,
        end.data_wait_fraction * 100.0,
        if end.best { "  best" } else { "" }
    ));
    text
}

impl Observer for Progress {
    fn start(&mut self, run: &RunStart<'_>) {
        self.tell(|job| job.start(run));
        self.losses = run.losses.iter().map(|name| (*name).to_owned()).collect();
        (self.epochs, self.first_epoch) = (run.epochs, run.first_epoch);
        (self.done, self.began) = (0, Instant::now());
        self.line(&format!(
            "Training on {} images, validating on {}; epochs {} to {}; writing {}",
            run.train_images,
            run.val_images,
            run.first_epoch,
            run.epochs,
            run.run_dir.display()
        ));
    }

    fn epoch_start(&mut self, epoch: u32, epochs: u32, steps: u32) {
        self.bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        self.bar.set_length(u64::from(steps));
        self.bar.set_position(0);
    }

    fn step(&mut self, step: &Step<'_>) {
        self.tell(|job| job.step(step));
        // All batches but the last have this size, so the product is the epoch's count but for its last step.
        let images_so_far = step.images as f64 * f64::from(step.step);
        self.bar.set_message(step_text(&self.losses, step, images_so_far, self.left(step)));
        self.bar.set_position(u64::from(step.step));
    }

    fn validating(&mut self, done: usize, images: usize) {
        self.tell(|job| job.validating(done, images));
        self.bar.set_message("validating");
        self.bar.set_length(images as u64);
        self.bar.set_position(done as u64);
    }

    fn epoch_end(&mut self, end: &EpochEnd<'_>) {
        self.tell(|job| job.epoch(end));
        self.done += 1;
        self.line(&epoch_text(&self.losses, end));
        if end.epoch == end.epochs {
            self.bar.finish_and_clear();
        }
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }

    fn warning(&mut self, text: &str) {
        self.tell(|job| job.warning(text));
        self.bar.suspend(|| output::warning(text));
    }
}

/// A search: runs done, time left, the best so far.
pub struct SearchBar {
    bar: ProgressBar,
    /// When the budget ends.
    end: Arc<Mutex<Option<Instant>>>,
}

impl SearchBar {
    /// A bar on stderr if `shown`; warnings always.
    pub fn new(shown: bool, budget: Duration) -> SearchBar {
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let end = Arc::new(Mutex::new((!budget.is_zero()).then(|| Instant::now() + budget)));
        let known = Arc::clone(&end);
        let left = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let end = *known.lock().unwrap_or_else(PoisonError::into_inner);
            let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            // A bar that cannot show its time shows the rest.
            let _ = out.write_str(&clock(left));
        };
        let style = ProgressStyle::with_template("runs {bar:24} {pos}/{len}  left {left}  {msg}");
        bar.set_style(style.expect("the template is a constant and valid").with_key("left", left));
        if !bar.is_hidden() {
            // A run may take minutes: the time goes on meanwhile.
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        SearchBar { bar, end }
    }

    /// `done` of `all` runs are done, `spent` of `budget` seconds spent.
    pub fn at(&self, (done, all): (usize, usize), (spent, budget): (f64, f64), text: &str) {
        let left = Duration::from_secs_f64((budget - spent).clamp(0.0, 1e9));
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + left);
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(text.to_owned());
    }

    /// A line above the bar.
    pub fn line(&self, text: &str) {
        if self.bar.is_hidden() { output::note(text) } else { self.bar.println(text) }
    }

    /// A warning above the bar.
    pub fn warning(&self, text: &str) {
        self.bar.suspend(|| output::warning(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar over a known number of images.
pub struct Counting {
    bar: ProgressBar,
}

impl Counting {
    /// A bar named `what`, on stderr.
    pub fn new(what: &'static str) -> Counting {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  {per_sec}  left {eta}");
        bar.set_style(style.expect("the template is a constant and valid"));
        bar.set_prefix(what);
        Counting { bar }
    }

    /// `done` of `all` are done.
    pub fn at(&mut self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
    }

    /// An answer above the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| output::line(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["box", "cls", "dfl"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_step_shows_losses_rate_wait_and_time_left() {
        let step = Step {
            epoch: 1,
            step: 4,
            steps: 8,
            images: 8,
            losses: &[1.25, 0.5, 1.0],
            objects: 20,
            elapsed: Duration::from_secs(10),
            waited: Duration::from_millis(500),
        };
        assert_eq!(
            step_text(&names(), &step, 32.0, Duration::from_secs(3723)),
            "box 1.250  cls 0.500  dfl 1.000  3.2 img/s  data wait 5 %  left 1:02:03"
        );
    }

    #[test]
    fn an_epoch_leaves_one_line() {
        let end = EpochEnd {
            epoch: 2,
            epochs: 60,
            losses: &[1.0, 2.0, 3.0],
            metrics: &[("mAP50", 0.5), ("mAP50-95", 0.25)],
            best: true,
            images_per_second: 3.1,
            data_wait_fraction: 0.02,
        };
        assert_eq!(
            epoch_text(&names(), &end),
            "epoch 2/60  box 1.000  cls 2.000  dfl 3.000  mAP50 0.500  mAP50-95 0.250  3.1 img/s  data wait 2 %  best"
        );
    }

    #[test]
    fn clocks_read_well() {
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(600)), "10:00");
    }
}
