//! The method against an independent implementation, and properties over many inputs.

use std::cell::Cell;

use asap_core::{
    Adam, Annealing, Architecture, CellGenotype, Choice, Controller, ControllerSettings,
    EdgePolicy, Family, Gene, Genotype, Pac, PublishedCell, SearchSpace, SparsitySchedule,
    ThresholdPolicy, anneal_and_prune,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Algorithm 1 written down once more, as plainly as possible: (candidate, logit, m, v) for each one alive.
fn naive_search(
    gradient: impl Fn(usize, usize) -> f64,
    steps_per_epoch: usize,
) -> Vec<(usize, usize)> {
    let mut alive: Vec<(usize, f64, f64, f64)> = (0..7).map(|i| (i, 0.0, 0.0, 0.0)).collect();
    let (mut removals, mut count) = (Vec::new(), 0);
    for step in 0..50 * steps_per_epoch {
        let temperature = 1.3 * 0.95_f64.powf(step as f64 / steps_per_epoch as f64);
        if temperature >= 1.03 || alive.len() == 1 {
            continue;
        }
        let softmax = |alive: &[(usize, f64, f64, f64)]| {
            let sum: f64 = alive.iter().map(|a| (a.1 / temperature).exp()).sum();
            alive.iter().map(|a| (a.1 / temperature).exp() / sum).collect::<Vec<_>>()
        };
        let phi = softmax(&alive);
        count += 1;
        let mean: f64 = alive.iter().zip(&phi).map(|(a, p)| p * gradient(step, a.0)).sum();
        for ((candidate, logit, m, v), p) in alive.iter_mut().zip(&phi) {
            let g = p * (gradient(step, *candidate) - mean) / temperature + 1e-3 * *logit;
            *m = 0.5 * *m + 0.5 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            let m_hat = *m / (1.0 - 0.5_f64.powi(count));
            let v_hat = *v / (1.0 - 0.999_f64.powi(count));
            *logit -= 0.005 * m_hat / (v_hat.sqrt() + 1e-8);
        }
        let phi = softmax(&alive);
        let mut gone: Vec<_> = alive.iter().zip(&phi).filter(|(_, p)| **p < 0.4 / 7.0).collect();
        gone.sort_by(|a, b| a.1.total_cmp(b.1));
        let gone: Vec<_> = gone.into_iter().map(|(a, _)| a.0).collect();
        removals.extend(gone.iter().map(|&candidate| (candidate, step)));
        alive.retain(|a| !gone.contains(&a.0));
    }
    removals
}

#[test]
fn a_whole_search_of_50_epochs_equals_the_plain_implementation() {
    let gradient = |step: usize, candidate: usize| {
        let noise = ((step * 31 + candidate * 17) as f64 * 12.9898).sin();
        0.3 * candidate as f64 * (candidate as f64 - 3.5) + 2.0 * noise
    };
    let expected = naive_search(gradient, 20);
    assert_eq!(expected.len(), 6, "the search must decide");
    let spread = expected[5].1 - expected[0].1;
    assert!(spread > 20, "the prunings must be spread over the search, not {spread} steps");

    let mut choice = Choice::new(7, 1);
    let adam = Adam { lr: 0.005, ..Adam::default() };
    let step = Cell::new(0);
    let removals = anneal_and_prune(
        &mut choice,
        &Annealing::default(),
        (0..50 * 20).map(|step| f64::from(step) / 20.0),
        |_, _| step.set(step.get() + 1),
        |choice, temperature| {
            let now = step.get() - 1;
            let gradients: Vec<_> = (0..7).map(|candidate| gradient(now, candidate)).collect();
            choice.step(&choice.logit_gradient(&gradients, temperature), &adam);
        },
    );
    let found: Vec<_> =
        removals.iter().map(|r| (r.candidate, (r.time * 20.0).round() as usize)).collect();
    assert_eq!(found, expected);
}

fn gene(family: Family, input: impl Strategy<Value = usize>) -> impl Strategy<Value = Gene> {
    (prop::sample::select(family.operations()), input)
        .prop_map(|(operation, input)| Gene { operation, input })
}

fn darts_cell(first_output: usize) -> impl Strategy<Value = CellGenotype> {
    (1..7_usize).prop_flat_map(move |nodes| {
        let node = |node| prop::collection::vec(gene(Family::Darts, 0..2 + node), 2);
        let nodes: Vec<_> = (0..nodes).map(node).collect();
        let states: Vec<_> = (first_output..2 + nodes.len()).collect();
        let output = prop::sample::subsequence(states.clone(), 1..=states.len()).prop_shuffle();
        (nodes, output).prop_map(|(nodes, output)| CellGenotype { nodes, output })
    })
}

fn nas_bench_201_cell() -> impl Strategy<Value = CellGenotype> {
    (1..7_usize).prop_flat_map(|nodes| {
        let node = |node| (0..=node).map(|input| gene(Family::NasBench201, Just(input))).collect();
        let nodes: Vec<Vec<_>> = (0..nodes).map(node).collect();
        let output = vec![nodes.len()];
        nodes.prop_map(move |nodes| CellGenotype { nodes, output: output.clone() })
    })
}

fn genotype() -> impl Strategy<Value = Genotype> {
    let darts = (darts_cell(0), darts_cell(2)).prop_map(|(normal, reduce)| {
        Genotype::new(Family::Darts, vec![normal, reduce]).expect("sound cells")
    });
    let nas_bench_201 = nas_bench_201_cell()
        .prop_map(|cell| Genotype::new(Family::NasBench201, vec![cell]).expect("a sound cell"));
    prop_oneof![darts, nas_bench_201]
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(genotype in genotype()) {
        prop_assert_eq!(&genotype.to_string().parse::<Genotype>().unwrap(), &genotype);
        let json = serde_json::to_string(&genotype).unwrap();
        prop_assert_eq!(&json.parse::<Genotype>().unwrap(), &genotype);
        prop_assert_eq!(&serde_json::from_str::<Genotype>(&json).unwrap(), &genotype);
    }

    #[test]
    fn any_cell_can_be_drawn(genotype in genotype(), title in any::<String>()) {
        for (kind, cell) in genotype.kinds() {
            let svg = asap_core::svg(&genotype, kind, &title);
            prop_assert_eq!(svg.matches("<circle").count(), cell.nodes.len());
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(bytes in any::<Vec<u8>>()) {
        let _ = String::from_utf8_lossy(&bytes).parse::<Genotype>();
    }

    #[test]
    fn no_damage_to_a_genotype_makes_the_reader_panic(
        which in 0..=PublishedCell::all().len(),
        at in any::<prop::sample::Index>(),
        length in 0..6_usize,
        patch in "[\\PC\n]{0,4}",
    ) {
        let text = match PublishedCell::all().get(which) {
            Some(published) => published.genotype().to_string(),
            None => "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|".to_owned(),
        };
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{patch}{}", &text[..start], &text[end..]);
        let read = damaged.parse::<Genotype>();
        if let Ok(genotype) = read {
            prop_assert_eq!(genotype.to_string().parse::<Genotype>().unwrap(), genotype);
        }
    }

    /// Claim 1 as the documentation of `Pac` states it.
    #[test]
    fn what_is_pruned_satisfies_claim_1(
        logits in prop::collection::vec(-20.0..20.0_f64, 2..9),
        t in 1.0..400.0_f64,
        fraction in 0.05..1.0_f64,
    ) {
        let n = logits.len();
        let pac = Pac { eta: 0.1, bound: 1.0, candidates: n, delta: 0.1, fraction };
        let (temperature, margin) = (pac.temperature(t), pac.margin(t));
        let theta_ln = ThresholdPolicy::Pac { fraction }.ln_at(t, n);
        let mut choice = Choice::new(n, 1);
        choice.descend(&logits.iter().map(|logit| -logit).collect::<Vec<_>>(), 1.0);
        let ln_phi = choice.ln_probabilities(temperature);
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let best = choice.best();
        let mut pruned = choice.clone();
        pruned.prune_ln(temperature, theta_ln);
        prop_assert!(pruned.is_alive(best));
        for i in 0..n {
            let slack = largest / t - margin - (logits[i] / t + margin);
            let ratio = (n as f64).ln() + theta_ln + ln_phi[best] - ln_phi[i];
            // equivalent: the claim's condition, and phi_i < N theta phi*; away from the border of rounding
            if slack.abs() > 1e-9 {
                prop_assert_eq!(slack > 0.0, ratio > 0.0);
            }
            // implied: whatever the rule prunes satisfies the claim's condition
            prop_assert!(pruned.is_alive(i) || slack > -1e-9);
        }
    }

    /// A whole schedule of eq. 13 in steps of an epoch, new scores at each.
    #[test]
    fn pruning_to_a_sparsity_leaves_one_operation_on_each_edge_and_is_exact_on_the_way(
        seed in any::<u64>(),
        power in prop::sample::select(vec![0.7, 1.0, 3.0]),
        annealed in any::<bool>(),
    ) {
        let policy = if annealed { EdgePolicy::Anneal } else { EdgePolicy::Strength };
        let mut architecture = Architecture::new(SearchSpace::default(), policy);
        let schedule = SparsitySchedule { power, ..SparsitySchedule::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for epoch in 0..=50 {
            // few values, so that many are equal, and the odd NaN
            let mut score = || match rng.random_range(0..20) {
                0 => f64::NAN,
                k => f64::from(k / 2) - 3.0,
            };
            let scores = architecture.space().tables(&mut score);
            let before = architecture.clone();
            let wanted = schedule.at(f64::from(epoch));
            let pruned = architecture.prune_smallest(wanted, &scores);
            for &kind in SearchSpace::default().kinds() {
                let gone = 98 - architecture.alive_count(kind);
                prop_assert!((gone as f64) > wanted * 98.0 - 1e-6);
                prop_assert!((gone as f64) < wanted * 98.0 + 1.0);
                let of_kind = pruned.iter().filter(|p| p.kind == kind);
                prop_assert_eq!(of_kind.count(), before.alive_count(kind) - architecture.alive_count(kind));
                for edge in 0..14 {
                    prop_assert!(!architecture.alive_operations(kind, edge).is_empty());
                }
            }
        }
        for &kind in SearchSpace::default().kinds() {
            prop_assert!((0..14).all(|edge| architecture.alive_operations(kind, edge).len() == 1));
        }
        prop_assert!((architecture.sparsity() - 6.0 / 7.0).abs() < 1e-12);
        prop_assert!(architecture.prune_smallest(1.0, &architecture.operation_logits()).is_empty());
    }

    #[test]
    fn what_a_controller_samples_is_legal_and_its_seed_decides(
        seed in any::<u64>(),
        nodes in 1..5_usize,
        (family, candidates) in prop_oneof![
            (Just(Family::Darts), 1..=7_usize),
            (Just(Family::NasBench201), 1..=4_usize),
        ],
        rewards in prop::collection::vec(-5.0..5.0_f64, 0..6),
    ) {
        let space = SearchSpace::new(family, nodes, family.candidates()[..candidates].to_vec()).unwrap();
        let default = ControllerSettings::default();
        let adam = Adam { lr: 0.5, ..default.adam };
        let settings = ControllerSettings { hidden: 5, adam, ..default };
        let run = || {
            let mut controller = Controller::with_settings(&space, settings, seed).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut genotypes = Vec::new();
            for &reward in &rewards {
                let sample = controller.sample(&mut rng);
                controller.reinforce(&[(sample.clone(), reward)]).unwrap();
                assert!(sample.ln_probability <= 0.0 && sample.entropy >= 0.0);
                genotypes.push(sample.genotype);
            }
            genotypes.push(controller.sample(&mut rng).genotype);
            genotypes.push(controller.likeliest());
            genotypes
        };
        let genotypes = run();
        prop_assert_eq!(&genotypes, &run());
        for genotype in genotypes {
            for cell in genotype.cells() {
                let ascending = |genes: &Vec<Gene>| genes.is_sorted_by(|a, b| a.input < b.input);
                prop_assert!(cell.nodes.iter().all(ascending));
            }
            let weights = space.one_hot(&genotype).unwrap();
            let ones = weights.iter().flatten().flatten().filter(|w| **w == 1.0).count();
            let expected = if family == Family::Darts { 4 * nodes } else { space.edge_count() };
            prop_assert_eq!(ones, expected);
        }
    }
}
