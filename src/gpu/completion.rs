//! What becomes of a submission: the errors of its calls, and the wait for its end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::gpu::device::one_line;

/// The scopes that catch whatever a device has to say of a few calls.
pub(crate) struct Scopes([wgpu::ErrorScopeGuard; 3]);

impl Scopes {
    pub(crate) fn push(device: &wgpu::Device) -> Self {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        Self([OutOfMemory, Internal, Validation].map(|filter| device.push_error_scope(filter)))
    }

    /// Ends the scopes now; what they caught comes with the future, which may cross threads where they may not.
    pub(crate) fn pop(self) -> impl Future<Output = Option<String>> + use<> {
        let [memory, internal, validation] = self.0;
        let caught = (validation.pop(), internal.pop(), memory.pop());
        async {
            let errors = [caught.0.await, caught.1.await, caught.2.await];
            errors.into_iter().flatten().next().map(|error| match error {
                wgpu::Error::OutOfMemory { .. } => "out of memory".into(),
                other => one_line(&other.to_string()),
            })
        }
    }
}

/// The device went away before it answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost;

/// An answer that callbacks give and a future waits for: good once all of them are, bad with the first that is.
pub(crate) struct Signal {
    answer: Mutex<Answer>,
    given: Condvar,
}

struct Answer {
    /// Callbacks that have yet to come.
    missing: usize,
    outcome: Option<Result<(), Lost>>,
    waker: Option<Waker>,
}

impl Signal {
    /// One that so many callbacks answer.
    pub(crate) fn of(callbacks: usize) -> Self {
        let answer = Answer { missing: callbacks, outcome: (callbacks == 0).then_some(Ok(())), waker: None };
        Self { answer: Mutex::new(answer), given: Condvar::new() }
    }

    /// What one of the callbacks says.
    pub(crate) fn set(&self, outcome: Result<(), Lost>) {
        let waker = {
            let mut state = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            state.missing = state.missing.saturating_sub(1);
            if state.missing > 0 && outcome.is_ok() {
                return;
            }
            state.outcome.get_or_insert(outcome);
            self.given.notify_all();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(not(target_family = "wasm"))]
    fn is_set(&self) -> bool {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).outcome.is_some()
    }

    #[cfg(not(target_family = "wasm"))]
    fn is_set_within(&self, time: std::time::Duration) -> bool {
        let state = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given.wait_timeout_while(state, time, |state| state.outcome.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.outcome.is_some()
    }

    pub(crate) async fn finished(signal: &Self) -> Result<(), Lost> {
        std::future::poll_fn(|context| {
            let mut state = signal.answer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(outcome) = state.outcome {
                return Poll::Ready(outcome);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// How long a callback may take from the end of its submission.
#[cfg(not(target_family = "wasm"))]
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Sees to it that the callbacks of a submission come, without blocking the caller's thread.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn wait(device: &wgpu::Device, submission: wgpu::SubmissionIndex, signal: &Arc<Signal>) {
    // A submission that has ended by now needs no thread. If polling fails, waiting will too, and say so.
    let _ = device.poll(wgpu::PollType::Poll);
    if signal.is_set() {
        return;
    }
    let (device, answer) = (device.clone(), Arc::clone(signal));
    let waiting = std::thread::Builder::new().name("xent wait".into()).spawn(move || {
        let polled = device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        // Callbacks may have been collected by another thread's poll, and be on their way. After a loss none may come: the
        // answer is then that there is none.
        if polled.is_err() || !answer.is_set_within(GRACE) {
            answer.set(Err(Lost));
        }
    });
    if waiting.is_err() {
        signal.set(Err(Lost));
    }
}

/// The browser calls back by itself.
#[cfg(target_family = "wasm")]
pub(crate) fn wait(_: &wgpu::Device, _: wgpu::SubmissionIndex, _: &Arc<Signal>) {}
