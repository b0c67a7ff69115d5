//! A genotype as text and as JSON, in the notation of its family.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::cells::{CellGenotype, Gene, Genotype, fault};
use super::value::{Fault, Form, Reader, Value};
use super::{darts, nas_bench_201};
use crate::error::Error;
use crate::space::{CellKind, Family, Operation};

/// Writes the notation of the family's own code.
impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family() {
            Family::Darts => darts::write(self, f),
            Family::NasBench201 => nas_bench_201::write(self, f),
        }
    }
}

/// Reads the Python text of the DARTS code, with or without `NAME = ` in front, and its variants, the string of
/// NAS-Bench-201, and the JSON of both.
///
/// For DARTS: single and double quotes, several lines, comments, `range(2, 6)` or a list; the two operations of a node
/// side by side in one list or as a list per node; pairs, or triples that end in a weight. Without a concat, or with
/// `None`, the output takes all nodes. For NAS-Bench-201: with or without quotes. Imports, the named tuple and the list of operations that
/// Python files have before the genotype are passed over.
///
/// # Errors
/// [`Error::Parse`] with line, column, what was expected and what was found.
impl FromStr for Genotype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).map_err(|fault| {
            let before = &text[..fault.at];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Error::Parse {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                reason: fault.reason,
            }
        })
    }
}

fn read(text: &str) -> Result<Genotype, Fault> {
    let text = without_preamble(text);
    let mut reader = Reader::new(&text);
    let value = reader.assignment()?;
    if !reader.is_at_end() {
        return reader.expected("the end of the text (one genotype, and no other)");
    }
    genotype(&value)
}

/// The text with blanks in place of what Python files have before a genotype: imports, the named tuple, the list of operations.
fn without_preamble(text: &str) -> Cow<'_, str> {
    const BEGINNINGS: [&str; 4] = ["from ", "import ", "Genotype = namedtuple", "PRIMITIVES = ["];
    let mut kept = Cow::Borrowed(text);
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        let is_preamble = BEGINNINGS.iter().any(|beginning| line.starts_with(beginning));
        if !is_preamble && !line.trim().is_empty() && !line.starts_with('#') {
            break;
        }
        let mut end = start + line.len();
        // A list may go on in the next lines.
        if line.starts_with("PRIMITIVES") && !line.contains(']') {
            end = rest.find(']').map_or(text.len(), |at| start + at + 1);
        }
        if is_preamble {
            let blank =
                |c: char| if c == '\n' { "\n".to_owned() } else { " ".repeat(c.len_utf8()) };
            let blanks: String = text[start..end].chars().map(blank).collect();
            kept.to_mut().replace_range(start..end, &blanks);
        }
        start = end;
    }
    kept
}

fn genotype(value: &Value) -> Result<Genotype, Fault> {
    match &value.form {
        Form::Bare(text) => {
            let read = nas_bench_201::read(text);
            read.map_err(|fault| Fault { at: value.at + fault.at, ..fault })
        }
        Form::Text(text) if text.trim_start().starts_with('|') => {
            nas_bench_201::read_quoted(value, text)
        }
        Form::Record(None, fields) if fields.iter().any(|(key, _)| *key == Some("space")) => {
            nas_bench_201::read_object(value, fields)
        }
        _ => darts::read(value),
    }
}

/// The JSON of a genotype: for DARTS all genes of a cell in one list, as in the Python form; for other families the name
/// of the space and the cell in its notation.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal: Option<Vec<(Operation, usize)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal_concat: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reduce: Option<Vec<(Operation, usize)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reduce_concat: Option<Vec<usize>>,
}

impl Serialize for Genotype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = |kind| {
            let genes = self.cell(kind).genes();
            Some(genes.map(|(_, gene)| (gene.operation, gene.input)).collect())
        };
        let concat = |kind| Some(self.cell(kind).output.clone());
        let json = match self.family() {
            Family::Darts => Json {
                normal: pairs(CellKind::Normal),
                normal_concat: concat(CellKind::Normal),
                reduce: pairs(CellKind::Reduction),
                reduce_concat: concat(CellKind::Reduction),
                ..Json::default()
            },
            family @ Family::NasBench201 => {
                Json { space: Some(family), cell: Some(self.to_string()), ..Json::default() }
            }
        };
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Genotype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn found<T, E: serde::de::Error>(field: Option<T>, name: &'static str) -> Result<T, E> {
            field.ok_or_else(|| E::missing_field(name))
        }
        let json = Json::deserialize(deserializer)?;
        let named = |field: bool, name, expected| match field {
            true => Err(D::Error::unknown_field(name, expected)),
            false => Ok(()),
        };
        match json.space.unwrap_or_default() {
            Family::Darts => {
                let fields = &["normal", "normal_concat", "reduce", "reduce_concat"];
                named(json.cell.is_some(), "cell", fields)?;
                let cell =
                    |kind, genes, concat| darts_cell(kind, genes, concat).map_err(D::Error::custom);
                let normal = cell(
                    CellKind::Normal,
                    found(json.normal, "normal")?,
                    found(json.normal_concat, "normal_concat")?,
                )?;
                let reduce = cell(
                    CellKind::Reduction,
                    found(json.reduce, "reduce")?,
                    found(json.reduce_concat, "reduce_concat")?,
                )?;
                Genotype::new(Family::Darts, vec![normal, reduce]).map_err(D::Error::custom)
            }
            Family::NasBench201 => {
                let fields = &["space", "cell"];
                named(json.normal.is_some(), "normal", fields)?;
                named(json.normal_concat.is_some(), "normal_concat", fields)?;
                named(json.reduce.is_some(), "reduce", fields)?;
                named(json.reduce_concat.is_some(), "reduce_concat", fields)?;
                let cell: Genotype = found(json.cell, "cell")?.parse().map_err(D::Error::custom)?;
                match cell.family() {
                    Family::NasBench201 => Ok(cell),
                    other => {
                        Err(D::Error::custom(format!("`cell` is for {other}; expected |...|")))
                    }
                }
            }
        }
    }
}

fn darts_cell(
    kind: CellKind,
    genes: Vec<(Operation, usize)>,
    output: Vec<usize>,
) -> Result<CellGenotype, Error> {
    let genes: Vec<_> =
        genes.into_iter().map(|(operation, input)| Gene { operation, input }).collect();
    let nodes = darts::pairs(&genes).map_err(|(place, reason)| fault(kind, place, reason))?;
    Ok(CellGenotype { nodes, output })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublishedCell;

    #[test]
    fn what_python_files_have_before_a_genotype_is_passed_over() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let before = "from collections import namedtuple\n\n# all\nGenotype = namedtuple('Genotype', 'normal')\n\n\
                      PRIMITIVES = [\n    'none',\n    'sep_conv_3x3',\n]\n\n";
        assert_eq!(format!("{before}ASAP = {asap}\n").parse(), Ok(asap.clone()));
        let two = format!("{before}A = {asap}\nB = {asap}\n").parse::<Genotype>().unwrap_err();
        let text = two.to_string();
        assert!(text.contains("line 12, column 1") && text.contains("no other"), "{text}");
        assert!(
            "import os".parse::<Genotype>().is_err()
                && "PRIMITIVES = [".parse::<Genotype>().is_err()
        );
    }

    #[test]
    fn the_python_form_is_that_of_darts() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        assert_eq!(
            asap.to_string(),
            "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), \
             ('skip_connect', 0), ('skip_connect', 2), ('skip_connect', 1), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], \
             reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 1), \
             ('skip_connect', 2), ('max_pool_3x3', 0), ('skip_connect', 2)], reduce_concat=[2, 3, 4, 5])"
        );
        assert_eq!((asap.skip_count(), asap.pool_count()), (7, 4));
    }

    #[test]
    fn json_holds_pairs_and_is_checked_on_reading() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let json = serde_json::to_string(&asap).unwrap();
        assert!(json.starts_with(
            r#"{"normal":[["sep_conv_3x3",0],["sep_conv_3x3",1],["sep_conv_3x3",1],["skip_connect",0],"#
        ));
        assert!(json.contains(r#""normal_concat":[2,3,4,5],"reduce":[["avg_pool_3x3",0],"#));
        assert_eq!(serde_json::from_str::<Genotype>(&json).unwrap(), asap);
        let broken = |from: &str, to: &str| {
            serde_json::from_str::<Genotype>(&json.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let error = broken(r#"["sep_conv_3x3",1]"#, r#"["sep_conv_3x3",7]"#);
        assert!(error.contains("normal cell, node 0") && error.contains("state 7"), "{error}");
        let error = broken(r#""reduce_concat":[2"#, r#""reduce_concat":[0"#);
        assert!(error.contains("reduction cell, concat"), "{error}");
        assert!(broken(r#"["sep_conv_3x3",0],"#, "").contains("7 operations"));
        assert!(
            broken(r#","reduce_concat":[2,3,4,5]"#, "").contains("missing field `reduce_concat`")
        );
        assert!(broken(r#""normal":"#, r#""cell":"", "normal":"#).contains("unknown field `cell`"));
    }
}
