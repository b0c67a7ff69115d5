//! Limits on a trained network, kept by the number of its channels.

use asap_core::{Cost, Design, NetworkShape, OperationCosts};
use asap_data::Dataset;

use crate::duration::counted;
use crate::error::Error;
use crate::latency::{self, Latencies};
use crate::settings::config::{Config, LimitsConfig};

/// Part of the allowed latency that is used, since a machine is not always equally fast.
const USED: f64 = 0.95;

/// A limit that is counted.
struct Counted {
    key: &'static str,
    limit: fn(&LimitsConfig) -> u64,
    of: fn(Cost) -> u64,
}

const COUNTED: [Counted; 2] = [
    Counted {
        key: "multiply_adds",
        limit: |limits| limits.multiply_adds,
        of: |cost| cost.multiply_adds,
    },
    Counted { key: "weights", limit: |limits| limits.weights, of: |cost| cost.params },
];

/// Refuses a counted limit that no network of these designs, of which there is at least one, can keep.
pub(crate) fn check(
    limits: &LimitsConfig,
    designs: &[Design],
    shape: NetworkShape,
) -> Result<(), Error> {
    check_designs(limits, designs, shape, described)
}

/// Refuses a limit that no cell of the search space can keep.
pub(crate) fn check_cells(config: &Config, images: &Dataset) -> Result<(), Error> {
    let (limits, shape) = (&config.limits, config.train.shape_for(images));
    let space = config.space()?;
    let what =
        format!("the cheapest cell in a network of {} (train.cells)", counted(shape.cells, "cell"));
    if COUNTED.iter().any(|counted| (counted.limit)(limits) > 0) {
        let cheapest = OperationCosts::new(&space, &shape)?.cheapest(&space);
        check_designs(limits, &[cheapest.into()], shape, |_| what.clone())?;
    }
    if limits.latency_ms > 0.0 {
        let shape = NetworkShape { channels: 1, ..shape };
        let mut latencies = Latencies::new(limits.latency_threads);
        let costs = OperationCosts::of_latency(&space, &shape, |piece| latencies.of_piece(piece))?;
        let fastest = costs.cheapest(&space).into();
        let least = latency::measure(&fastest, shape, limits.latency_threads)?;
        // What is only just too slow may be found fast enough when the training begins.
        if least > limits.latency_ms {
            return Err(refuse_latency(&what, least, limits));
        }
    }
    Ok(())
}

fn check_designs(
    limits: &LimitsConfig,
    designs: &[Design],
    shape: NetworkShape,
    described: impl Fn(&Design) -> String,
) -> Result<(), Error> {
    for Counted { key, limit, of } in COUNTED {
        let of_one = |design| (shape.cost_with(design, 1).map_or(u64::MAX, of), design);
        let smallest = designs.iter().map(of_one).min_by_key(|(least, _)| *least);
        let limit = limit(limits);
        if let Some((least, design)) = smallest.filter(|(least, _)| limit > 0 && *least > limit) {
            return Err(refuse(key, &described(design), &least.to_string(), &limit.to_string()));
        }
    }
    Ok(())
}

/// The shape with as many channels as the limits allow, and at most its own. The channels that the latency allows are measured once and
/// then stand in the configuration.
pub(super) fn keep(
    config: &mut Config,
    design: &Design,
    mut shape: NetworkShape,
) -> Result<NetworkShape, Error> {
    let limits = &mut config.limits;
    for Counted { key, limit, of } in COUNTED {
        let limit = limit(limits);
        let keeps = |shape: NetworkShape| {
            Ok(limit == 0 || of(shape.cost_with(design, shape.channels)?) <= limit)
        };
        shape = widest(shape, keeps)?.ok_or_else(|| {
            let smallest = shape.cost_with(design, 1).map_or(0, of);
            refuse(key, &described(design), &smallest.to_string(), &limit.to_string())
        })?;
    }
    if limits.latency_ms > 0.0 {
        if limits.latency_channels == 0 {
            let keeps = |shape| {
                Ok(latency::measure(design, shape, limits.latency_threads)?
                    <= USED * limits.latency_ms)
            };
            let kept = match widest(shape, keeps)? {
                Some(kept) => kept,
                None => {
                    let smallest = NetworkShape { channels: 1, ..shape };
                    let smallest = latency::measure(design, smallest, limits.latency_threads)?;
                    return Err(refuse_latency(&described(design), smallest, limits));
                }
            };
            limits.latency_channels = kept.channels;
        }
        shape.channels = shape.channels.min(limits.latency_channels);
    }
    Ok(shape)
}

fn described(design: &Design) -> String {
    match design {
        Design::Cells(_) => "a network of this cell with these train.cells".to_owned(),
        Design::Plain(network) => network.to_string(),
    }
}

fn refuse(key: &str, what: &str, least: &str, found: &str) -> Error {
    let flag = match key {
        "weights" => "--max-weights",
        "multiply_adds" => "--max-multiply-adds",
        _ => "--max-latency",
    };
    Error::Config(format!(
        "limits.{key} ({flag}): expected at least {least}, the minimum for {what}, with one channel; found {found}"
    ))
}

/// Refuses the latency for a network of which one channel takes `smallest` milliseconds.
fn refuse_latency(what: &str, smallest: f64, limits: &LimitsConfig) -> Error {
    let least = format!("{:.2}", smallest / USED);
    refuse("latency_ms", what, &least, &limits.latency_ms.to_string())
}

/// The shape with the most channels, up to its own, that keeps a limit; `None` if one channel does not.
fn widest(
    shape: NetworkShape,
    keeps: impl Fn(NetworkShape) -> Result<bool, Error>,
) -> Result<Option<NetworkShape>, Error> {
    let with = |channels| NetworkShape { channels, ..shape };
    if keeps(shape)? {
        return Ok(Some(shape));
    }
    let (mut kept, mut broken) = (0, shape.channels);
    while broken - kept > 1 {
        let middle = usize::midpoint(kept, broken);
        if keeps(with(middle))? { kept = middle } else { broken = middle }
    }
    Ok((kept > 0).then(|| with(kept)))
}
