//! Pools of threads.

use crate::error::Error;

/// Does work with this many threads; 0 uses those of the pool in which it is called.
pub(crate) fn with_threads<R: Send>(
    threads: usize,
    work: impl FnOnce() -> R + Send,
) -> Result<R, Error> {
    if threads == 0 || threads == rayon::current_num_threads() {
        return Ok(work());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(pool.install(work))
}
