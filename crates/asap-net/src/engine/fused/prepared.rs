//! Edges prepared for inference, reused until parameters or mixing weights change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use asap_kernels::{EdgeSpec, Prepared};

use crate::parameters::ParameterId;

/// An edge, its parameters, the size of its images, and the bits of its mixing weights.
pub(super) type EdgeKey = (EdgeSpec, Vec<ParameterId>, [usize; 2], Vec<u32>);

/// The edges that are ready for one state of the parameters.
#[derive(Debug, Default)]
pub(super) struct PreparedEdges(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    revision: Option<u64>,
    edges: HashMap<EdgeKey, Arc<Prepared>>,
}

impl PreparedEdges {
    /// The edge of `key` for this revision of the parameters; those of another revision are dropped. Two threads may prepare
    /// it at once: neither waits for the other, which could be waiting for it.
    pub(super) fn get(
        &self,
        revision: u64,
        key: EdgeKey,
        prepare: impl FnOnce() -> Prepared,
    ) -> Arc<Prepared> {
        let ready = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = {
            let mut ready = ready();
            if ready.revision != Some(revision) {
                *ready = Ready { revision: Some(revision), edges: HashMap::new() };
            }
            ready.edges.get(&key).cloned()
        };
        found.unwrap_or_else(|| {
            let prepared = Arc::new(prepare());
            let mut ready = ready();
            if ready.revision == Some(revision) {
                ready.edges.insert(key, prepared.clone());
            }
            prepared
        })
    }
}
