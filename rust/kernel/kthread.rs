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
///                 // Returns also when the thread is to stop.
///                 queue.changed.wait_interruptible(&mut jobs);
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
/// assert!(queue.into_unique_or_drop().is_some());
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
