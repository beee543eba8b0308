//! The threads of one pass, which go through its steps together.
//!
//! A pass has a thousand short loops. Between two of them a thread pool's workers fall asleep, and waking them takes about as
//! long as the loop; here they wait awake for a while. They sleep in the end, for whom they wait may have lost its processor
//! to another thread and needs theirs. The thread that runs the pass opens each loop, all others join; each thread
//! takes the items of its own share in order, so that what it wrote in one step is near it in the next, and then those that
//! are left of the others' shares.
//!
//! Which thread takes an item never changes what the item computes.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rayon::prelude::*;

use super::scratch::Shared;

/// Turns that a thread waits awake: a tenth of a millisecond, longer than most of what a pass does alone.
const AWAKE: u32 = 4096;

/// Turns after that in which it offers its processor to others: about a millisecond where nobody wants it.
const YIELDING: u32 = 2000;

/// The upper half of [`Team::state`] at the end of a pass.
const END: u64 = u32::MAX as u64;

/// The lower half of [`Team::state`].
const INSIDE: u64 = u32::MAX as u64;

/// A loop: its body and its number of items.
type Loop<'a> = (&'a (dyn Fn(usize) + Sync), usize);

/// A counter in a cache line of its own (processors fetch lines by pairs).
#[repr(align(128))]
#[derive(Default)]
struct Share(AtomicUsize);

struct Team {
    /// Upper half: how often a loop was opened or closed, so odd while one is open. Lower half: the helpers that are in it.
    state: AtomicU64,
    /// The open loop. Written while none is open and nobody inside.
    current: UnsafeCell<Option<Loop<'static>>>,
    /// The next item of each thread's share.
    shares: Vec<Share>,
    /// Threads that sleep until the state changes, or are about to.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    changed: Condvar,
}

// SAFETY: `current` is written by the leader alone, while no helper can enter or is inside (see `open`).
unsafe impl Sync for Team {}

thread_local! {
    /// The team that this thread leads, and its number there.
    static LEADING: Cell<Option<(*const Team, usize)>> = const { Cell::new(None) };
}

/// Runs `pass` on a thread of the pool; the others help with its [`for_each`] loops.
pub(crate) fn run<R: Send>(pool: &rayon::ThreadPool, pass: impl FnOnce() -> R + Send) -> R {
    let threads = pool.current_num_threads();
    pool.scope(|scope| {
        let me = rayon::current_thread_index().expect("a scope runs in its pool");
        let shares = (0..threads).map(|_| Share::default()).collect();
        let team = Arc::new(Team {
            state: AtomicU64::new(0),
            current: UnsafeCell::new(None),
            shares,
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            changed: Condvar::new(),
        });
        let helpers = Arc::clone(&team);
        if threads > 1 {
            scope.spawn_broadcast(move |_, context| {
                if context.index() != me {
                    helpers.help(context.index());
                }
            });
        }
        let _leading = Leading::begin(&team, me);
        pass()
    })
}

/// Calls `body` with each of `0..count`, on all threads of the pass; outside of one, on those of the current pool.
pub(crate) fn for_each(count: usize, body: impl Fn(usize) + Sync) {
    match LEADING.take() {
        None => (0..count).into_par_iter().for_each(&body),
        Some((team, me)) => {
            let _leading = Again((team, me));
            // SAFETY: `Leading` keeps the team alive for as long as the thread leads it.
            let team = unsafe { &*team };
            if count == 1 || team.shares.len() == 1 {
                (0..count).for_each(body);
            } else {
                team.open(me, (&body, count));
            }
        }
    }
}

/// Calls `body` with the number of each chunk of `len` elements (the last may be shorter) and the chunk.
pub(crate) fn for_each_chunk<T: Send>(data: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let (all, data) = (data.len(), Shared(data.as_mut_ptr()));
    for_each(all.div_ceil(len), |chunk| {
        let start = chunk * len;
        // SAFETY: chunks are disjoint parts of the borrowed slice, and each number is taken once.
        body(chunk, unsafe { std::slice::from_raw_parts_mut(data.get().add(start), len.min(all - start)) });
    });
}

/// While it lives, its thread leads the team; then the helpers go home.
struct Leading<'a>(&'a Team);

impl<'a> Leading<'a> {
    fn begin(team: &'a Team, me: usize) -> Leading<'a> {
        LEADING.set(Some((team, me)));
        Leading(team)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        LEADING.set(None);
        self.0.state.store(END << 32, Ordering::SeqCst);
        self.0.wake();
    }
}

/// Within a loop its thread leads nothing, so that a loop in a loop goes to the pool; then again.
struct Again((*const Team, usize));

impl Drop for Again {
    fn drop(&mut self) {
        LEADING.set(Some(self.0));
    }
}

impl Team {
    /// Opens a loop and returns when all its items are done.
    fn open(&self, me: usize, (body, count): Loop) {
        let threads = self.shares.len();
        for (thread, share) in self.shares.iter().enumerate() {
            share.0.store(thread * count / threads, Ordering::Relaxed);
        }
        // SAFETY: no loop is open and no helper inside, for `Open` waited for that; the lifetime ends no earlier than
        // this call, which `Open` keeps from ending, also by a panic, while a helper is inside.
        unsafe {
            let body = std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(body);
            *self.current.get() = Some((body, count));
        }
        self.state.fetch_add(1 << 32, Ordering::SeqCst);
        self.wake();
        let _open = Open(self);
        self.work(me, (body, count));
    }

    /// Takes items until none is left.
    fn work(&self, me: usize, (body, count): Loop) {
        let threads = self.shares.len();
        for thread in (me..threads).chain(0..me) {
            let end = (thread + 1) * count / threads;
            let share = &self.shares[thread].0;
            // Asked first: an exhausted counter is not written to.
            while share.load(Ordering::Relaxed) < end {
                let item = share.fetch_add(1, Ordering::Relaxed);
                if item < end {
                    body(item);
                }
            }
        }
    }

    /// Joins loop after loop, until the pass ends.
    fn help(&self, me: usize) {
        let mut seen = 0;
        loop {
            // An open loop that this thread has not been in, or the end.
            let news = |state: u64| {
                let turn = state >> 32;
                turn == END || (!turn.is_multiple_of(2) && turn != seen)
            };
            let state = self.wait_for(news);
            let turn = state >> 32;
            if turn == END {
                return;
            }
            // One more inside, if that loop is still open.
            if self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                seen = turn;
                let _inside = Inside(self);
                // SAFETY: the leader writes only when nobody is inside.
                let current = unsafe { *self.current.get() };
                self.work(me, current.expect("an open loop is there"));
            }
        }
    }

    /// Waits for a state, awake at first.
    fn wait_for(&self, wanted: impl Fn(u64) -> bool) -> u64 {
        for _ in 0..AWAKE {
            let state = self.state.load(Ordering::Acquire);
            if wanted(state) {
                return state;
            }
            std::hint::spin_loop();
        }
        for _ in 0..YIELDING {
            let state = self.state.load(Ordering::Acquire);
            if wanted(state) {
                return state;
            }
            std::thread::yield_now();
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        // Who changes the state looks afterwards whether someone sleeps; this one says so before it looks at the state. In
        // this order at least one of the two sees the other.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        loop {
            let state = self.state.load(Ordering::SeqCst);
            if wanted(state) {
                self.asleep.fetch_sub(1, Ordering::Relaxed);
                return state;
            }
            bed = self.changed.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After each change of the state that someone may wait for.
    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) > 0 {
            // Nobody is between its look at the state and its sleep while the lock is held.
            let _bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.changed.notify_all();
        }
    }
}

/// An open loop; closes it and waits until no helper is inside.
struct Open<'a>(&'a Team);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_add(1 << 32, Ordering::AcqRel);
        self.0.wait_for(|state| state & INSIDE == 0);
    }
}

/// A helper in a loop.
struct Inside<'a>(&'a Team);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_item_of_every_loop_is_done_once() {
        for threads in [1, 2, 3, 7] {
            let pool = pool(threads);
            for _ in 0..20 {
                let counts: Vec<AtomicU32> = (0..100).map(|_| AtomicU32::new(0)).collect();
                let sum = run(&pool, || {
                    for count in 0..=100 {
                        for_each(count, |i| {
                            counts[i].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    let mut squares = vec![0; 50];
                    for_each_chunk(&mut squares, 7, |chunk, part| {
                        part.iter_mut().enumerate().for_each(|(i, x)| *x = (chunk * 7 + i).pow(2));
                    });
                    squares.iter().sum::<usize>()
                });
                assert_eq!(sum, (0..50usize).map(|i| i * i).sum());
                for (i, count) in counts.iter().enumerate() {
                    assert_eq!(count.load(Ordering::Relaxed), 100 - i as u32);
                }
            }
        }
    }

    #[test]
    fn threads_that_fell_asleep_are_woken() {
        let pool = pool(3);
        let sum = AtomicUsize::new(0);
        run(&pool, || {
            for round in 0..50 {
                // Alone for longer than the others wait awake; then one item keeps the others waiting.
                std::thread::sleep(std::time::Duration::from_micros(300 * (round % 3)));
                for_each(3, |i| {
                    if i as u64 == round % 4 {
                        std::thread::sleep(std::time::Duration::from_micros(500));
                    }
                    sum.fetch_add(i, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 150);
    }

    #[test]
    fn all_threads_take_part() {
        let pool = pool(3);
        let waiting = std::sync::Barrier::new(3);
        // Ends only if three items are in work at the same time.
        run(&pool, || {
            for_each(3, |_| {
                waiting.wait();
            })
        });
    }

    #[test]
    fn outside_of_a_pass_and_within_a_loop_the_pool_is_used() {
        let done = AtomicU32::new(0);
        let count = |_: usize| {
            done.fetch_add(1, Ordering::Relaxed);
        };
        for_each(10, count);
        run(&pool(2), || for_each(4, |_| for_each(10, count)));
        assert_eq!(done.load(Ordering::Relaxed), 50);
    }

    #[test]
    fn a_panic_in_any_item_ends_the_pass_and_not_the_pool() {
        let pool = pool(2);
        for bad in [0, 40] {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(&pool, || for_each(41, |i| assert!(i != bad)));
            }));
            assert!(result.is_err(), "item {bad}");
            let sum = AtomicUsize::new(0);
            run(&pool, || {
                for_each(5, |i| {
                    sum.fetch_add(i, Ordering::Relaxed);
                })
            });
            assert_eq!(sum.load(Ordering::Relaxed), 10);
        }
    }
}
