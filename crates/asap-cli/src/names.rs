//! Options whose value is one name of a fixed set: help lists the names and shells complete them.

use asap::MethodName;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A parser for the names of `values`; clap refuses any other name and lists these.
pub(crate) fn one_of<T, N>(
    values: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> N,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
    N: Into<PossibleValue>,
{
    let named: Vec<(PossibleValue, T)> =
        values.into_iter().map(|value| (name(value).into(), value)).collect();
    let names: Vec<PossibleValue> = named.iter().map(|(name, _)| name.clone()).collect();
    PossibleValuesParser::new(names).map(move |given| {
        let found = named.iter().find(|(name, _)| name.matches(&given, false));
        found.expect("clap lets only listed names pass").1
    })
}

/// A search method with what it does, for the long help.
pub(crate) fn described(method: MethodName) -> PossibleValue {
    let [what, source] = method.about();
    PossibleValue::new(method.name()).help(format!("{what} ({source})"))
}
