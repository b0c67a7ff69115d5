//! Python or JSON text as values that know their position in it; text is never evaluated.
//!
//! Grammar, the same for both languages: a value is a string, a number, `None` or `null`, a list in `[]` or `()`, an
//! object in `{}`, or a call such as `range(2, 6)`.

/// The deepest nesting of values; a genotype needs five levels.
const MAX_DEPTH: usize = 16;

/// A parse error and its byte position.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// A piece of the text and the byte where it starts.
pub(super) struct Value<'t> {
    pub(super) at: usize,
    pub(super) form: Form<'t>,
}

/// The kinds of value.
pub(super) enum Form<'t> {
    Nothing,
    Number(&'t str),
    /// A quoted string; the opening quote is at the value's byte.
    Text(&'t str),
    /// A NAS-Bench-201 cell without quotes.
    Bare(&'t str),
    List(Vec<Value<'t>>),
    /// A call with its name, or an object without one; the keys of its fields and their values.
    Record(Option<&'t str>, Vec<(Option<&'t str>, Value<'t>)>),
}

impl Value<'_> {
    pub(super) fn fault<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { at: self.at, reason: reason.into() })
    }

    pub(super) fn expected<T>(&self, what: &str) -> Result<T, Fault> {
        let found = match &self.form {
            Form::Nothing => "nothing".to_owned(),
            Form::Number(number) => number.to_string(),
            Form::Text(text) | Form::Bare(text) => format!("the string '{text}'"),
            Form::List(items) => format!("a list of {}", items.len()),
            Form::Record(Some(name), _) => format!("{name}(...)"),
            Form::Record(None, _) => "an object".to_owned(),
        };
        self.fault(format!("expected {what}, found {found}"))
    }

    pub(super) fn list(&self, what: &str) -> Result<&[Self], Fault> {
        match &self.form {
            Form::List(items) => Ok(items),
            _ => self.expected(what),
        }
    }

    pub(super) fn index(&self, what: &str) -> Result<usize, Fault> {
        match &self.form {
            Form::Number(number) => number.parse().or_else(|_| self.expected(what)),
            _ => self.expected(what),
        }
    }
}

/// Turns text into values.
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte position of the next item, after blanks.
    pub(super) fn at(&mut self) -> usize {
        self.skip_blank();
        self.at
    }

    /// True if nothing but blanks is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.at() == self.text.len()
    }

    /// True if a mark comes next, after blanks.
    pub(super) fn sees(&mut self, mark: char) -> bool {
        self.skip_blank();
        self.rest().starts_with(mark)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn expected<T>(&self, what: &str) -> Result<T, Fault> {
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
    pub(super) fn take(&mut self, mark: char) -> bool {
        let taken = self.sees(mark);
        self.at += if taken { mark.len_utf8() } else { 0 };
        taken
    }

    /// Takes the next characters as long as they fit; possibly none.
    pub(super) fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn name(&mut self) -> &'t str {
        self.skip_blank();
        self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '.')
    }

    /// A value or a bare NAS-Bench-201 cell, optionally after `NAME = `.
    pub(super) fn assignment(&mut self) -> Result<Value<'t>, Fault> {
        self.skip_blank();
        let start = self.at;
        if self.name().is_empty() || !self.take('=') {
            self.at = start;
        }
        if self.sees('|') {
            let (at, text) = (self.at, self.take_while(|c| !matches!(c, '\n' | '#')));
            return Ok(Value { at, form: Form::Bare(text) });
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
            _ => return self.expected("a quoted key"),
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
            let reason = "a quoted string that does not end on its line".to_owned();
            return Err(Fault { at: start, reason });
        }
        self.at += quote.len_utf8();
        Ok(text)
    }
}
