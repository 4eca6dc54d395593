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
            let (key, has_escapes) = self.string()?;
            let key = if has_escapes { self.decoded(key)? } else { Cow::Borrowed(key) };
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

    /// Takes a string, and returns what is between its quotes, and whether there are escapes in it.
    fn string(&mut self) -> Result<(&'a str, bool), ScanError> {
        self.skip(1);
        let start = self.at;
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
        let content = self.since(start);
        self.skip(1);
        Ok((content, has_escapes))
    }

    /// No client's library escapes its keys: those that come so may cost an allocation.
    fn decoded(&self, content: &str) -> Result<Cow<'a, str>, ScanError> {
        let decoded = serde_json::from_str(&format!("\"{content}\""));
        decoded.map(Cow::Owned).map_err(|_| self.malformed("an invalid string"))
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

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, clippy::string_slice, reason = "a test may panic")]

    use std::collections::HashSet;
    use std::fmt;

    use proptest::prelude::*;
    use serde::Deserializer;
    use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
    use serde_json::Value;

    use super::*;

    const DEPTH: usize = 6;

    fn scan(body: &[u8]) -> Result<&str, ScanError> {
        let mut scan = Scanner::new(body, DEPTH)?;
        let value = scan.value()?;
        scan.end()?;
        Ok(value)
    }

    /// serde's own reader as the other opinion: it sees each key of each object in turn.
    struct NoKeyTwice;

    impl<'de> DeserializeSeed<'de> for NoKeyTwice {
        type Value = usize;

        fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
            from.deserialize_any(self)
        }
    }

    /// How deep it is nested, or an error where a key is there twice.
    impl<'de> Visitor<'de> for NoKeyTwice {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_bool<E>(self, _: bool) -> Result<usize, E> {
            Ok(0)
        }

        fn visit_u64<E>(self, _: u64) -> Result<usize, E> {
            Ok(0)
        }

        fn visit_i64<E>(self, _: i64) -> Result<usize, E> {
            Ok(0)
        }

        fn visit_f64<E>(self, _: f64) -> Result<usize, E> {
            Ok(0)
        }

        fn visit_str<E>(self, _: &str) -> Result<usize, E> {
            Ok(0)
        }

        fn visit_unit<E>(self) -> Result<usize, E> {
            Ok(0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
            let mut depth = 0;
            while let Some(inner) = seq.next_element_seed(Self)? {
                depth = depth.max(inner);
            }
            Ok(depth + 1)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
            let mut seen = HashSet::new();
            let mut depth = 0;
            while let Some(key) = map.next_key::<String>()? {
                let inner = map.next_value_seed(Self)?;
                depth = depth.max(inner);
                if !seen.insert(key) {
                    return Err(A::Error::custom("twice"));
                }
            }
            Ok(depth + 1)
        }
    }

    fn serde_accepts(body: &[u8]) -> bool {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let depth = NoKeyTwice.deserialize(&mut reader).ok().filter(|_| reader.end().is_ok());
        depth.is_some_and(|depth| depth <= DEPTH)
    }

    fn json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            prop_oneof!["[a-c ,:{}]{0,6}", Just("\\u00e9".to_owned()), Just("\\ud83d\\ude00\\n".to_owned())]
                .prop_map(|text| format!("\"{text}\"")),
        ];
        let space = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")];
        scalar.prop_recursive(8, 40, 6, move |inner| {
            let key = prop_oneof![
                "[a-h]",
                "[a-h]{2}",
                Just("\\u0061".to_owned()),
                Just("\\u0062".to_owned()),
                Just("\\/".to_owned()),
                Just("/".to_owned())
            ];
            let array = prop::collection::vec(inner.clone(), 0..5);
            let object = prop::collection::vec((key, space.clone(), inner), 0..12);
            prop_oneof![
                (array, space.clone()).prop_map(|(items, s)| format!("{s}[{s}{}{s}]{s}", items.join(","))),
                object.prop_map(|members| {
                    let members =
                        members.iter().map(|(key, s, value)| format!("{s}\"{key}\"{s}:{s}{value}{s}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn inv_04_what_the_scan_accepts_is_what_serde_accepts_without_doubled_keys(text in json()) {
            prop_assert_eq!(scan(text.as_bytes()).is_ok(), serde_accepts(text.as_bytes()), "{}", text);
        }

        #[test]
        fn inv_04_a_damaged_text_is_judged_as_serde_judges_it(
            text in json(),
            at in any::<prop::sample::Index>(),
            damage in prop_oneof![
                Just(None),
                "[\\[\\]{}\",:0e.\\-\\\\u tn\u{1}\u{feff}]".prop_map(|text| Some(text.into_bytes())),
                any::<u8>().prop_map(|byte| Some(vec![byte])),
            ],
            cut in 0..3_usize,
        ) {
            let mut body = text.into_bytes();
            let at = at.index(body.len());
            let end = (at + cut).min(body.len());
            body.splice(at..end, damage.unwrap_or_default());
            prop_assert_eq!(scan(&body).is_ok(), serde_accepts(&body), "{:?}", String::from_utf8_lossy(&body));
        }

        #[test]
        fn the_text_of_a_value_is_all_of_it_and_no_more(text in json(), s in "[ \\n]{0,3}") {
            let padded = format!("{s}{text}{s}");
            if let Ok(value) = scan(padded.as_bytes()) {
                prop_assert_eq!(value, text.trim_matches([' ', '\t', '\r', '\n']));
                prop_assert!(serde_json::from_str::<Value>(value).is_ok());
            }
        }

        #[test]
        fn inv_04_a_key_planted_twice_is_refused_wherever_it_is(
            keys in prop::collection::hash_set("[a-z]{1,4}", 1..40),
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            wrap in prop::collection::vec(any::<bool>(), 0..4),
        ) {
            let mut keys: Vec<String> = keys.into_iter().collect();
            let planted = keys[which.index(keys.len())].clone();
            // Written otherwise, meant the same.
            let first = planted.chars().next().unwrap();
            let escaped = format!("\\u{:04X}{}", u32::from(first), &planted[1..]);
            let once = object(&keys);
            prop_assert!(scan(once.as_bytes()).is_ok());
            keys.insert(at.index(keys.len() + 1), escaped);
            let mut body = object(&keys);
            for in_array in wrap {
                body = if in_array { format!("[1,{body}]") } else { format!(r#"{{"a":0,"x":{body},"y":1}}"#) };
            }
            prop_assert_eq!(scan(body.as_bytes()), Err(ScanError::DuplicateKey(planted)));
        }
    }

    fn object(keys: &[String]) -> String {
        let members = keys.iter().map(|key| format!("\"{key}\":{{\"a\":[]}}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "}",
            "[1,]",
            "[,1]",
            "{,}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{'a':1}",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1]",
            "[1}",
            "1 1",
            "[]]",
            "nul",
            "nullx",
            "True",
            "+1",
            "01",
            "-",
            "-01",
            "1.",
            ".1",
            "1e",
            "1e+",
            "0x1",
            "1e400",
            "-1e400",
            "NaN",
            "Infinity",
            "\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\t\"",
            "\"\0\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\ud800x\"",
            "// c\n1",
            "/**/1",
            "\u{feff}1",
            "\u{a0}1",
            "1\u{c}",
        ] {
            assert!(scan(text.as_bytes()).is_err(), "{text:?}");
            assert!(!serde_accepts(text.as_bytes()), "{text:?}");
        }
        let endless = "1".repeat(SURELY_FINITE + 100);
        assert!(scan(endless.as_bytes()).is_err());
        for bytes in [&b"\"\xff\""[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\"", b"\xef\xbb\xbf1"] {
            assert!(scan(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn inv_12_two_million_brackets_cost_as_much_as_the_bound() {
        let body = "[".repeat(2_000_000);
        let mut scan = Scanner::new(body.as_bytes(), 32).unwrap();
        assert_eq!(scan.value(), Err(ScanError::TooDeep(32)));
        assert_eq!(scan.at, 32, "nothing past the bound was read");
        let body = "{\"a\":".repeat(400_000);
        assert_eq!(Scanner::new(body.as_bytes(), 32).unwrap().value(), Err(ScanError::TooDeep(32)));
    }

    #[test]
    fn inv_12_a_body_full_of_keys_is_not_compared_each_with_each() {
        // 200,000 keys: each with each would be 20,000,000,000 comparisons, and outlast any test run.
        let mut keys: Vec<String> = (0..200_000).map(|number| format!("k{number}")).collect();
        assert!(scan(object(&keys).as_bytes()).is_ok());
        keys.push("k77777".to_owned());
        assert_eq!(scan(object(&keys).as_bytes()), Err(ScanError::DuplicateKey("k77777".to_owned())));
    }
}
