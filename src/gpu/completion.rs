//! What becomes of a submission: the errors of its calls, and the wait for its end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::gpu::device::one_line;

/// Why something failed, where there was no memory for it.
pub(crate) const OUT_OF_MEMORY: &str = "out of memory";

/// The scopes that catch whatever a device has to say of a few calls, the innermost first: so they end if they are dropped.
pub(crate) struct Scopes([wgpu::ErrorScopeGuard; 3]);

impl Scopes {
    pub(crate) fn push(device: &wgpu::Device) -> Self {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let [memory, internal, validation] = [OutOfMemory, Internal, Validation].map(|filter| device.push_error_scope(filter));
        Self([validation, internal, memory])
    }

    /// Ends the scopes now; what they caught comes with the future, which may cross threads where they may not.
    pub(crate) fn pop(self) -> impl Future<Output = Option<String>> + use<> {
        let [validation, internal, memory] = self.0;
        let caught = (validation.pop(), internal.pop(), memory.pop());
        async {
            let errors = [caught.0.await, caught.1.await, caught.2.await];
            errors.into_iter().flatten().next().map(|error| match error {
                wgpu::Error::OutOfMemory { .. } => OUT_OF_MEMORY.into(),
                other => one_line(&other.to_string()),
            })
        }
    }

    /// [`pop`](Self::pop), with what is known by now: natively all of it; a browser's answer comes later, and with the next submission.
    pub(crate) fn pop_now(self) -> Option<String> {
        match std::pin::pin!(self.pop()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(caught) => caught,
            Poll::Pending => None,
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

/// A part of an answer. Dropped without one it says that the device is lost: so does wgpu with callbacks that never come, since
/// the device is gone or one before them panicked.
pub(crate) struct Due(Option<Arc<Signal>>);

impl Due {
    pub(crate) fn of(signal: &Arc<Signal>) -> Self {
        Self(Some(Arc::clone(signal)))
    }

    /// What one of the callbacks says.
    pub(crate) fn answer<E>(mut self, outcome: Result<(), E>) {
        if let Some(signal) = self.0.take() {
            signal.set(outcome.map_err(|_| Lost));
        }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(signal) = self.0.take() {
            signal.set(Err(Lost));
        }
    }
}

impl Signal {
    /// One that so many callbacks answer.
    pub(crate) fn of(callbacks: usize) -> Self {
        let answer = Answer { missing: callbacks, outcome: (callbacks == 0).then_some(Ok(())), waker: None };
        Self { answer: Mutex::new(answer), given: Condvar::new() }
    }

    /// What one of the callbacks says; what comes after the last of them changes nothing.
    fn set(&self, outcome: Result<(), Lost>) {
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

/// Polls a device, and says whether it is there: wgpu panics at one that is gone. What a callback of somebody else's panics with
/// is none of our business.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn poll(device: &wgpu::Device, kind: wgpu::PollType) -> bool {
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.poll(kind)));
    match polled {
        Ok(polled) => polled.is_ok(),
        Err(panic) if is_of_poll(&*panic) => false,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether it is wgpu that panicked, in `Device::poll`: its message begins with the function's name (`handle_error_fatal` in wgpu 30).
#[cfg(not(target_family = "wasm"))]
fn is_of_poll(panic: &(dyn std::any::Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|message| message.starts_with("Error in Device::poll"))
}

/// Sees to it that the callbacks of a submission come, without blocking the caller's thread.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn wait(device: &wgpu::Device, submission: wgpu::SubmissionIndex, signal: &Arc<Signal>) {
    // Without an answer by its end, there will be none.
    let due = Due::of(signal);
    // A submission that has ended by now needs no thread.
    if !poll(device, wgpu::PollType::Poll) || signal.is_set() {
        return;
    }
    let (device, answer) = (device.clone(), Arc::clone(signal));
    // Where there is no thread to be had, what it would own is dropped.
    let _ = std::thread::Builder::new().name("xent wait".into()).spawn(move || {
        // Callbacks may have been collected by another thread's poll, and be on their way.
        if poll(&device, wgpu::PollType::Wait { submission_index: Some(submission), timeout: None }) {
            answer.is_set_within(GRACE);
        }
        drop(due);
    });
}

/// The browser calls back by itself.
#[cfg(target_family = "wasm")]
pub(crate) fn wait(_: &wgpu::Device, _: wgpu::SubmissionIndex, _: &Arc<Signal>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_of_others_are_theirs() {
        let caught = |message: &'static str| {
            std::panic::catch_unwind(|| panic!("{message}: Parent device is lost")).expect_err("it panics")
        };
        assert!(is_of_poll(&*caught("Error in Device::poll")));
        assert!(!is_of_poll(&*caught("a callback's own")));
    }

    #[test]
    fn callbacks_that_never_come_are_a_lost_device() {
        let signal = Arc::new(Signal::of(2));
        Due::of(&signal).answer(Ok::<_, ()>(()));
        assert!(!signal.is_set());
        drop(Due::of(&signal));
        assert!(pollster::block_on(Signal::finished(&signal)).is_err());

        let signal = Arc::new(Signal::of(1));
        Due::of(&signal).answer(Ok::<_, ()>(()));
        // Who waits beside them has nothing to add.
        drop(Due::of(&signal));
        assert!(pollster::block_on(Signal::finished(&signal)).is_ok());
    }
}
