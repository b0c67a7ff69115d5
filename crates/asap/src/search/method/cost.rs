//! The cost of the network that is to be trained, as a part of the loss of a search.

use asap_core::{
    Architecture, ChoiceGradients, Evidence, MixingTables, NetworkShape, OperationCosts,
};
use serde_json::Value;

use crate::error::Error;
use crate::latency::Latencies;
use crate::settings::config::Config;

/// The key of measured costs in the state of a method.
const COSTS: &str = "costs";

/// `search.cost`, times the binary logarithm of the expected multiply-adds or, if the latency is limited, of the expected latency.
pub(super) struct CostTerm {
    /// The loss that half the cost is worth.
    worth: f64,
    costs: OperationCosts,
    /// True if the costs were measured, and so differ from run to run.
    measured: bool,
}

impl CostTerm {
    /// The term for a network of shape `trained`; `None` if cost does not count.
    pub(super) fn new(config: &Config, trained: &NetworkShape) -> Result<Option<Self>, Error> {
        let worth = config.search.cost;
        if worth == 0.0 {
            return Ok(None);
        }
        let (space, limits) = (config.space()?, &config.limits);
        let measured = limits.latency_ms > 0.0;
        let costs = if measured {
            let mut latencies = Latencies::open(limits.latency_threads);
            let costs =
                OperationCosts::of_latency(&space, trained, |piece| latencies.of_piece(piece))?;
            latencies.keep();
            costs
        } else {
            OperationCosts::new(&space, trained)?
        };
        Ok(Some(Self { worth, costs, measured }))
    }

    /// The term for these mixing weights.
    pub(super) fn loss(&self, mixing: &MixingTables) -> f64 {
        self.worth * self.costs.expected(mixing).log2()
    }

    /// Adds its gradients to those of the loss at a temperature.
    pub(super) fn add_gradients(
        &self,
        gradients: &mut ChoiceGradients,
        architecture: &Architecture,
        temperature: f64,
    ) {
        let of_cost = self.costs.log2_gradients(&architecture.mixing_tables(temperature));
        gradients.add(&architecture.choice_gradients(&of_cost, temperature), self.worth);
    }
}

/// The state of a method: its evidence, and costs that were measured.
pub(super) fn state(evidence: &Evidence, cost: Option<&CostTerm>) -> Value {
    let mut state = serde_json::to_value(evidence).expect("numbers are JSON");
    if let Some(cost) = cost.filter(|cost| cost.measured) {
        state[COSTS] = serde_json::to_value(&cost.costs).expect("numbers are JSON");
    }
    state
}

/// The evidence of a state; its costs go back to their term.
pub(super) fn restored(
    mut state: Value,
    cost: Option<&mut CostTerm>,
) -> Result<Evidence, serde_json::Error> {
    let costs = state.as_object_mut().and_then(|state| state.remove(COSTS));
    if let (Some(term), Some(costs)) = (cost, costs) {
        term.costs = serde_json::from_value(costs)?;
    }
    serde_json::from_value(state)
}
