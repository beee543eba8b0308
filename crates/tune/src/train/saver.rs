//! One piece of work at a time beside the caller's, with its error kept until it is asked for.

use std::thread::JoinHandle;

/// Does one piece of work at a time on a thread of its own.
#[derive(Debug)]
pub struct Saver<E> {
    work: Option<JoinHandle<Result<(), E>>>,
}

impl<E> Default for Saver<E> {
    fn default() -> Saver<E> {
        Saver { work: None }
    }
}

impl<E: Send + 'static> Saver<E> {
    /// Whether the work before has ended.
    ///
    /// # Errors
    /// That of the work, once.
    pub fn is_idle(&mut self) -> Result<bool, E> {
        if self.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return Ok(false);
        }
        self.wait().map(|()| true)
    }

    /// Waits for the end of the work.
    ///
    /// # Errors
    /// That of the work, once.
    pub fn wait(&mut self) -> Result<(), E> {
        match self.work.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    /// Begins a piece of work; the one before must have been waited for.
    pub fn begin(&mut self, work: impl FnOnce() -> Result<(), E> + Send + 'static) {
        debug_assert!(self.work.is_none(), "one piece at a time");
        self.work = Some(std::thread::spawn(work));
    }
}

impl<E> Drop for Saver<E> {
    /// What was begun is ended, also where the caller fails.
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let _ = work.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn work_goes_on_beside_and_its_error_comes_back_once() {
        let (go, wait) = channel::<()>();
        let mut saver = Saver::default();
        assert_eq!(saver.is_idle(), Ok(true));
        saver.begin(move || {
            let _ = wait.recv();
            Err("the disk is full")
        });
        assert_eq!(saver.is_idle(), Ok(false));
        go.send(()).unwrap();
        assert_eq!(saver.wait(), Err("the disk is full"));
        assert_eq!(saver.is_idle(), Ok(true));
        assert_eq!(saver.wait(), Ok(()));
    }

    #[test]
    fn what_was_begun_is_ended_before_it_is_dropped() {
        let (tell, told) = channel();
        let mut saver: Saver<()> = Saver::default();
        saver.begin(move || {
            std::thread::yield_now();
            tell.send(7).unwrap();
            Ok(())
        });
        drop(saver);
        assert_eq!(told.try_recv(), Ok(7));
    }
}
