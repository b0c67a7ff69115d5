//! A trained network that begins with the weights of the search.

use asap_core::plan::{Plan, Role};
use asap_core::{Family, Genotype, SearchSpace};
use asap_net::engine::Engine;
use asap_net::network::{Network, mixing_tensors};
use burn::tensor::Device;

use crate::small::{NAS_BENCH_201, evaluate, images, published, shape};

const SIZE: [usize; 2] = [9, 7];

/// A cell without poolings, behind which the search network has batch norms and the trained one has none; a node has one
/// operation twice.
const WITHOUT_POOLS: &str = "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('dil_conv_3x3', 2), \
    ('sep_conv_5x5', 0), ('skip_connect', 1), ('dil_conv_5x5', 3), ('sep_conv_3x3', 2), ('skip_connect', 4)], \
    normal_concat=range(2, 6), reduce=[('skip_connect', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), \
    ('skip_connect', 2), ('sep_conv_3x3', 1), ('skip_connect', 3), ('dil_conv_5x5', 0), ('skip_connect', 4)], \
    reduce_concat=range(2, 6))";

fn space(family: Family) -> SearchSpace {
    let candidates = match family {
        Family::Darts => SearchSpace::of(family).candidates,
        Family::NasBench201 => family.operations().to_vec(),
    };
    SearchSpace { candidates, ..SearchSpace::of(family) }
}

/// Cut down to a cell, the search network computes what the trained network does that inherits its weights.
#[test]
fn the_network_of_a_cell_computes_what_the_search_network_did_with_the_cell_alone() {
    for cell in [WITHOUT_POOLS, NAS_BENCH_201] {
        let genotype: Genotype = cell.parse().unwrap();
        let (space, shape) = (space(genotype.family()), shape(4, 4, SIZE));
        let whole = Plan::search(&space, &shape).unwrap();
        let trained = Plan::evaluation(&genotype, &shape, false).unwrap();
        let pairs = trained.inherited(&whole);

        let engine = Engine::new(&Device::flex());
        let mut search = Network::new(whole.clone(), engine.clone());
        let mut searched = search.parameters(&Device::flex(), 5);
        let ids: Vec<_> = searched.iter().map(|(id, p)| (id, p.role)).collect();
        for (id, role) in ids {
            // Statistics of their own.
            if role == Role::Buffer {
                let value = searched.get(id).value.clone() * 0.5 + 0.02 * (id % 40) as f32 + 0.1;
                searched.set(id, value);
            }
        }
        let network = Network::new(trained.clone(), engine);
        let mut parameters = network.parameters(&Device::flex(), 6);
        let before = evaluate(&network, &parameters, images(3, SIZE), &[]);
        let (mut values, from) = (parameters.values(), searched.values());
        for (from_name, to_name) in &pairs {
            values.insert((*to_name).to_owned(), from[*from_name].clone());
        }
        parameters.load_named(&values).unwrap();
        // All but the scales and shifts inside cells, which the search network does not have.
        let own: Vec<&str> = parameters
            .iter()
            .map(|(_, p)| p.name.as_str())
            .filter(|name| !pairs.iter().any(|(_, to)| to == name))
            .collect();
        assert!(
            own.iter().all(|name| name.starts_with("cells.")
                && (name.ends_with(".gamma") || name.ends_with(".beta"))),
            "{own:?}"
        );

        search.keep(&mut searched, &space, &genotype);
        let ones = mixing_tensors(&space.one_hot(&genotype).unwrap(), &Device::flex());
        let expected = evaluate(&search, &searched, images(3, SIZE), &ones);
        let found = evaluate(&network, &parameters, images(3, SIZE), &[]);
        assert_ne!(found, before);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
        }
        // After pruning the pairs are the same.
        assert_eq!(trained.inherited(search.plan()), pairs);
    }
}

#[test]
fn pairs_have_one_shape_and_every_published_cell_inherits_its_convolutions() {
    let shape = shape(4, 5, SIZE);
    for (cell, family) in [("ASAP", Family::Darts), ("DARTS_V2", Family::Darts)] {
        let search = Plan::search(&space(family), &shape).unwrap();
        let trained = Plan::evaluation(&published(cell), &shape, false).unwrap();
        let pairs = trained.inherited(&search);
        let tensor = |plan: &Plan, name: &str| {
            plan.parameters.iter().find(|p| p.name == name).unwrap().clone()
        };
        for (from, to) in &pairs {
            let (from, to) = (tensor(&search, from), tensor(&trained, to));
            assert_eq!((&from.shape, from.role), (&to.shape, to.role), "{} {}", from.name, to.name);
        }
        for id in trained.live_parameters() {
            let p = &trained.parameters[id];
            let norm = p.name.ends_with(".gamma") || p.name.ends_with(".beta");
            assert!(norm || pairs.iter().any(|(_, to)| *to == p.name), "{}", p.name);
        }
    }
}
