// SPDX-License-Identifier: GPL-2.0

//! Kernel threads.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use crate::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::aref::ARef,
    task::Task, //
};

/// A kernel thread that runs a closure.
///
/// Dropping it asks the thread to stop, wakes it and waits until it is gone; see [`should_stop`]
/// for what the closure must do for that. So dropping may sleep, and the thread must not drop the
/// [`Thread`] it is itself: it would wait forever. A closure that has returned before is fine.
///
/// A thread that is dropped before it got to run never runs the closure; the closure is then
/// dropped together with the [`Thread`].
///
/// # Invariants
///
/// - `task` was created by `kthread_create_on_node()` with `run::<F>` and `closure`, and is a
///   kernel thread that nobody else stops.
/// - `closure` comes from [`KBox::into_raw`] of a `KBox<F>`. It belongs to the thread once that has
///   entered `run::<F>`, otherwise to this.
/// - `discard` is `discard::<F>`.
///
/// # Examples
///
/// A thread that waits for work until it is stopped:
///
/// ```
/// use kernel::{
///     kthread::{
///         self,
///         Thread, //
///     },
///     new_condvar,
///     new_mutex,
///     prelude::*,
///     sync::{
///         Arc,
///         CondVar,
///         Mutex, //
///     },
/// };
///
/// #[pin_data]
/// struct Queue {
///     #[pin]
///     jobs: Mutex<usize>,
///     #[pin]
///     changed: CondVar,
/// }
///
/// let queue = Arc::pin_init(
///     pin_init!(Queue {
///         jobs <- new_mutex!(0),
///         changed <- new_condvar!(),
///     }),
///     GFP_KERNEL,
/// )?;
///
/// let worker = Thread::run(c"doctest_worker", {
///     let queue = queue.clone();
///     move || {
///         let mut jobs = queue.jobs.lock();
///         while !kthread::should_stop() {
///             if *jobs == 0 {
///                 // Returns also when the thread is to stop, which is looked at next.
///                 let _ = queue.changed.wait_interruptible(&mut jobs);
///             } else {
///                 *jobs -= 1;
///             }
///         }
///     }
/// })?;
///
/// *queue.jobs.lock() += 1;
/// queue.changed.notify_one();
///
/// drop(worker);
/// // The thread is gone, and so is its closure.
/// assert!(Arc::into_unique_or_drop(queue).is_some());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it stops the thread at once"]
pub struct Thread {
    task: ARef<Task>,
    closure: *mut c_void,
    discard: unsafe fn(*mut c_void),
}

// SAFETY: A thread can be stopped, and its closure, which is `Send`, dropped, on any thread.
unsafe impl Send for Thread {}

// SAFETY: All that can be had from a shared reference is a `&Task`, which is `Sync`.
unsafe impl Sync for Thread {}

impl Thread {
    /// Starts a thread that runs `f`.
    ///
    /// `name` is what `ps` shows; `comm` has room for 15 bytes of it. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is no memory.
    /// - [`EINTR`] if the caller is killed while it waits for the thread to be created.
    pub fn run<F>(name: &CStr, f: F) -> Result<Self>
    where
        F: FnOnce() + Send + 'static,
    {
        let thread = Self::create(name, f)?;
        thread.task.wake_up();
        Ok(thread)
    }

    /// Creates a thread that does not run before it is woken up.
    fn create<F>(name: &CStr, f: F) -> Result<Self>
    where
        F: FnOnce() + Send + 'static,
    {
        let closure = KBox::into_raw(KBox::new(f, GFP_KERNEL)?).cast::<c_void>();

        // SAFETY:
        // - `run::<F>` is called at most once, by the new thread, with `closure`, which comes from
        //   a `KBox<F>`; `F` is `Send` and `'static`.
        // - The format takes one string; the name is copied.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(run::<F>),
                closure,
                bindings::NUMA_NO_NODE,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })
        .inspect_err(|_| {
            // SAFETY: There is no thread, so the closure is still ours.
            unsafe { discard::<F>(closure) }
        })?;

        // INVARIANT: The task was just created with all this, and only `Drop` stops it.
        Ok(Self {
            // SAFETY: The thread sleeps until someone wakes it up, so the task is valid. `Task` is
            // a transparent wrapper of `task_struct`.
            task: unsafe { &*task.cast::<Task>() }.into(),
            closure,
            discard: discard::<F>,
        })
    }

    /// The task of the thread.
    pub fn task(&self) -> &Task {
        &self.task
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, this is a kernel thread. It is valid, even if it is gone
        // already, since we hold a reference.
        let result = unsafe { bindings::kthread_stop(self.task.as_ptr()) };
        // `run` always returns 0: this is what the thread's frame returns if it saw the request to
        // stop before it called `run`.
        if result == EINTR.to_errno() {
            // SAFETY: The thread is gone and never entered `run`, so the closure is still ours, and
            // by the type invariants `discard` is the function for it.
            unsafe { (self.discard)(self.closure) };
        }
    }
}

/// Whether the current kernel thread is to return from its closure.
///
/// The closure of a [`Thread`] must return soon after this is true. It is false wherever the
/// current task is no kernel thread, and never becomes false again for a thread.
///
/// The request to stop also ends interruptible waits, those under way and those that follow: for
/// example [`CondVar::wait_interruptible`] returns as if a signal were pending. So a thread that
/// checks this before each such wait needs nothing else to be woken up; one that waits otherwise
/// must be woken up by whoever drops its [`Thread`].
///
/// [`CondVar::wait_interruptible`]: crate::sync::CondVar::wait_interruptible
pub fn should_stop() -> bool {
    let task = current!().as_ptr();
    // SAFETY: The current task is valid, and its flags are written by nobody else while it runs.
    let flags = unsafe { (*task).flags };
    // SAFETY: The current task is a kernel thread, which is all that this function needs.
    flags & bindings::PF_KTHREAD != 0 && unsafe { bindings::kthread_should_stop() }
}

/// What the new thread runs.
///
/// # Safety
///
/// `closure` must come from [`KBox::into_raw`] of a `KBox<F>`, whose ownership goes to this
/// function.
unsafe extern "C" fn run<F: FnOnce()>(closure: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements, this is a `KBox<F>` that is now ours.
    let f = unsafe { KBox::from_raw(closure.cast::<F>()) };
    KBox::into_inner(f)();
    0
}

/// Drops a closure that never ran.
///
/// # Safety
///
/// As for [`run`].
unsafe fn discard<F>(closure: *mut c_void) {
    // SAFETY: By the safety requirements, this is a `KBox<F>` that is now ours.
    drop(unsafe { KBox::from_raw(closure.cast::<F>()) });
}

#[cfg(CONFIG_RUST_KTHREAD_KUNIT_TEST)]
#[kunit_tests(rust_kthread)]
mod tests {
    use super::*;
    use crate::{
        new_condvar, new_mutex,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc,
            Completion,
            CondVar,
            Mutex, //
        },
    };

    /// Where a test and its thread meet.
    #[pin_data]
    struct Meeting {
        /// The thread got to run.
        #[pin]
        running: Completion,
        /// The thread is about to return.
        #[pin]
        done: Completion,
        /// How often the thread was woken up, for it to sleep with.
        #[pin]
        wakeups: Mutex<usize>,
        /// Never notified.
        #[pin]
        silence: CondVar,
        /// What the thread saw of [`should_stop`] when it returned.
        saw_stop: Atomic<bool>,
    }

    impl Meeting {
        fn new() -> Result<Arc<Self>> {
            Arc::pin_init(
                pin_init!(Self {
                    running <- Completion::new(),
                    done <- Completion::new(),
                    wakeups <- new_mutex!(0),
                    silence <- new_condvar!(),
                    saw_stop: Atomic::new(false),
                }),
                GFP_KERNEL,
            )
        }

        /// Sleeps until the thread is to stop, with nobody but that to end the sleep.
        fn sleep(&self) {
            let mut wakeups = self.wakeups.lock();
            while !should_stop() {
                let _ = self.silence.wait_interruptible(&mut wakeups);
                *wakeups += 1;
            }
            self.saw_stop.store(true, Relaxed);
        }
    }

    /// The closures of the tests hold an `Arc`: being the only owner shows that they are dropped.
    fn is_ours_alone(meeting: Arc<Meeting>) -> bool {
        Arc::into_unique_or_drop(meeting).is_some()
    }

    #[test]
    fn sleeping_thread_stops() -> Result {
        let meeting = Meeting::new()?;
        let thread = Thread::run(c"kunit_sleep", {
            let meeting = meeting.clone();
            move || {
                meeting.running.complete_all();
                meeting.sleep();
            }
        })?;

        meeting.running.wait_for_completion();
        assert!(!meeting.saw_stop.load(Relaxed));
        drop(thread);

        assert!(meeting.saw_stop.load(Relaxed));
        assert!(is_ours_alone(meeting));
        Ok(())
    }

    #[test]
    fn thread_may_return_before_it_is_stopped() -> Result {
        let meeting = Meeting::new()?;
        let thread = Thread::run(c"kunit_return", {
            let meeting = meeting.clone();
            move || {
                meeting.saw_stop.store(should_stop(), Relaxed);
                meeting.done.complete_all();
            }
        })?;

        meeting.done.wait_for_completion();
        // By now it has exited, or is about to.
        crate::time::delay::fsleep(crate::time::Delta::from_millis(20));
        drop(thread);

        assert!(!meeting.saw_stop.load(Relaxed));
        assert!(is_ours_alone(meeting));
        Ok(())
    }

    #[test]
    fn thread_that_never_ran_drops_its_closure() -> Result {
        let meeting = Meeting::new()?;
        let thread = Thread::create(c"kunit_never", {
            let meeting = meeting.clone();
            move || meeting.running.complete_all()
        })?;
        drop(thread);

        // Completes at once what would otherwise hang: nobody else is left to do it.
        assert!(is_ours_alone(meeting));
        Ok(())
    }

    #[test]
    fn thread_dropped_at_once_runs_whole_or_not_at_all() -> Result {
        for _ in 0..50 {
            let meeting = Meeting::new()?;
            drop(Thread::run(c"kunit_race", {
                let meeting = meeting.clone();
                move || meeting.sleep()
            })?);
            assert!(is_ours_alone(meeting));
        }
        Ok(())
    }

    #[test]
    fn thread_runs_its_closure_in_a_task_of_its_own() -> Result {
        let pid = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let thread = Thread::run(c"kunit_pid", {
            let pid = pid.clone();
            move || {
                pid.store(current!().pid(), Relaxed);
                while !should_stop() {
                    crate::time::delay::fsleep(crate::time::Delta::from_millis(1));
                }
            }
        })?;
        while pid.load(Relaxed) == 0 {
            crate::time::delay::fsleep(crate::time::Delta::from_millis(1));
        }

        assert_eq!(pid.load(Relaxed), thread.task().pid());
        assert!(pid.load(Relaxed) != current!().pid());
        Ok(())
    }

    #[test]
    fn two_threads_stop_one_by_one() -> Result {
        let (one, other) = (Meeting::new()?, Meeting::new()?);
        let sleeper = |meeting: &Arc<Meeting>| {
            let meeting = meeting.clone();
            Thread::run(c"kunit_two", move || {
                meeting.running.complete_all();
                meeting.sleep();
            })
        };
        let (first, second) = (sleeper(&one)?, sleeper(&other)?);
        one.running.wait_for_completion();
        other.running.wait_for_completion();

        drop(first);
        assert!(one.saw_stop.load(Relaxed));
        assert!(!other.saw_stop.load(Relaxed));
        drop(second);
        assert!(other.saw_stop.load(Relaxed));
        Ok(())
    }
}
