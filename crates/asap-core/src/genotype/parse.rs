//! Reads a genotype from text in every form that people have; text is never evaluated.
//!
//! Grammar, the same for Python and JSON: a value is a string, a number, `None` or `null`, a list in `[]` or `()`, an
//! object in `{}`, or a call such as `range(2, 6)`. What a genotype looks like is decided afterwards, on values that
//! know where in the text they stand.

use std::str::FromStr;

use crate::genotype::{Place, check_cell, check_reduction};
use crate::space::MAX_NODES;
use crate::{CellGenotype, Error, Gene, Genotype};

/// How deep values may be nested; a genotype needs five levels.
const MAX_DEPTH: usize = 16;

/// The fields of a genotype in the order of the Python tuple.
const FIELDS: [&str; 4] = ["normal", "normal_concat", "reduce", "reduce_concat"];

/// Reads the Python text of the DARTS code, with or without `NAME = ` in front, and its variants, and JSON.
///
/// Single and double quotes, several lines, comments, `range(2, 6)` or a list; the two operations of a node side by
/// side in one list or as a list per node; pairs, or triples that end in a weight. Without a concat, or with `None`,
/// the output takes all nodes.
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
    let mut reader = Reader { text, at: 0 };
    let value = reader.assignment()?;
    reader.skip_blank();
    if reader.at < text.len() {
        return reader.expected("the end of the text");
    }
    genotype(&value)
}

/// A fault and the byte where it stands.
#[derive(Debug)]
struct Fault {
    at: usize,
    reason: String,
}

/// A piece of the text and the byte where it starts.
struct Value<'t> {
    at: usize,
    form: Form<'t>,
}

enum Form<'t> {
    Nothing,
    Number(&'t str),
    Text(&'t str),
    List(Vec<Value<'t>>),
    /// A call with its name, or an object without; the keys of its fields and their values.
    Record(Option<&'t str>, Vec<(Option<&'t str>, Value<'t>)>),
}

impl Value<'_> {
    fn fault<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { at: self.at, reason: reason.into() })
    }

    fn expected<T>(&self, what: &str) -> Result<T, Fault> {
        let found = match &self.form {
            Form::Nothing => "nothing".to_owned(),
            Form::Number(number) => number.to_string(),
            Form::Text(text) => format!("the text '{text}'"),
            Form::List(items) => format!("a list of {}", items.len()),
            Form::Record(Some(name), _) => format!("{name}(...)"),
            Form::Record(None, _) => "an object".to_owned(),
        };
        self.fault(format!("expected {what}, found {found}"))
    }

    fn list(&self, what: &str) -> Result<&[Self], Fault> {
        match &self.form {
            Form::List(items) => Ok(items),
            _ => self.expected(what),
        }
    }

    fn index(&self, what: &str) -> Result<usize, Fault> {
        match &self.form {
            Form::Number(number) => number.parse().or_else(|_| self.expected(what)),
            _ => self.expected(what),
        }
    }
}

fn genotype(value: &Value) -> Result<Genotype, Fault> {
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
        cell(genes, concat, FIELDS[first] == "reduce")
    };
    Ok(Genotype { normal: cell(0)?, reduce: cell(2)? })
}

fn is_genotype(name: Option<&str>) -> bool {
    name.is_none_or(|name| name.rsplit('.').next() == Some("Genotype"))
}

fn cell(genes: &Value, concat: Option<&Value>, reduction: bool) -> Result<CellGenotype, Fault> {
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
        None => (2..2 + found.len() / 2).map(|state| (genes.at, state)).collect(),
    };
    let (places, genes_of): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let (concat_places, concat_of): (Vec<_>, Vec<_>) = states.into_iter().unzip();
    let checked = check_cell(&genes_of, &concat_of).and_then(|()| match reduction {
        true => check_reduction(&concat_of),
        false => Ok(()),
    });
    match checked {
        Ok(()) => Ok(CellGenotype { nodes: genes_of.as_chunks().0.to_vec(), concat: concat_of }),
        Err((place, reason)) => Err(Fault {
            at: match place {
                Place::Nodes => genes.at,
                Place::Gene(index) => places[index],
                Place::Concat => concat.unwrap_or(genes).at,
                Place::ConcatEntry(index) => concat_places[index],
            },
            reason,
        }),
    }
}

/// A pair, or a triple whose last member is a weight of no further use.
fn gene(value: &Value, parts: &[Value]) -> Result<Gene, Fault> {
    let (name, input) = match parts {
        [name, input] => (name, input),
        [name, input, Value { form: Form::Number(_), .. }] => (name, input),
        _ => return value.expected("an ('operation', input) pair"),
    };
    let Form::Text(text) = name.form else {
        return name.expected("the name of an operation in quotes");
    };
    Ok(Gene {
        operation: text.parse().or_else(|error: Error| name.fault(error.to_string()))?,
        input: input.index("the number of the state that the operation reads")?,
    })
}

/// The states of an output with their places: a list, `range(...)` or `list(range(...))`.
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
            if end > 2 + MAX_NODES {
                let reason = format!("range up to {end}; expected at most {}", 2 + MAX_NODES);
                return value.fault(reason);
            }
            Ok((first..end).step_by(step).map(|state| (value.at, state)).collect())
        }
        _ => value.expected(WHAT),
    }
}

/// Turns text into values.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn expected<T>(&self, what: &str) -> Result<T, Fault> {
        let found = match self.rest().chars().next() {
            Some(c) => format!("`{}`", c.escape_debug()),
            None => "the end of the text".to_owned(),
        };
        Err(Fault { at: self.at, reason: format!("expected {what}, found {found}") })
    }

    /// Passes over blanks and `#` comments.
    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest().trim_start();
            let blank = match rest.strip_prefix('#') {
                Some(comment) => comment.find('\n').unwrap_or(comment.len()) + 1,
                None => 0,
            };
            self.at = self.text.len() - rest.len() + blank;
            if blank == 0 {
                return;
            }
        }
    }

    /// Takes a mark, after blanks, if it comes next.
    fn take(&mut self, mark: char) -> bool {
        self.skip_blank();
        let taken = self.rest().starts_with(mark);
        self.at += if taken { mark.len_utf8() } else { 0 };
        taken
    }

    /// Takes the characters that come next as long as they fit; maybe none.
    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn name(&mut self) -> &'t str {
        self.skip_blank();
        self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '.')
    }

    /// A value, maybe after `NAME = `.
    fn assignment(&mut self) -> Result<Value<'t>, Fault> {
        self.skip_blank();
        let start = self.at;
        if self.name().is_empty() || !self.take('=') {
            self.at = start;
        }
        self.value(0)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, Fault> {
        self.skip_blank();
        let at = self.at;
        if depth > MAX_DEPTH {
            let reason = format!("values nested deeper than {MAX_DEPTH} levels");
            return Err(Fault { at, reason });
        }
        let form = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => Form::Text(self.quoted(quote)?),
            Some('[') => Form::List(self.items(']', |reader| reader.value(depth + 1))?),
            Some('(') => Form::List(self.items(')', |reader| reader.value(depth + 1))?),
            Some('{') => Form::Record(None, self.items('}', |reader| reader.entry(depth + 1))?),
            Some(c) if c.is_ascii_digit() || c == '-' => Form::Number(
                self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')),
            ),
            Some(c) if c.is_alphabetic() || c == '_' => match self.name() {
                "None" | "null" => Form::Nothing,
                name => {
                    self.skip_blank();
                    if !self.rest().starts_with('(') {
                        return self.expected(&format!("`(` after `{name}`"));
                    }
                    let fields = self.items(')', |reader| reader.argument(depth + 1))?;
                    Form::Record(Some(name), fields)
                }
            },
            _ => return self.expected("a value"),
        };
        Ok(Value { at, form })
    }

    /// The items between an opening mark, which comes next, and `close`; a comma may stand after the last.
    fn items<T>(
        &mut self,
        close: char,
        item: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(',') {
                if self.take(close) {
                    break;
                }
                return self.expected(&format!("`,` or `{close}`"));
            }
        }
        Ok(items)
    }

    /// `"key": value` of an object.
    fn entry(&mut self, depth: usize) -> Result<(Option<&'t str>, Value<'t>), Fault> {
        self.skip_blank();
        let key = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            _ => return self.expected("a key in quotes"),
        };
        if !self.take(':') {
            return self.expected("`:`");
        }
        Ok((Some(key), self.value(depth)?))
    }

    /// `key=value` or `value` of a call.
    fn argument(&mut self, depth: usize) -> Result<(Option<&'t str>, Value<'t>), Fault> {
        self.skip_blank();
        let start = self.at;
        let key = Some(self.name()).filter(|name| !name.is_empty() && self.take('='));
        if key.is_none() {
            self.at = start;
        }
        Ok((key, self.value(depth)?))
    }

    fn quoted(&mut self, quote: char) -> Result<&'t str, Fault> {
        let start = self.at;
        self.at += quote.len_utf8();
        let text = self.take_while(|c| c != quote && c != '\n');
        if !self.rest().starts_with(quote) {
            let reason = "a text in quotes that does not end on its line".to_owned();
            return Err(Fault { at: start, reason });
        }
        self.at += quote.len_utf8();
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(genotype.normal.nodes[3][1].operation.name(), "dil_conv_3x3");
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
            let node = |[a, b]: &[Gene; 2]| format!("({a}, {b})");
            format!("[{}]", cell.nodes.iter().map(node).collect::<Vec<_>>().join(", "))
        };
        let (normal, reduce) = (cell(&genotype.normal), cell(&genotype.reduce));
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
