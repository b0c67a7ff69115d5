//! A guard around the decoders of other crates, some of which panic at damaged files.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The outcome of `work`, or nothing if it panics, of which nothing is printed then. `work` must leave nothing half done behind that is
/// used afterwards.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Option<R> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                usual(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_the_next_one_is_heard() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| [1, 2][..].get(5).copied().unwrap()), None);
        assert!(!GUARDED.get());
        assert_eq!(guarded(|| (guarded(|| panic!("inner")), 4)), Some((None::<()>, 4)));
        assert!(!GUARDED.get());
    }
}
