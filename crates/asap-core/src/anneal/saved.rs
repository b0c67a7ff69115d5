//! The form in which an architecture is saved.

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, CellChoices};
use super::choice::Choice;
use super::edge_policy::EdgePolicy;
use crate::error::Error;
use crate::space::{Family, SearchSpace};

/// The cells of DARTS by name, those of other families in a list.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedArchitecture {
    space: SearchSpace,
    policy: EdgePolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    normal: Option<CellChoices>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reduction: Option<CellChoices>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cells: Option<Vec<CellChoices>>,
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells: Vec<_> =
            self.space().kinds().iter().map(|&kind| self.cell(kind).clone()).collect();
        let (space, policy) = (self.space().clone(), self.policy());
        let empty = SavedArchitecture { space, policy, normal: None, reduction: None, cells: None };
        let saved = match self.space().family {
            Family::Darts => {
                let mut cells = cells.into_iter();
                SavedArchitecture { normal: cells.next(), reduction: cells.next(), ..empty }
            }
            Family::NasBench201 => SavedArchitecture { cells: Some(cells), ..empty },
        };
        saved.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SavedArchitecture::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl TryFrom<SavedArchitecture> for Architecture {
    type Error = Error;

    fn try_from(saved: SavedArchitecture) -> Result<Self, Error> {
        let SavedArchitecture { space, policy, normal, reduction, cells } = saved;
        let cells = match (space.family, normal, reduction, cells) {
            (Family::Darts, Some(normal), Some(reduction), None) => vec![normal, reduction],
            (Family::NasBench201, None, None, Some(cells)) => cells,
            (family, ..) => {
                let expected = match family {
                    Family::Darts => "`normal` and `reduction`",
                    Family::NasBench201 => "`cells`",
                };
                return Err(Error::value(
                    "architecture",
                    "a record with different cells",
                    format!("the fields space, policy, {expected} for {family}"),
                ));
            }
        };
        let mut architecture = Self::new(space, policy);
        let kinds = architecture.space().kinds();
        if cells.len() != kinds.len() {
            let expected = format!("{} for {}", kinds.len(), architecture.space().family);
            return Err(Error::value("cells", format!("a list of {}", cells.len()), expected));
        }
        for (&kind, cell) in kinds.iter().zip(cells) {
            if !have_one_shape(&cell, architecture.cell(kind)) {
                let space = architecture.space();
                return Err(Error::value(
                    kind.name(),
                    "a set of choices with a different shape",
                    format!(
                        "one choice of 1 from {} operations for each of {} edges, and choices of inputs according to policy `{policy}`",
                        space.candidates.len(),
                        space.edge_count(),
                    ),
                ));
            }
            *architecture.cell_mut(kind) = cell;
        }
        Ok(architecture)
    }
}

/// True if every choice has the same number of candidates and survivors as its counterpart.
fn have_one_shape(a: &CellChoices, b: &CellChoices) -> bool {
    let of = |choice: &Choice| (choice.len(), choice.keep());
    let of_inputs = |choice: &Option<Choice>| choice.as_ref().map(of);
    a.operations.iter().map(of).eq(b.operations.iter().map(of))
        && a.inputs.iter().map(of_inputs).eq(b.inputs.iter().map(of_inputs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    #[test]
    fn darts_is_saved_with_named_cells_and_other_families_with_a_list() {
        let choice = r#"{"keep":1,"alive":[true],"logits":[0.0],"first_moment":[0.0],"second_moment":[0.0],"steps":0}"#;
        let two = format!(r#"{{"operations":[{choice},{choice}],"inputs":[null]}}"#);
        let one = format!(r#"{{"operations":[{choice}],"inputs":[null]}}"#);
        for (family, cells) in [
            (Family::Darts, format!(r#""normal":{two},"reduction":{two}"#)),
            (Family::NasBench201, format!(r#""cells":[{one}]"#)),
        ] {
            let space = SearchSpace::new(family, 1, vec![Operation::SkipConnect]).unwrap();
            let architecture = Architecture::new(space.clone(), EdgePolicy::Strength);
            let json = serde_json::to_string(&architecture).unwrap();
            let space = serde_json::to_string(&space).unwrap();
            assert_eq!(json, format!(r#"{{"space":{space},"policy":"strength",{cells}}}"#));
            assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), architecture);
        }
    }

    #[test]
    fn the_cells_of_another_space_are_refused() {
        let full = Architecture::new(SearchSpace::default(), EdgePolicy::Anneal);
        let json = serde_json::to_string(&full).unwrap();
        let refused =
            |json: &str| serde_json::from_str::<Architecture>(json).unwrap_err().to_string();
        let error = refused(&json.replace("\"anneal\"", "\"strength\""));
        assert!(error.contains("`normal` is a set of choices with a different shape"), "{error}");
        let single = Architecture::new(SearchSpace::of(Family::NasBench201), EdgePolicy::Anneal);
        let json = serde_json::to_string(&single).unwrap();
        let error = refused(&json.replace("\"family\":\"nas-bench-201\",", ""));
        assert!(error.contains("nor_conv_1x1"), "{error}");
        let empty = format!("{}\"cells\":[]}}", &json[..json.find("\"cells\"").unwrap()]);
        assert!(refused(&empty).contains("`cells` is a list of 0; expected 1"));
        let error = refused(&empty.replace(",\"cells\":[]", ""));
        assert!(error.contains("the fields space, policy, `cells` for nas-bench-201"), "{error}");
    }
}
