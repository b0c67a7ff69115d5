//! The notation of the DARTS code: a Python tuple, in all the variants in use.

use std::fmt;

use super::cells::{CellGenotype, Gene, Genotype, Place, check};
use super::value::{Fault, Form, Value};
use crate::space::{CellKind, Family, MAX_NODES};

const FAMILY: Family = Family::Darts;

/// The fields of a genotype in the order of the Python tuple.
const FIELDS: [&str; 4] = ["normal", "normal_concat", "reduce", "reduce_concat"];

/// Writes the Python form.
pub(super) fn write(genotype: &Genotype, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("Genotype(")?;
    for (position, (cell, fields)) in genotype.cells().iter().zip(FIELDS.as_chunks().0).enumerate()
    {
        let [genes_field, concat_field]: &[&str; 2] = fields;
        let separator = if position == 0 { "" } else { ", " };
        let genes: Vec<_> = cell.genes().map(|(_, gene)| gene.to_string()).collect();
        let genes = genes.join(", ");
        write!(f, "{separator}{genes_field}=[{genes}], {concat_field}={:?}", cell.output)?;
    }
    f.write_str(")")
}

/// Two genes for each node.
pub(super) fn pairs(genes: &[Gene]) -> Result<Vec<Vec<Gene>>, (Place, String)> {
    if !genes.len().is_multiple_of(2) {
        let reason = format!("{} operations; expected two for each node", genes.len());
        return Err((Place::Nodes, reason));
    }
    Ok(genes.chunks(2).map(<[Gene]>::to_vec).collect())
}

/// Reads a tuple `Genotype(...)`, a list of its four fields, or an object with them.
pub(super) fn read(value: &Value) -> Result<Genotype, Fault> {
    const SHAPE: &str = "Genotype(normal=..., normal_concat=..., reduce=..., reduce_concat=...)";
    let mut fields = [None; 4];
    match &value.form {
        Form::List(items) if items.len() == 4 => {
            fields = [&items[0], &items[1], &items[2], &items[3]].map(Some);
        }
        Form::Record(name, entries) if is_genotype(*name) => {
            for (position, (key, entry)) in entries.iter().enumerate() {
                let known = match key {
                    Some(key) => FIELDS.iter().position(|field| field == key),
                    None => Some(position).filter(|&position| position < 4),
                };
                match (known, &entry.form, key) {
                    (Some(field), ..) if fields[field].is_some() => {
                        return entry.fault(format!("`{}` is given twice", FIELDS[field]));
                    }
                    (Some(field), ..) => fields[field] = Some(entry),
                    (None, Form::Nothing, _) => {} // such as the `connects=None` of GDAS
                    (None, _, Some(key)) => {
                        let fields = FIELDS.join(", ");
                        return entry.fault(format!("unknown field `{key}`; expected {fields}"));
                    }
                    (None, _, None) => return entry.fault("more than four fields"),
                }
            }
        }
        _ => return value.expected(SHAPE),
    }
    let cell = |first: usize| {
        let Some(genes) = fields[first] else {
            return value.fault(format!("`{}` is missing; expected {SHAPE}", FIELDS[first]));
        };
        let concat = fields[first + 1].filter(|value| !matches!(value.form, Form::Nothing));
        cell(genes, concat, FAMILY.kinds()[first / 2])
    };
    let cells = vec![cell(0)?, cell(2)?];
    Genotype::new(FAMILY, cells).or_else(|error| value.fault(error.to_string()))
}

fn is_genotype(name: Option<&str>) -> bool {
    name.is_none_or(|name| name.rsplit('.').next() == Some("Genotype"))
}

fn cell(genes: &Value, concat: Option<&Value>, kind: CellKind) -> Result<CellGenotype, Fault> {
    let mut found = Vec::new();
    for item in genes.list("a list of ('operation', input) pairs")? {
        let parts = item.list("an ('operation', input) pair")?;
        if !matches!(parts.first().map(|part| &part.form), Some(Form::List(_))) {
            found.push((item.at, gene(item, parts)?));
        } else if let [first, second] = parts {
            for pair in [first, second] {
                let parts = pair.list("an ('operation', input) pair")?;
                found.push((pair.at, gene(pair, parts)?));
            }
        } else {
            return item.expected("two ('operation', input) pairs for the node");
        }
    }
    let states = match concat {
        Some(concat) => states(concat)?,
        None => {
            let all = FAMILY.output_states(found.len() / 2).into_iter();
            all.map(|state| (genes.at, state)).collect()
        }
    };
    let (places, found): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let (output_places, output): (Vec<_>, Vec<_>) = states.into_iter().unzip();
    let checked = pairs(&found).and_then(|nodes| {
        let cell = CellGenotype { nodes, output };
        check(FAMILY, kind, &cell).map(|()| cell)
    });
    checked.map_err(|(place, reason)| Fault {
        at: match place {
            Place::Nodes | Place::Node(_) => genes.at,
            Place::Gene(index, _) => places[index],
            Place::Output => concat.unwrap_or(genes).at,
            Place::OutputEntry(index) => output_places[index],
        },
        reason,
    })
}

/// A pair, or a triple whose last member, a weight, is ignored.
fn gene(value: &Value, parts: &[Value]) -> Result<Gene, Fault> {
    let (name, input) = match parts {
        [name, input] => (name, input),
        [name, input, Value { form: Form::Number(_), .. }] => (name, input),
        _ => return value.expected("an ('operation', input) pair"),
    };
    let Form::Text(text) = name.form else {
        return name.expected("a quoted operation name");
    };
    Ok(Gene {
        operation: FAMILY.operation(text).or_else(|error| name.fault(error.to_string()))?,
        input: input.index("the number of the state that the operation reads")?,
    })
}

/// The states of an output with their positions: a list, `range(...)` or `list(range(...))`.
fn states(value: &Value) -> Result<Vec<(usize, usize)>, Fault> {
    const WHAT: &str = "a list of states or range(first, end)";
    match &value.form {
        Form::List(items) => {
            let state = |item: &Value| Ok((item.at, item.index("the number of a state")?));
            items.iter().map(state).collect()
        }
        Form::Record(Some("list"), entries) if entries.len() == 1 => states(&entries[0].1),
        Form::Record(Some("range"), entries) => {
            let bounds = entries.iter().map(|(_, bound)| bound.index("a whole number"));
            let (first, end, step) = match bounds.collect::<Result<Vec<_>, _>>()?[..] {
                [end] => (0, end, 1),
                [first, end] => (first, end, 1),
                [first, end, step] if step > 0 => (first, end, step),
                _ => return value.expected(WHAT),
            };
            let most = FAMILY.inputs() + MAX_NODES;
            if end > most {
                return value.fault(format!("range up to {end}; expected at most {most}"));
            }
            Ok((first..end).step_by(step).map(|state| (value.at, state)).collect())
        }
        _ => value.expected(WHAT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    const DARTS_V2: &str = "DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), \
        ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], \
        normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), \
        ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], \
        reduce_concat=[2, 3, 4, 5])";

    fn read(text: &str) -> Genotype {
        text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn fault(text: &str) -> (usize, usize, String) {
        match text.parse::<Genotype>() {
            Err(Error::Parse { line, column, reason }) => (line, column, reason),
            other => panic!("expected a fault, got {other:?} from {text}"),
        }
    }

    #[test]
    fn every_form_of_one_genotype_reads_the_same() {
        let genotype = read(DARTS_V2);
        assert_eq!(genotype.cell(CellKind::Normal).nodes[3][1].operation.name(), "dil_conv_3x3");
        let bare = DARTS_V2.replace("DARTS_V2 = ", "");
        let mut forms = vec![
            bare.clone(),
            bare.replace('\'', "\""),
            bare.replace("[2, 3, 4, 5]", "range(2, 6)"),
            bare.replace("[2, 3, 4, 5]", "list(range(2,6,1))"),
            bare.replace("[2, 3, 4, 5]", "None"),
            bare.replace(", normal_concat=[2, 3, 4, 5]", ""),
            bare.replace("), ", "),  # a comment\r\n\t").replace("])", "],\n)\n"),
            bare.replace("Genotype", "genotypes.Genotype"),
            bare.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=(2, 3, 4, 5), connects=None"),
            bare.replace("normal=", "").replace("normal_concat=", "").replace("reduce=", ""),
            serde_json::to_string(&genotype).unwrap(),
            serde_json::to_string_pretty(&genotype).unwrap(),
        ];
        // weights at the end, as in XNAS and PC-DARTS
        let mut weighted = bare.clone();
        for input in 0..3 {
            weighted = weighted.replace(&format!("', {input})"), &format!("', {input}, 1.25e-1)"));
        }
        forms.push(weighted.clone());
        // a list per node, as in GDAS
        let cell = |cell: &CellGenotype| {
            let node = |genes: &Vec<Gene>| format!("({}, {})", genes[0], genes[1]);
            format!("[{}]", cell.nodes.iter().map(node).collect::<Vec<_>>().join(", "))
        };
        let (normal, reduce) = (cell(&genotype.cells()[0]), cell(&genotype.cells()[1]));
        forms.push(format!("Genotype(normal={normal}, normal_concat=[2,3,4,5], reduce={reduce}, reduce_concat=[2,3,4,5])"));
        // the four fields of the tuple as a JSON array
        let array = format!("[{normal}, [2,3,4,5], {reduce}, [2,3,4,5]]");
        forms.push(array.replace(['('], "[").replace([')'], "]").replace('\'', "\""));
        for form in forms {
            assert_eq!(read(&form), genotype, "{form}");
        }
    }

    #[test]
    fn faults_are_located_and_explained() {
        let edited = |from: &str, to: &str| fault(&DARTS_V2.replacen(from, to, 1));
        let (line, column, reason) = edited("'sep_conv_3x3', 0", "'sep_conv_9x9', 0");
        assert_eq!((line, column), (1, 30));
        assert!(reason.contains("`sep_conv_9x9`") && reason.contains("skip_connect"));

        let (_, column, reason) = edited("('sep_conv_3x3', 1)", "('sep_conv_3x3', 2)");
        assert_eq!(column, 50);
        assert!(reason.contains("state 2 reads state 2"), "{reason}");

        let (_, column, reason) = edited("('sep_conv_3x3', 0), ", "");
        assert_eq!(column, 28);
        assert!(reason.contains("7 operations"), "{reason}");

        let (line, column, reason) = fault(&DARTS_V2.replace(", reduce=", ",\n  reduc="));
        assert_eq!((line, column), (2, 9));
        assert!(reason.contains("`reduc`") && reason.contains("reduce_concat"));

        assert!(edited("[2, 3, 4, 5]", "[2, 3, 4, 6]").2.contains("state 6 does not exist"));
        assert!(edited("[2, 3, 4, 5]", "[2, 2]").2.contains("listed twice"));
        assert!(edited("[2, 3, 4, 5]", "range(2, 9999999999)").2.contains("at most"));
        assert!(edited("[2, 3, 4, 5]", "range(2, 6, 0)").2.contains("range(first, end)"));
        assert!(edited("[2, 3, 4, 5]", "[]").2.contains("no states"));
        assert!(edited("reduce_concat=[2", "reduce_concat=[1").2.contains("twice as large"));
        assert!(edited("', 0)", "', -1)").2.contains("found -1"));
        assert!(edited("', 0)", "', 0.5)").2.contains("found 0.5"));
        assert!(edited("'sep_conv_3x3', 0", "sep_conv_3x3, 0").2.contains("after `sep_conv_3x3`"));
        assert!(edited("', 0)", ", 0)").2.contains("expected `,`"));
        assert!(edited("reduce=", "normal=").2.contains("given twice"));
        assert!(fault("").2.contains("found the end of the text"));
        assert!(fault("Genotype()").2.contains("`normal` is missing"));
        assert!(fault("Genotype('normal").2.contains("does not end"));
        assert!(fault("__import__('os').system('x')").2.contains("end of the text"));
        assert!(fault("os.system('x')").2.contains("found os.system(...)"));
        assert!(fault(&"[".repeat(100_000)).2.contains("nested deeper"));
        assert!(fault(&format!("{DARTS_V2} 1")).2.contains("expected the end"));
    }
}
