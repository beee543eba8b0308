//! Runs an iterator ahead of its consumer, in a thread of its own and within a bound.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The items of an iterator, in its order.
pub(crate) struct Prefetch<T> {
    mode: Mode<T>,
    wait: Duration,
}

enum Mode<T> {
    /// The consumer runs the iterator itself.
    Inline(Box<dyn Iterator<Item = T> + Send>),
    /// A thread runs it; `None` once the receiver has been dropped to end it.
    Ahead { receiver: Option<Receiver<Option<T>>>, producer: Option<JoinHandle<()>> },
    /// The last item has been delivered.
    Done,
}

/// The thread ended without delivering all items: it panicked, or could not be started.
#[derive(Debug)]
pub(crate) struct Lost;

impl<T: Send + 'static> Prefetch<T> {
    /// With `ahead` = 0 the items are made when they are asked for. Otherwise a thread makes them, at most `ahead`
    /// finished items waiting at a time.
    pub(crate) fn new(
        name: &str,
        ahead: usize,
        source: impl Iterator<Item = T> + Send + 'static,
    ) -> std::io::Result<Self> {
        if ahead == 0 {
            return Ok(Prefetch { mode: Mode::Inline(Box::new(source)), wait: Duration::ZERO });
        }
        let (sender, receiver) = sync_channel(ahead);
        let produce = move || {
            for item in source {
                if sender.send(Some(item)).is_err() {
                    return;
                }
            }
            // Tells the end of the items from the end of the thread. Nobody may be listening any more.
            let _ = sender.send(None);
        };
        let producer = std::thread::Builder::new().name(name.to_owned()).spawn(produce)?;
        let mode = Mode::Ahead { receiver: Some(receiver), producer: Some(producer) };
        Ok(Prefetch { mode, wait: Duration::ZERO })
    }

    /// The next item; `None` after the last.
    pub(crate) fn next(&mut self) -> Option<Result<T, Lost>> {
        let begin = Instant::now();
        let item = match &mut self.mode {
            Mode::Inline(source) => source.next().map(Ok),
            Mode::Ahead { receiver, .. } => match receiver.as_ref().map(Receiver::recv) {
                Some(Ok(item)) => item.map(Ok),
                Some(Err(_)) | None => Some(Err(Lost)),
            },
            Mode::Done => None,
        };
        if !matches!(item, Some(Ok(_))) {
            self.stop();
        }
        self.wait += begin.elapsed();
        item
    }

    /// How long [`Prefetch::next`] has taken in all.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }
}

impl<T> Prefetch<T> {
    fn stop(&mut self) {
        if let Mode::Ahead { receiver, producer } = &mut self.mode {
            // Without a receiver the thread's next delivery fails, which ends it.
            drop(receiver.take());
            if let Some(producer) = producer.take() {
                // A panic has been printed by its thread and is reported as `Lost`.
                let _ = producer.join();
            }
        }
        self.mode = Mode::Done;
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn keeps_the_order_and_ends() {
        for ahead in [0, 1, 3] {
            let mut items = Prefetch::new("test", ahead, 0..50).unwrap();
            let all: Vec<i32> = std::iter::from_fn(|| items.next()).map(Result::unwrap).collect();
            assert_eq!(all, (0..50).collect::<Vec<_>>());
            assert!(items.next().is_none());
        }
    }

    #[test]
    fn stays_within_its_bound_and_stops_when_dropped() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let source = std::iter::from_fn(move || Some(counter.fetch_add(1, Ordering::SeqCst)));
        let mut items = Prefetch::new("test", 2, source).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        drop(items);
        // One delivered, at most two waiting and one more whose delivery failed; the thread has been joined.
        assert!(made.load(Ordering::SeqCst) <= 4, "{made:?}");
    }

    #[test]
    fn a_panic_is_reported_once() {
        let source = (0..3).map(|i| if i == 1 { panic!("planted") } else { i });
        let mut items = Prefetch::new("test", 1, source).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        assert!(matches!(items.next(), Some(Err(Lost))));
        assert!(items.next().is_none());
    }
}
