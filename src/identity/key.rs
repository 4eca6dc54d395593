//! A name that a client gives to a request, so that its repeat is known for one: the header `Idempotency-Key`.

use std::sync::Arc;

/// 1 to 128 visible ASCII characters; in a batch, with the call's place behind a space, which no header's key has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// The longest key, in bytes.
const LONGEST: usize = 128;

impl IdempotencyKey {
    /// Reads a header's value; `None` if it is no key.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let is_key = (1..=LONGEST).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = str::from_utf8(value).ok().filter(|_| is_key)?;
        Some(Self(text.into()))
    }

    /// The key of the call at this place of a batch, from 0.
    #[must_use]
    pub fn at(&self, place: usize) -> Self {
        Self(format!("{} {place}", self.0).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        let long = "k".repeat(128);
        for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", "!~", &long] {
            assert_eq!(IdempotencyKey::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let longer = "k".repeat(129);
        for bad in ["", " ", "a b", " a", "a\t", "a\n", "\u{e9}", "a\u{7f}", &longer] {
            assert_eq!(IdempotencyKey::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(IdempotencyKey::parse(&[0xff]), None);
    }

    #[test]
    fn no_call_of_a_batch_has_the_key_of_another_request() {
        let key = IdempotencyKey::parse(b"a").unwrap();
        assert_eq!(key.at(1).as_str(), "a 1");
        assert_eq!(IdempotencyKey::parse(key.at(1).as_str().as_bytes()), None);
    }
}
