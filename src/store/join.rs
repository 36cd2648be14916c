//! Threads of stores, which end when the last handle of their store is dropped.

use std::thread::{self, JoinHandle};

/// Joins the thread when it is dropped. It is the last field of a handle, after the sender whose end tells the thread to end:
/// fields are dropped in the order in which they are declared.
pub(crate) struct JoinOnDrop(Option<JoinHandle<()>>);

impl JoinOnDrop {
    pub(crate) const fn new(thread: JoinHandle<()>) -> Self {
        Self(Some(thread))
    }

    /// Whether the caller is the thread itself.
    #[cfg(feature = "file")]
    pub(crate) fn is_current(&self) -> bool {
        self.0.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    /// Does not wait for the thread.
    #[cfg(feature = "file")]
    pub(crate) fn detach(&mut self) {
        self.0 = None;
    }
}

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        // The thread itself may drop the last handle, in a report for example; it cannot join itself.
        if let Some(thread) = self.0.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}
