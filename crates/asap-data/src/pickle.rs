//! Values in Python's pickle format, read without executing anything: names of classes and functions stay names.
//!
//! The opcodes are those of protocols 0 to 5 that lists, dictionaries, texts, bytes and NumPy arrays of bytes consist of. All values
//! lie in one table and refer to each other by number, so that neither copies nor deep nesting cost anything.

use std::collections::HashMap;

/// A value's place in the table of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Id(usize);

#[derive(Debug)]
enum Value {
    /// `None`, floats, and whatever is of no use here.
    Other,
    Number(i64),
    Bytes(Vec<u8>),
    Items(Vec<Id>),
    Pairs(Vec<(Id, Id)>),
    Name(String),
    /// A call that is not made: the function, its arguments, and the state that the object would get.
    Call(Id, Id, Option<Id>),
}

/// The values of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads a pickle. Memory is proportional to its length.
    ///
    /// # Errors
    /// A short description of what is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine {
            rest: bytes,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine
            .run()
            .map_err(|found| format!("{found} at byte {}", bytes.len() - machine.rest.len()))?;
        Ok(Self { values: machine.values, root })
    }

    /// The dictionary that the pickle consists of: the value of a key, whether it is bytes or a text.
    pub(crate) fn get(&self, key: &str) -> Option<Id> {
        let Value::Pairs(pairs) = &self.values[self.root.0] else { return None };
        pairs
            .iter()
            .rfind(|(name, _)| self.bytes(*name) == Some(key.as_bytes()))
            .map(|&(_, value)| value)
    }

    /// Bytes, or a text.
    pub(crate) fn bytes(&self, id: Id) -> Option<&[u8]> {
        match &self.values[id.0] {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A list or tuple.
    pub(crate) fn items(&self, id: Id) -> Option<&[Id]> {
        match &self.values[id.0] {
            Value::Items(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn number(&self, id: Id) -> Option<i64> {
        match self.values[id.0] {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Shape and bytes of a NumPy array of unsigned bytes in C order.
    pub(crate) fn array(&self, id: Id) -> Option<(Vec<usize>, &[u8])> {
        let Value::Call(function, arguments, state) = self.values[id.0] else { return None };
        let Value::Name(name) = &self.values[function.0] else { return None };
        let (shape, dtype, bytes, order) = match (name.rsplit('.').next()?, state) {
            // _reconstruct(ndarray, ...) gets its content as (version, shape, dtype, in Fortran order, bytes).
            ("_reconstruct", Some(state)) => match *self.items(state)? {
                [_, shape, dtype, fortran, bytes] if self.number(fortran)? == 0 => {
                    (shape, dtype, bytes, None)
                }
                _ => return None,
            },
            ("_frombuffer", None) => match *self.items(arguments)? {
                [bytes, dtype, shape, order] => (shape, dtype, bytes, Some(order)),
                _ => return None,
            },
            _ => return None,
        };
        if order.is_some_and(|order| self.bytes(order) != Some(b"C")) || !self.is_u8(dtype) {
            return None;
        }
        let side = |&id: &Id| usize::try_from(self.number(id)?).ok();
        let shape = self.items(shape)?.iter().map(side).collect::<Option<Vec<_>>>()?;
        let size = shape.iter().try_fold(1, |size: usize, &side| size.checked_mul(side))?;
        Some((shape, self.bytes(bytes)?)).filter(|(_, bytes)| bytes.len() == size)
    }

    /// True for `dtype('u1')`.
    fn is_u8(&self, id: Id) -> bool {
        let Value::Call(function, arguments, _) = self.values[id.0] else { return false };
        let named =
            matches!(&self.values[function.0], Value::Name(name) if name.ends_with(".dtype"));
        let first = self.items(arguments).and_then(|arguments| arguments.first());
        let kind = first.and_then(|&first| self.bytes(first));
        named && matches!(kind, Some(b"u1" | b"|u1" | b"uint8"))
    }
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            match self.take(1)?[0] {
                b'.' => return self.pop(),
                0x80 => drop(self.take(1)?), // protocol
                0x95 => drop(self.take(8)?), // frame
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.popped_to_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::Other),
                0x88 => self.push(Value::Number(1)), // True
                0x89 => self.push(Value::Number(0)), // False
                b'I' | b'L' => self.decimal()?,
                b'K' => self.number(1)?,
                b'M' => self.number(2)?,
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Number(number.into()));
                }
                0x8a => {
                    // A long number, least byte first, in two's complement.
                    let length = self.length(1)?;
                    let bytes = self.take(length)?;
                    let negative = bytes.last().is_some_and(|&last| last >= 0x80);
                    let mut whole = [if negative { 0xff } else { 0 }; 8];
                    let place = whole.get_mut(..length).ok_or("a number above 64 bits")?;
                    place.copy_from_slice(bytes);
                    self.push(Value::Number(i64::from_le_bytes(whole)));
                }
                b'F' => {
                    self.line()?;
                    self.push(Value::Other);
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Other);
                }
                b'U' | b'C' | 0x8c => self.bytes(1)?,
                b'T' | b'B' | b'X' => self.bytes(4)?,
                0x8d | 0x8e | 0x96 => self.bytes(8)?,
                b'S' => {
                    let quoted = self.line()?;
                    let plain = quoted.len() >= 2 && !quoted.contains(&b'\\');
                    let text =
                        plain.then(|| &quoted[1..quoted.len() - 1]).ok_or("a text with escapes")?;
                    self.push(Value::Bytes(text.to_vec()));
                }
                b'V' => {
                    let text = self.line()?.to_vec();
                    self.push(Value::Bytes(text));
                }
                b')' | b']' | 0x8f => self.push(Value::Items(Vec::new())),
                b'}' => self.push(Value::Pairs(Vec::new())),
                b't' | b'l' => {
                    let items = self.popped_to_mark()?;
                    self.push(Value::Items(items));
                }
                tuple @ 0x85..=0x87 => {
                    let at = self.stack.len().checked_sub(usize::from(tuple - 0x84));
                    let items = self.stack.split_off(at.ok_or("a tuple of too few values")?);
                    self.push(Value::Items(items));
                }
                b'd' => {
                    let items = self.popped_to_mark()?;
                    let pairs = pairs(&items);
                    self.push(Value::Pairs(pairs));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.popped_to_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.popped_to_mark()?;
                    self.set(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let name = [module, b".", name].concat();
                    self.push(Value::Name(String::from_utf8_lossy(&name).into_owned()));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id: Id| match &self.values[id.0] {
                        Value::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
                        _ => Err("a name that is no text"),
                    };
                    let name = format!("{}.{}", text(module)?, text(name)?);
                    self.push(Value::Name(name));
                }
                b'R' | 0x81 => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let value = self.call(function, arguments);
                    self.push(value);
                }
                b'b' => {
                    let (state, object) = (self.pop()?, self.top()?);
                    if let Value::Call(_, _, place) = &mut self.values[object.0] {
                        *place = Some(state);
                    }
                }
                put @ (b'q' | b'r' | b'p') => {
                    let at = self.index(put)?;
                    self.remember(at)?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                get @ (b'h' | b'j' | b'g') => {
                    let at = self.index(get)?;
                    self.recall(at)?;
                }
                // A buffer that may not be written to.
                0x98 => {}
                other => return Err(format!("the unknown instruction 0x{other:02x}")),
            }
        }
    }

    /// A call that is not made, but for the bytes that Python 3 writes as a text in older protocols.
    fn call(&self, function: Id, arguments: Id) -> Value {
        let is_encode =
            matches!(&self.values[function.0], Value::Name(name) if name == "_codecs.encode");
        if is_encode && let Value::Items(items) = &self.values[arguments.0] {
            let text = items.first().and_then(|id| match &self.values[id.0] {
                Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
                _ => None,
            });
            let latin: Option<Vec<u8>> = text
                .and_then(|text| text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect());
            if let Some(bytes) = latin {
                return Value::Bytes(bytes);
            }
        }
        Value::Call(function, arguments, None)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("an end too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "an end too early".to_owned())
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("a line without end")?;
        let line = self.take(end + 1)?;
        Ok(line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]))
    }

    fn line_number(&mut self) -> Result<u64, String> {
        let line = std::str::from_utf8(self.line()?).ok();
        line.and_then(|line| line.trim().parse().ok()).ok_or_else(|| "no number".to_owned())
    }

    fn decimal(&mut self) -> Result<(), String> {
        let line = std::str::from_utf8(self.line()?).map_err(|_| "no number")?;
        let number = line.trim_end_matches('L').parse().map_err(|_| "no number")?;
        self.push(Value::Number(number));
        Ok(())
    }

    /// An unsigned number of `size` bytes.
    fn length(&mut self, size: usize) -> Result<usize, String> {
        let mut whole = [0; 8];
        whole[..size].copy_from_slice(self.take(size)?);
        usize::try_from(u64::from_le_bytes(whole)).map_err(|_| "an end too early".to_owned())
    }

    fn number(&mut self, size: usize) -> Result<(), String> {
        let number = self.length(size)?;
        self.push(Value::Number(number as i64));
        Ok(())
    }

    fn bytes(&mut self, size: usize) -> Result<(), String> {
        let length = self.length(size)?;
        let bytes = self.take(length)?.to_vec();
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Id(self.values.len()));
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| "an empty stack".to_owned())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "an empty stack".to_owned())
    }

    fn popped_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("a missing mark")?))
    }

    fn append(&mut self, new: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top.0] {
            Value::Items(items) => items.extend(new),
            _ => return Err("a list that is none".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top.0] {
            Value::Pairs(all) => all.extend(pairs(items)),
            _ => return Err("a dictionary that is none".to_owned()),
        }
        Ok(())
    }

    /// The place in the memory that an instruction is about: one byte, four, or a line.
    fn index(&mut self, instruction: u8) -> Result<u64, String> {
        match instruction {
            b'q' | b'h' => Ok(self.length(1)? as u64),
            b'r' | b'j' => Ok(self.length(4)? as u64),
            _ => self.line_number(),
        }
    }

    fn remember(&mut self, at: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u64) -> Result<(), String> {
        self.stack.push(*self.memo.get(&at).ok_or("a value that was not remembered")?);
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dictionary_as_python_2_wrote_it() {
        // pickle.dumps({'labels': [3, 1000, -1], 'name': 'x'}, 2), with the opcodes of Python 2
        let bytes = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x03M\xe8\x03J\xff\xff\xff\xffeU\x04nameU\x01xu.";
        let pickle = Pickle::parse(bytes).unwrap();
        let labels = pickle.items(pickle.get("labels").unwrap()).unwrap();
        let numbers: Vec<_> = labels.iter().map(|&id| pickle.number(id).unwrap()).collect();
        assert_eq!(numbers, [3, 1000, -1]);
        assert_eq!(pickle.bytes(pickle.get("name").unwrap()), Some(&b"x"[..]));
        assert_eq!(pickle.get("data"), None);
    }

    #[test]
    fn a_program_is_read_and_not_run() {
        // os.system('echo') and its protocol 4 form
        for bytes in [
            &b"cos\nsystem\n(S'echo'\ntR."[..],
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.",
        ] {
            let pickle = Pickle::parse(bytes).unwrap();
            assert!(matches!(pickle.values[pickle.root.0], Value::Call(..)));
            assert!(pickle.array(pickle.root).is_none());
        }
    }

    #[test]
    fn doubling_costs_nothing() {
        let mut bytes = b"N".to_vec();
        bytes.extend(b"2\x86".repeat(100_000)); // (x, x), a hundred thousand times
        bytes.push(b'.');
        assert_eq!(Pickle::parse(&bytes).unwrap().values.len(), 100_001);
    }

    #[test]
    fn wrong_programs_are_refused() {
        for (bytes, found) in [
            (&b""[..], "an end too early"),
            (b"X\xff\xff\xff\xffab", "an end too early at byte 5"),
            (b"t.", "a missing mark"),
            (b"(0.", "an empty stack"),
            (b"h\x07.", "not remembered"),
            (b"\xff", "unknown instruction 0xff"),
            (b"Na.", "an empty stack"),
            (b"NNa.", "a list that is none"),
        ] {
            let error = Pickle::parse(bytes).unwrap_err();
            assert!(error.contains(found), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in any::<Vec<u8>>()) {
            let _ = Pickle::parse(&bytes);
        }
    }
}
