//! The threads of the engine: a layer's tasks are handed out one by one to threads that are awake.
//!
//! A small layer is over in 20 µs. Waking a sleeping thread takes as long, and several times that on a virtual
//! machine, so a thread that has nothing to do looks for work for about a millisecond before it sleeps, as the
//! thread pools of inference engines do. What the looking costs is part of the energy of running a network, here
//! as there; between runs all threads sleep.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Looks without finding work before a thread sleeps; each is one `pause`, 10 to 50 ns.
const LOOKS: u32 = 30_000;

/// A task: its index, and the index of the thread that runs it.
type Work<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The calling thread and some others.
#[derive(Debug)]
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held while tasks run: one job at a time.
    busy: Mutex<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether there is a job that threads may join. A thread joins by counting itself in `joined` *before* it
    /// looks here; the job ends by closing *before* it waits for `joined` to become 0. Both in one total order
    /// (`SeqCst`): either the thread sees the end, or the end waits for the thread.
    open: AtomicBool,
    joined: AtomicUsize,
    /// The job: a pointer to a `Work`, valid while `open`.
    work: AtomicPtr<()>,
    tasks: AtomicUsize,
    next: AtomicUsize,
    asleep: Box<[AtomicBool]>,
    stop: AtomicBool,
    /// What a task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Team {
    /// Starts `threads - 1` threads; the caller of [`Team::run`] is the other one.
    ///
    /// # Errors
    ///
    /// The system starts no more.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let asleep = (1..threads).map(|_| AtomicBool::new(false)).collect();
        let mut team = Self {
            shared: Arc::new(Shared { asleep, ..Shared::default() }),
            helpers: Vec::new(),
            busy: Mutex::new(()),
        };
        for helper in 1..threads {
            let shared = Arc::clone(&team.shared);
            let builder = std::thread::Builder::new().name(format!("layerjoule-cpu-{helper}"));
            team.helpers.push(builder.spawn(move || shared.help(helper))?);
        }
        Ok(team)
    }

    /// Threads that work, the caller included.
    pub(super) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs `work` for each index below `tasks` and returns when all are done. `work` gets the index of the task
    /// and that of the thread, below [`Team::threads`]. Allocates nothing.
    ///
    /// A task must not call this for its own team.
    ///
    /// # Panics
    ///
    /// A task panicked. With several threads the others are done all the same.
    pub(super) fn run(&self, tasks: usize, work: Work<'_>) {
        if tasks <= 1 || self.helpers.is_empty() {
            (0..tasks).for_each(|task| work(task, 0));
            return;
        }
        let _one_at_a_time = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.work.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
        let job = OpenJob::new(shared);
        for (helper, asleep) in self.helpers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        shared.work_through(work, 0);
        drop(job);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// A job while threads may join it; closing it waits for those that did, on the way of a panic too.
struct OpenJob<'a>(&'a Shared);

impl<'a> OpenJob<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open.store(true, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for OpenJob<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::SeqCst);
        let mut left = LOOKS;
        while self.0.joined.load(Ordering::SeqCst) > 0 {
            // A helper that lost its processor may need this one.
            match left.checked_sub(1) {
                Some(fewer) => left = fewer,
                None => std::thread::yield_now(),
            }
            std::hint::spin_loop();
        }
    }
}

/// A thread while it takes part in a job.
struct Joined<'a>(&'a Shared);

impl<'a> Joined<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.joined.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.0.joined.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// What a helper does until the team is dropped.
    fn help(&self, thread: usize) {
        let mut left = LOOKS;
        while !self.stop.load(Ordering::Relaxed) {
            if self.open.load(Ordering::Relaxed) && self.join(thread) {
                left = LOOKS;
            } else if left > 0 {
                left -= 1;
                std::hint::spin_loop();
            } else {
                let asleep = &self.asleep[thread - 1];
                asleep.store(true, Ordering::SeqCst);
                // Looked at after saying so: whoever opens a job later will see it and wake us.
                if !self.open.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                asleep.store(false, Ordering::SeqCst);
                left = LOOKS;
            }
        }
    }

    /// Takes part in the job, if it is still open and has tasks left.
    fn join(&self, thread: usize) -> bool {
        if self.next.load(Ordering::Relaxed) >= self.tasks.load(Ordering::Relaxed) {
            std::hint::spin_loop();
            return false;
        }
        let _joined = Joined::new(self);
        let open = self.open.load(Ordering::SeqCst);
        if open {
            let work = self.work.load(Ordering::Relaxed).cast::<Work<'_>>();
            // SAFETY: the pointer was stored before `open` was set, and `Team::run`, in whose frame the reference
            // lies, neither returns nor unwinds before this thread has left `joined` (`OpenJob`, `Joined`).
            let work = unsafe { *work };
            self.work_through(work, thread);
        }
        open
    }

    /// Takes tasks until there are none; keeps the first panic.
    fn work_through(&self, work: Work<'_>, thread: usize) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(task, thread))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper cannot panic: it catches what its tasks throw.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_some_thread_of_the_team() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            // Often enough that threads join late, sleep and wake.
            for round in 0..2000 {
                let tasks = round % 17;
                let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                team.run(tasks, &|task, thread| {
                    assert!(thread < threads);
                    runs[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "round {round}");
            }
        }
    }

    #[test]
    fn a_team_that_slept_wakes_again() {
        let team = Team::new(3).unwrap();
        let asleep = || team.shared.asleep.iter().all(|asleep| asleep.load(Ordering::SeqCst));
        for _ in 0..3 {
            let done = AtomicUsize::new(0);
            // Each task waits for the other two: all three threads must be awake.
            team.run(3, &|_, _| {
                done.fetch_add(1, Ordering::SeqCst);
                while done.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
            while !asleep() {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_panic_of_a_task_reaches_the_caller_after_all_tasks_are_done() {
        let team = Team::new(2).unwrap();
        let done = AtomicUsize::new(0);
        let run = || {
            team.run(50, &|task, _| {
                done.fetch_add(1, Ordering::Relaxed);
                assert!(task != 20, "task twenty");
            });
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("task twenty")));
        assert_eq!(done.load(Ordering::Relaxed), 50);
        team.run(2, &|_, _| ());
    }

    #[test]
    fn two_callers_take_turns() {
        let team = Team::new(2).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..500).for_each(|_| {
                        team.run(7, &|task, _| {
                            total.fetch_add(task, Ordering::Relaxed);
                        })
                    });
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 2 * 500 * 21);
    }
}
