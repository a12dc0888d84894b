//! Our own thread pool: threads spin a little between jobs, then park; an empty job costs a fraction of a microsecond.
#![expect(unsafe_code, reason = "a borrowed job is lent to threads that outlive the borrow's scope, and is waited for")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

/// Rounds of spinning before a waiting thread parks or yields.
const SPINS: usize = 4000;

/// Two pools that run at once on few cores make both slow: jobs of several threads take turns in a process.
static TURN: Mutex<()> = Mutex::new(());

/// What every thread runs: the number of the thread is its argument.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// Threads that run one job at a time.
pub struct Pool {
    threads: usize,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

struct Shared {
    /// Jobs begun so far: a new number is a new job.
    begun: AtomicUsize,
    /// Workers that have not ended the job.
    running: AtomicUsize,
    /// The job, as the address of a `Job` on the caller's stack.
    job: AtomicPtr<()>,
    parked: Vec<AtomicBool>,
    stop: AtomicBool,
    panicked: AtomicBool,
}

impl Pool {
    /// A pool of `threads`, the caller's own included.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            begun: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            parked: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let workers: Vec<_> = (1..threads)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let work = move || shared.work(number);
                std::thread::Builder::new()
                    .name(format!("rondo-{number}"))
                    .spawn(work)
                    .expect("a thread can be started")
            })
            .collect();
        let handles = workers.iter().map(|w| w.thread().clone()).collect();
        Pool { threads, shared, workers, handles }
    }

    /// How many threads run a job.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `job(number)` on every thread, and waits for all.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.threads == 1 {
            return job(0);
        }
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let job: Job = job;
        let shared = &*self.shared;
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        // Sequentially consistent with the parking in `wait_for_job`: either the worker sees the job or we see it parked.
        shared.begun.fetch_add(1, Ordering::SeqCst);
        for (parked, handle) in shared.parked.iter().zip(&self.handles) {
            if parked.swap(false, Ordering::SeqCst) {
                handle.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        // Workers use the job until they have ended, so even a panic must wait for them.
        wait(|| shared.running.load(Ordering::Acquire) == 0);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        match own {
            Err(panic) => resume_unwind(panic),
            Ok(()) => assert!(!panicked, "a worker thread panicked"),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.begun.fetch_add(1, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker's panic was told by `run`.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self, number: usize) {
        let mut seen = 0;
        loop {
            self.wait_for_job(number, seen);
            seen += 1;
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let job: *const Job<'_> = self.job.load(Ordering::Relaxed).cast();
            // SAFETY: `run` keeps the job alive until `running` is zero, and `begun` was read after it was stored.
            let job = unsafe { *job };
            if catch_unwind(AssertUnwindSafe(|| job(number))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    fn wait_for_job(&self, number: usize, seen: usize) {
        let there = || self.begun.load(Ordering::SeqCst) != seen;
        for _ in 0..SPINS {
            if there() {
                return;
            }
            std::hint::spin_loop();
        }
        while !there() {
            self.parked[number - 1].store(true, Ordering::SeqCst);
            if there() {
                self.parked[number - 1].store(false, Ordering::SeqCst);
                return;
            }
            std::thread::park();
        }
    }
}

/// Spins until `done`, and gives the core away now and then once that has taken long.
pub fn wait(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Lets threads pass only once all have come; can be used again and again.
pub struct Barrier {
    arrived: AtomicUsize,
    broken: AtomicBool,
}

impl Barrier {
    /// A barrier that nobody has come to.
    pub fn new() -> Self {
        Barrier { arrived: AtomicUsize::new(0), broken: AtomicBool::new(false) }
    }

    /// Forgets who came; no thread may be waiting.
    pub fn reset(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
    }

    /// Breaks the barrier if the thread panics before it drops this: the others must not wait for it.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// Waits until all of `threads` have come for the `round`th time, counted from 1.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn wait(&self, threads: usize, round: usize) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let broken = || self.broken.load(Ordering::Relaxed);
        wait(|| self.arrived.load(Ordering::Acquire) >= threads * round || broken());
        assert!(!broken(), "another thread panicked");
    }
}

/// See `Barrier::guard`.
pub struct Guard<'a>(&'a Barrier);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_once() {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).max(2);
        let pool = Pool::new(threads);
        let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..300 {
            if round % 100 == 50 {
                std::thread::sleep(std::time::Duration::from_millis(5)); // long enough to park
            }
            pool.run(&|number| {
                counts[number].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == round + 1));
        }
    }

    #[test]
    fn a_barrier_holds_back_the_fast() {
        let (pool, barrier, sum) = (Pool::new(3), Barrier::new(), AtomicUsize::new(0));
        for _ in 0..50 {
            sum.store(0, Ordering::Relaxed);
            barrier.reset();
            pool.run(&|_| {
                for round in 1..=20 {
                    sum.fetch_add(1, Ordering::Relaxed);
                    barrier.wait(3, round);
                    assert!(sum.load(Ordering::Relaxed) >= 3 * round);
                }
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
        let (pool, barrier) = (Pool::new(2), Barrier::new());
        for faulty in [0, 1] {
            barrier.reset();
            let run = || {
                pool.run(&|number| {
                    let _guard = barrier.guard();
                    assert!(number != faulty, "as wanted");
                    barrier.wait(2, 1);
                });
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            let count = AtomicUsize::new(0);
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 2);
        }
    }
}
