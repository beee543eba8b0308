//! A model behind a bounded queue: one thread of its own that takes what waits and runs it as batches.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use onsa_tune::boxes::Detection;
use onsa_tune::data::letterbox::Letterbox;
use onsa_tune::engine::{Inference, Place};
use onsa_tune::evaluate::{Postprocess, nms};
use onsa_tune::models::Task;
use onsa_tune::models::open::Opened;
use onsa_tune::predict::guess::likeliest;
use onsa_tune::predict::{Fit, Reduction, View};
use tokio::sync::{Semaphore, oneshot};

use super::metrics::Metrics;

/// A picture as the network takes it.
pub struct Fitted {
    /// Where it lies in a detector's input; none of a classifier, which sees the middle square.
    pub letterbox: Option<Letterbox>,
    /// Height and width of the input.
    pub size: (usize, usize),
    /// `[height, width, channels]`, 0 to 1.
    pub input: Vec<f32>,
}

/// What a network says of a picture.
#[derive(Clone, Debug)]
pub enum Found {
    /// A detector: boxes in pixels of the picture.
    Boxes(Vec<Detection>),
    /// A classifier: the likeliest classes and their probabilities.
    Classes(Vec<(u32, f64)>),
}

/// A picture ready for the network, and where its answer goes.
pub struct Job {
    /// The picture.
    pub fitted: Fitted,
    /// Which boxes are wanted.
    pub rules: Postprocess,
    /// Who waits.
    pub reply: oneshot::Sender<Result<Found, String>>,
}

/// A model that can be asked.
pub struct Served {
    /// By which it is asked for.
    pub name: String,
    /// Class names.
    pub names: Vec<String>,
    /// What it answers with.
    pub task: Task,
    /// Long side of its input, pixels.
    pub imgsz: usize,
    /// Channels of its input.
    pub channels: usize,
    /// How pictures are fitted to a detector.
    pub fit: (Fit, Reduction),
    /// The network's name, such as `yolo11n`.
    pub architecture: String,
    /// Licence of the weights, where it is known.
    pub licence: Option<String>,
    /// One permit a request from its decoding to its answer.
    pub places: Arc<Semaphore>,
    jobs: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
}

/// What a model's thread needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Requests that may be under way.
    pub queue: usize,
    /// Most pictures of a batch.
    pub batch: usize,
    /// How long a batch is waited for.
    pub gather: Duration,
}

impl Served {
    /// Starts a model's thread. It ends when the model is dropped.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        name: String,
        opened: &Opened,
        imgsz: usize,
        running: Running,
        place: Place,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Served> {
        let (jobs, inbox) = sync_channel(running.queue);
        let waiting = Arc::new(AtomicUsize::new(0));
        let network = Inference::new(&opened.model, opened.params.clone(), place);
        let counted = Arc::clone(&waiting);
        std::thread::Builder::new()
            .name(format!("onsa-serve-{name}"))
            .spawn(move || work(network, &inbox, running, &counted, &metrics))?;
        let is_onnx = opened.weights.as_ref().is_some_and(|w| w.is_onnx);
        Ok(Served {
            name,
            names: opened.names.clone(),
            task: opened.model.task(),
            imgsz,
            channels: opened.model.architecture.image_channels,
            // As `onsa predict` has it.
            fit: if is_onnx {
                (Fit::Square, Reduction::Antialiased)
            } else {
                (Fit::Tight, Reduction::Linear)
            },
            architecture: opened.model.architecture.name(),
            licence: opened.weights.as_ref().map(|w| w.licence.clone()),
            places: Arc::new(Semaphore::new(running.queue)),
            jobs,
            waiting,
        })
    }

    /// A picture as this model's network takes it.
    pub fn prepare(task: Task, imgsz: usize, fit: (Fit, Reduction), image: &View) -> Fitted {
        match task {
            Task::Detect => {
                let (letterbox, input) = image.preprocess(imgsz, fit.0, fit.1);
                Fitted { letterbox: Some(letterbox), size: (letterbox.height, letterbox.width), input }
            }
            Task::Classify => {
                Fitted { letterbox: None, size: (imgsz, imgsz), input: image.centre(imgsz as u32) }
            }
        }
    }

    /// Puts a job in the queue; false where the model's thread has gone. The caller holds a place, so there is room.
    pub fn send(&self, job: Job) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.jobs.try_send(job).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// Jobs that no batch has taken yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

fn work(
    mut network: Inference,
    inbox: &Receiver<Job>,
    running: Running,
    waiting: &AtomicUsize,
    metrics: &Metrics,
) {
    while let Ok(first) = inbox.recv() {
        let mut jobs = vec![first];
        let deadline = Instant::now() + running.gather;
        while jobs.len() < running.batch {
            let left = deadline.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(left) {
                Ok(job) => jobs.push(job),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        waiting.fetch_sub(jobs.len(), Ordering::Relaxed);
        // Nobody waits any more for those whose client has gone.
        jobs.retain(|job| !job.reply.is_closed());
        let mut by_size: HashMap<(usize, usize), Vec<Job>> = HashMap::new();
        for job in jobs {
            by_size.entry(job.fitted.size).or_default().push(job);
        }
        for (size, mut jobs) in by_size {
            while !jobs.is_empty() {
                // Powers of two: few sizes of batch, so that their plans are made once and kept.
                let count = 1 << jobs.len().ilog2();
                let batch: Vec<Job> = jobs.drain(..count).collect();
                metrics.ran(count);
                answer(&mut network, size, batch);
            }
        }
    }
}

/// Runs a batch of pictures of one size and answers each.
fn answer(network: &mut Inference, (height, width): (usize, usize), mut batch: Vec<Job>) {
    let mut images = Vec::with_capacity(batch.len() * height * width * network.channels());
    for job in &mut batch {
        images.append(&mut job.fitted.input);
    }
    let size = [batch.len(), height, width];
    let found = match network.model().task() {
        Task::Detect => detect(network, size, &images, &batch),
        Task::Classify => classify(network, size, &images),
    };
    match found {
        Ok(all) => {
            for (job, kept) in batch.into_iter().zip(all) {
                // A client that has gone meanwhile needs no answer.
                let _ = job.reply.send(Ok(kept));
            }
        }
        Err(error) => {
            for job in batch {
                let _ = job.reply.send(Err(error.clone()));
            }
        }
    }
}

fn detect(
    network: &mut Inference,
    size: [usize; 3],
    images: &[f32],
    batch: &[Job],
) -> Result<Vec<Found>, String> {
    let pool = network.pool();
    let maps = network.run(size, images).map_err(|e| e.to_string())?;
    let head = maps.head().map_err(|e| e.to_string())?;
    pool.install(|| {
        batch
            .iter()
            .enumerate()
            .map(|(i, job)| {
                let rules = &job.rules;
                let candidates = head
                    .candidates(i, rules.conf, rules.multi_label, rules.max_candidates)
                    .map_err(|e| e.to_string())?;
                let mut kept = nms(&candidates, rules.iou, rules.max_det, rules.agnostic);
                for detection in &mut kept {
                    if let Some(letterbox) = &job.fitted.letterbox {
                        detection.bbox = letterbox.box_to_source(&detection.bbox);
                    }
                }
                Ok(Found::Boxes(kept))
            })
            .collect()
    })
}

fn classify(network: &mut Inference, size: [usize; 3], images: &[f32]) -> Result<Vec<Found>, String> {
    let logits = network.logits(size, images).map_err(|e| e.to_string())?;
    likeliest(logits, size[0])
        .map(|all| all.into_iter().map(Found::Classes).collect())
        .map_err(|e| e.to_string())
}
