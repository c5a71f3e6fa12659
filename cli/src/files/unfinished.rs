//! Files that are not complete yet. A signal that ends the program takes them away first: they are hidden, and as large as what was to
//! be written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Paths are pushed and taken whole: what a panic left behind is as good as ever.
fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that a signal removes, until this is dropped. Where it has its final name by then, or is gone, there is nothing to remove.
#[derive(Debug)]
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes such a file. What a signal finds is there for good or listed.
    pub(super) fn create<F>(make: impl FnOnce() -> io::Result<F>, path: impl FnOnce(&F) -> &Path) -> io::Result<(F, Self)> {
        signals::watch();
        let mut files = unfinished();
        let file = make()?;
        let path = path(&file).to_owned();
        files.push(path.clone());
        Ok((file, Self(path)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        unfinished().retain(|file| *file != self.0);
    }
}

#[cfg(unix)]
mod signals {
    use std::sync::Once;
    use std::sync::mpsc::channel;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    /// Has a thread of its own wait for the signals that end programs. Where there can be none, nothing is changed, and they leave
    /// files behind.
    pub(super) fn watch() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let (ready, is_ready) = channel();
            // By the time that this thread takes signals there is one to act on them: itself.
            let ended = move || {
                // `nohup` and shells in scripts have some of them ignored, which is to stay so.
                let ours = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
                let signals = Signals::new(ours);
                let _ = ready.send(());
                if let Ok(mut signals) = signals {
                    signals.forever().for_each(end_by);
                }
            };
            if std::thread::Builder::new().name("signals".into()).spawn(ended).is_ok() {
                let _ = is_ready.recv();
            }
        });
    }

    /// What the signal would have done without us, when the files are gone.
    fn end_by(signal: i32) {
        let files = super::unfinished();
        for file in files.iter() {
            let _ = std::fs::remove_file(file);
        }
        let _ = emulate_default_handler(signal);
    }

    fn is_ignored(signal: i32) -> bool {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        #[expect(unsafe_code, reason = "no safe function tells how a signal is handled")]
        // SAFETY: without a new action the call changes nothing; it writes to `action` alone, which has room for what it writes and,
        // where the call fails, is zeros: of integers, pointers that are not followed, and an optional function all bits may be 0.
        let action = unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
mod signals {
    pub(super) fn watch() {}
}
