//! Anneal and prune: schedules and thresholds, one choice, all choices of a search, Algorithm 1 and Theorem 2.

pub mod algorithm;
pub mod architecture;
pub mod certainty;
pub mod choice;
pub mod derive;
pub mod edge_policy;
pub mod evidence;
pub mod found;
pub mod gradient;
pub mod pac;
pub mod paths;
mod saved;
pub mod schedule;
