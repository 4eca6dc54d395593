//! One strict pass over JSON: RFC 8259, no key twice in an object, no nesting past a bound.
//!
//! Decoders disagree on what a doubled key means (Go takes the last and folds case, serde's structs refuse,
//! its maps take the last), so text in which one occurs has no meaning here. The pass does not recurse, looks
//! at each byte a bounded number of times, and allocates only for what is open: a frame a container, a slot a key.

use std::borrow::Cow;

/// Why the text is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body begins with a byte order mark; send plain UTF-8")]
    ByteOrderMark,
    #[error("the body is not JSON: {expected} expected at byte {at}")]
    Syntax { expected: &'static str, at: usize },
    #[error("the body is not JSON: {what} at byte {at}")]
    Malformed { what: &'static str, at: usize },
    #[error("the body is nested more than {0} deep")]
    TooDeep(usize),
    #[error("the body has the key {0:?} twice in one object")]
    DuplicateKey(String),
}

/// A reader that stands between two tokens of the text.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    max_depth: usize,
    open: Vec<Frame>,
    /// The decoded keys of all open objects, the outermost object's first.
    keys: Vec<Cow<'a, str>>,
}

/// A container that was opened and not yet closed.
#[derive(Debug)]
struct Frame {
    is_object: bool,
    /// Nothing of its content was read yet: what follows needs no comma.
    is_fresh: bool,
    /// Where in `keys` its own begin.
    first_key: usize,
}

/// How much of a key an error repeats.
const SHOWN: usize = 64;

/// Up to this many keys, comparing each with each is faster than sorting them.
const FEW_KEYS: usize = 8;

/// The largest number text that is surely a finite double, so that it need not be converted to know.
const SURELY_FINITE: usize = 300;

impl<'a> Scanner<'a> {
    pub fn new(body: &'a [u8], max_depth: usize) -> Result<Self, ScanError> {
        let text = std::str::from_utf8(body).map_err(|_| ScanError::NotUtf8)?;
        if text.starts_with('\u{feff}') {
            return Err(ScanError::ByteOrderMark);
        }
        Ok(Self { text, at: 0, max_depth, open: Vec::new(), keys: Vec::new() })
    }

    /// The next byte that is not white space, without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.skip(1);
        }
        self.byte()
    }

    /// Takes one whole value, and returns its text.
    pub fn value(&mut self) -> Result<&'a str, ScanError> {
        self.peek();
        let start = self.at;
        let depth = self.open.len();
        loop {
            self.begin()?;
            loop {
                if self.open.len() <= depth {
                    return Ok(self.since(start));
                }
                if self.advance()? {
                    break;
                }
            }
        }
    }

    /// Takes a scalar, or opens a container.
    pub fn begin(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'{') => self.open(true),
            Some(b'[') => self.open(false),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.expected("a value")),
        }
    }

    /// Goes to the next value inside the innermost container, past its key if it is an object. `false` if there
    /// is none: the container was closed.
    pub fn advance(&mut self) -> Result<bool, ScanError> {
        let next = self.peek();
        let Some(frame) = self.open.last_mut() else {
            return Ok(false);
        };
        let is_object = frame.is_object;
        let is_fresh = std::mem::replace(&mut frame.is_fresh, false);
        match next {
            Some(b'}') if is_object => return self.close(),
            Some(b']') if !is_object => return self.close(),
            Some(b',') if !is_fresh => self.skip(1),
            _ if is_fresh => {}
            _ if is_object => return Err(self.expected("`,` or `}`")),
            _ => return Err(self.expected("`,` or `]`")),
        }
        if is_object {
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key"));
            }
            let key = self.string()?;
            self.keys.push(key);
            if self.peek() != Some(b':') {
                return Err(self.expected("`:`"));
            }
            self.skip(1);
        }
        Ok(true)
    }

    /// The key that [`Scanner::advance`] went past, decoded.
    pub fn key(&self) -> Cow<'a, str> {
        self.keys.last().cloned().unwrap_or_default()
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end of the body")),
        }
    }

    fn open(&mut self, is_object: bool) -> Result<(), ScanError> {
        if self.open.len() >= self.max_depth {
            return Err(ScanError::TooDeep(self.max_depth));
        }
        self.skip(1);
        self.open.push(Frame { is_object, is_fresh: true, first_key: self.keys.len() });
        Ok(())
    }

    fn close(&mut self) -> Result<bool, ScanError> {
        self.skip(1);
        if let Some(frame) = self.open.pop() {
            let keys = self.keys.get_mut(frame.first_key..).unwrap_or_default();
            if let Some(key) = doubled(keys) {
                return Err(ScanError::DuplicateKey(key.chars().take(SHOWN).collect()));
            }
            self.keys.truncate(frame.first_key);
        }
        Ok(false)
    }

    /// Takes a string, and decodes it; one without escapes is borrowed.
    fn string(&mut self) -> Result<Cow<'a, str>, ScanError> {
        let start = self.at;
        self.skip(1);
        let mut has_escapes = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            self.skip(
                rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len()),
            );
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.malformed("a control character in a string")),
                None => return Err(self.expected("`\"`")),
            }
        }
        self.skip(1);
        let quoted = self.since(start);
        if !has_escapes {
            let content = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            return Ok(Cow::Borrowed(content.unwrap_or_default()));
        }
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| self.malformed("an invalid string"))
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        self.skip(1);
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.skip(1);
                Ok(())
            }
            Some(b'u') => {
                let unit = self.code_unit()?;
                // Half of a surrogate pair is no character: some decoders replace it, some refuse it.
                match unit {
                    0xD800..=0xDBFF if self.byte() == Some(b'\\') => {
                        self.skip(1);
                        match self.byte() {
                            Some(b'u') if matches!(self.code_unit()?, 0xDC00..=0xDFFF) => Ok(()),
                            _ => Err(self.malformed("half of a surrogate pair")),
                        }
                    }
                    0xD800..=0xDFFF => Err(self.malformed("half of a surrogate pair")),
                    _ => Ok(()),
                }
            }
            _ => Err(self.malformed("an unknown escape")),
        }
    }

    /// Takes `uXXXX`.
    fn code_unit(&mut self) -> Result<u16, ScanError> {
        self.skip(1);
        let end = self.at.saturating_add(4);
        let digits = self.text.get(self.at..end).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let unit = unit.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        self.at = end;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.skip(1);
        }
        if self.byte() == Some(b'0') {
            // Whatever digit follows is not part of the number, and nothing else may stand there either.
            self.skip(1);
        } else {
            self.digits()?;
        }
        let mut has_exponent = false;
        if self.byte() == Some(b'.') {
            self.skip(1);
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            has_exponent = true;
            self.skip(1);
            if let Some(b'+' | b'-') = self.byte() {
                self.skip(1);
            }
            self.digits()?;
        }
        // 1e400 is infinite to one decoder and an error to the next.
        let text = self.since(start);
        if (has_exponent || text.len() > SURELY_FINITE) && !text.parse().is_ok_and(f64::is_finite) {
            return Err(self.malformed("a number out of range"));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        if count == 0 {
            return Err(self.expected("a digit"));
        }
        self.skip(count);
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Result<(), ScanError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.skip(word.len());
        Ok(())
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    const fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    const fn expected(&self, expected: &'static str) -> ScanError {
        ScanError::Syntax { expected, at: self.at }
    }

    const fn malformed(&self, what: &'static str) -> ScanError {
        ScanError::Malformed { what, at: self.at }
    }
}

/// A key that stands there twice. Sorts them where they are many: each with each would take minutes for a body
/// full of keys.
fn doubled<'k>(keys: &'k mut [Cow<'_, str>]) -> Option<&'k str> {
    if keys.len() <= FEW_KEYS {
        let mut rest = &*keys;
        while let Some((key, others)) = rest.split_first() {
            if others.contains(key) {
                return Some(key);
            }
            rest = others;
        }
        return None;
    }
    keys.sort_unstable();
    keys.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(&**one),
        _ => None,
    })
}
