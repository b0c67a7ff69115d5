//! The tensors that a search network shares with the network that is trained with its cell.

use std::collections::HashMap;

use super::{Body, Plan};

impl Plan {
    /// Pairs of parameter names, the search network's and this network's, for the computations that both share: the layers
    /// around the cells by name, and operations by node, input and operation. If a node has an operation twice on one
    /// input, both start from the same tensor.
    pub fn inherited<'a>(&'a self, search: &'a Self) -> Vec<(&'a str, &'a str)> {
        let searched: HashMap<String, &str> = search.identities().collect();
        let known = self.identities();
        known.filter_map(|(identity, name)| Some((*searched.get(&identity)?, name))).collect()
    }

    /// The identity of each live parameter, independent of edge names, and its name.
    fn identities(&self) -> impl Iterator<Item = (String, &str)> {
        self.layers.iter().flat_map(|layer| {
            let named = |id: usize| self.parameters[id].name.as_str();
            let mut identities: Vec<(String, &str)> = Vec::new();
            if let Body::Node(node) = &layer.body {
                for edge in &node.edges {
                    let input = &self.layers[edge.input].name;
                    for candidate in &edge.candidates {
                        let ids = candidate.steps.iter().flat_map(|step| step.parameters.clone());
                        identities.extend(ids.map(named).map(|name| {
                            let rest = &name[candidate.name.len()..];
                            (format!("{}<-{input} {}{rest}", layer.name, candidate.operation), name)
                        }));
                    }
                }
            } else {
                let ids = layer.steps().flat_map(|step| step.parameters.clone());
                identities.extend(ids.map(named).map(|name| (name.to_owned(), name)));
            }
            identities
        })
    }
}
