//! The notation of the NAS-Bench-201 code: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, nodes between `+`.
//!
//! Its node 0 is the cell's input, so that `~i` is state i and its node j is our node j - 1.

use std::fmt;

use super::cells::{CellGenotype, Gene, Genotype, Place, check};
use super::value::{Fault, Form, Reader, Value};
use crate::space::Family;

const FAMILY: Family = Family::NasBench201;

/// Writes the string.
pub(super) fn write(genotype: &Genotype, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cell in genotype.cells() {
        for (node, genes) in cell.nodes.iter().enumerate() {
            f.write_str(if node == 0 { "|" } else { "+|" })?;
            for gene in genes {
                write!(f, "{}~{}|", gene.operation, gene.input)?;
            }
        }
    }
    Ok(())
}

/// Reads the string.
pub(super) fn read(text: &str) -> Result<Genotype, Fault> {
    let mut reader = Reader::new(text);
    let (mut nodes, mut node_places, mut gene_places) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        node_places.push(reader.at());
        if !reader.take('|') {
            return reader.expected("`|`");
        }
        let mut genes = Vec::new();
        while genes.is_empty() || !reader.is_at_end() && !reader.sees('+') {
            gene_places.push(reader.at());
            genes.push(gene(&mut reader)?);
        }
        nodes.push(genes);
        if !reader.take('+') {
            break;
        }
    }
    let cell = CellGenotype { output: FAMILY.output_states(nodes.len()), nodes };
    check(FAMILY, FAMILY.kinds()[0], &cell).map_err(|(place, reason)| Fault {
        at: match place {
            Place::Node(node) => node_places[node],
            Place::Gene(index, _) => gene_places[index],
            Place::Nodes | Place::Output | Place::OutputEntry(_) => node_places[0],
        },
        reason,
    })?;
    let at = node_places[0];
    Genotype::new(FAMILY, vec![cell]).map_err(|error| Fault { at, reason: error.to_string() })
}

/// Reads `op~i|`.
fn gene(reader: &mut Reader) -> Result<Gene, Fault> {
    let at = reader.at();
    let name = reader.take_while(|c| c.is_alphanumeric() || c == '_');
    if name.is_empty() {
        return reader.expected("the name of an operation");
    }
    let operation =
        FAMILY.operation(name).map_err(|error| Fault { at, reason: error.to_string() })?;
    if !reader.take('~') {
        return reader.expected("`~` and the number of the state that the operation reads");
    }
    let at = reader.at();
    let number = reader.take_while(|c| c.is_ascii_digit());
    if number.is_empty() {
        return reader.expected("the number of the state that the operation reads");
    }
    let input = number.parse().map_err(|_| Fault {
        at,
        reason: format!("expected the number of a state, found {number}"),
    })?;
    if !reader.take('|') {
        return reader.expected("`|`");
    }
    Ok(Gene { operation, input })
}

/// Reads an object with the fields `space` and `cell`.
pub(super) fn read_object(
    object: &Value,
    fields: &[(Option<&str>, Value)],
) -> Result<Genotype, Fault> {
    let mut cell = None;
    for (key, value) in fields {
        match (*key, &value.form) {
            (Some("space"), Form::Text(name)) if *name == FAMILY.name() => {}
            (Some("space"), _) => return value.expected(&format!("\"{FAMILY}\"")),
            (Some("cell"), Form::Text(text)) => cell = Some(read_quoted(value, text)?),
            (Some("cell"), _) => return value.expected("the cell in quotes"),
            (key, _) => {
                let key = key.unwrap_or_default();
                return value.fault(format!("unknown field `{key}`; expected space, cell"));
            }
        }
    }
    match cell {
        Some(cell) => Ok(cell),
        None => object.fault("`cell` is missing; expected {\"space\": ..., \"cell\": \"|...|\"}"),
    }
}

/// Reads the text of a value in quotes.
pub(super) fn read_quoted(value: &Value, text: &str) -> Result<Genotype, Fault> {
    read(text).map_err(|fault| Fault { at: value.at + 1 + fault.at, ..fault })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellKind, Error, Operation};

    const CELL: &str =
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|";

    fn fault(text: &str) -> (usize, String) {
        match text.parse::<Genotype>() {
            Err(Error::Parse { line: 1, column, reason }) => (column, reason),
            other => panic!("expected a fault on line 1, got {other:?} from {text}"),
        }
    }

    #[test]
    fn node_j_of_the_string_is_node_j_minus_1_and_reads_its_states() {
        let genotype: Genotype = CELL.parse().unwrap();
        assert_eq!(genotype.family(), Family::NasBench201);
        let cell = genotype.cell(CellKind::Normal);
        let gene = |operation, input| Gene { operation, input };
        assert_eq!(cell.nodes[0], [gene(Operation::NorConv3x3, 0)]);
        assert_eq!(cell.nodes[1], [gene(Operation::NorConv3x3, 0), gene(Operation::AvgPool3x3, 1)]);
        assert_eq!(cell.nodes[2][2], gene(Operation::NorConv1x1, 2));
        assert_eq!((cell.nodes.len(), &cell.output[..]), (3, &[3][..]));
        assert_eq!(genotype.to_string(), CELL);
    }

    #[test]
    fn quotes_blanks_names_and_json_read_the_same() {
        let genotype: Genotype = CELL.parse().unwrap();
        let json = serde_json::to_string(&genotype).unwrap();
        assert_eq!(json, format!(r#"{{"space":"nas-bench-201","cell":"{CELL}"}}"#));
        assert_eq!(serde_json::from_str::<Genotype>(&json).unwrap(), genotype);
        for form in [
            format!("\"{CELL}\""),
            format!(" '{CELL}'\n"),
            format!("BEST = {CELL}  # of all\n"),
            CELL.replace('+', " + "),
            json.clone(),
            serde_json::to_string_pretty(&genotype).unwrap(),
        ] {
            assert_eq!(form.parse::<Genotype>().as_ref(), Ok(&genotype), "{form}");
        }
    }

    #[test]
    fn faults_are_located_and_explained() {
        let edited = |from: &str, to: &str| fault(&CELL.replacen(from, to, 1));
        let (column, reason) = edited("avg_pool_3x3", "max_pool_3x3");
        assert_eq!(column, 34);
        assert!(reason.contains("`max_pool_3x3`") && reason.contains("nor_conv_1x1"), "{reason}");

        let (column, reason) = edited("avg_pool_3x3~1", "avg_pool_3x3~2");
        assert_eq!(column, 34);
        assert!(reason.contains("of state 2 reads state 2; expected an earlier one"), "{reason}");

        let (column, reason) = edited("avg_pool_3x3~1", "avg_pool_3x3~0");
        assert_eq!(column, 34);
        assert!(reason.contains("reads state 0; expected state 1"), "{reason}");

        let (column, reason) = edited("avg_pool_3x3~1|", "");
        assert_eq!(
            (column, &reason[..]),
            (18, "1 operations; expected 2, one for each earlier state")
        );

        assert_eq!(
            edited("~0", ""),
            (
                14,
                "expected `~` and the number of the state that the operation reads, found `|`"
                    .into()
            )
        );
        assert_eq!(edited("~0", "~x").0, 15);
        assert_eq!(edited("~0", "~99999999999999999999").0, 15);
        assert_eq!(
            edited("|+|", "||"),
            (17, "expected the name of an operation, found `|`".into())
        );
        assert_eq!(
            edited("~2|", "~2"),
            (CELL.len(), "expected `|`, found the end of the text".into())
        );
        assert_eq!(fault("|").1, "expected the name of an operation, found the end of the text");
        assert_eq!(fault("'|sep_conv_3x3~0|'").0, 3);
        let (column, reason) = fault(r#"{"space":"nas-bench-201","cell":"|none~1|"}"#);
        assert_eq!(column, 35);
        assert!(reason.contains("reads state 1"), "{reason}");
        assert!(fault(r#"{"space":"nas-bench-201"}"#).1.contains("`cell` is missing"));
        assert!(fault(r#"{"space":"darts"}"#).1.contains("expected \"nas-bench-201\""));
    }

    #[test]
    fn json_is_checked_on_reading() {
        let refused = |json: &str| serde_json::from_str::<Genotype>(json).unwrap_err().to_string();
        assert!(refused(r#"{"space":"nas-bench-201"}"#).contains("missing field `cell`"));
        let error = refused(r#"{"space":"nas-bench-201","cell":"|none~1|"}"#);
        assert!(
            error.contains("column 2 of the genotype: none of state 1 reads state 1"),
            "{error}"
        );
        assert!(refused(r#"{"cell":"|none~0|"}"#).contains("unknown field `cell`"));
        let mixed = r#"{"space":"nas-bench-201","cell":"|none~0|","normal":[]}"#;
        assert!(refused(mixed).contains("unknown field `normal`"));
    }
}
