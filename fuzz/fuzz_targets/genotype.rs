//! Genotypes as text and as JSON, and designs.
#![no_main]

use asap_core::{Design, Genotype, NetworkShape, PlainNetwork, Stem, evaluation_cost};
use libfuzzer_sys::fuzz_target;

const SHAPE: NetworkShape = NetworkShape {
    channels: 4,
    cells: 5,
    height: 8,
    width: 8,
    in_channels: 3,
    classes: 10,
    stem: Stem::Small,
};

fn check(genotype: &Genotype) {
    assert_eq!(genotype.to_string().parse().as_ref(), Ok(genotype));
    let json = serde_json::to_string(genotype).expect("plain data is JSON");
    assert_eq!(&serde_json::from_str::<Genotype>(&json).expect("our own JSON"), genotype);
    assert_eq!(json.parse().as_ref(), Ok(genotype));
    let _ = evaluation_cost(genotype, &SHAPE);
    for &kind in genotype.family().kinds() {
        let _ = (asap_core::svg(genotype, kind, "x"), asap_core::dot(genotype, kind, "x"));
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<Genotype>().inspect(check);
    let _ = serde_json::from_str::<Genotype>(text).inspect(check);
    let _ = serde_json::from_str::<Design>(text);
    if let Ok(network) = text.parse::<PlainNetwork>() {
        assert_eq!(network.to_string().parse().as_ref(), Ok(&network));
    }
});
