//! JSON with nothing left to a parser's taste: a key that stands twice, or a number that is no integer, is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON whose numbers are integers")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node, E> {
        Err(E::custom(
            "a number is no integer of 64 bits: write integers from 2^53 on as text, such as \"1000000000000000000\"",
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry::<String, Node>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("`{}` stands there twice", shown(&key))));
            }
            object.insert(key, value);
        }
        Ok(Node::Object(object))
    }
}

/// A name of the client's, short enough for a sentence.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"\u0061":2}}"#, "1.0", "1e2", "-0", "18446744073709551616"]
        {
            assert!(serde_json::from_str::<Node>(text).is_err(), "{text}");
        }
        let ether = serde_json::from_str::<Node>("[123456789012345678901]").unwrap_err().to_string();
        assert!(ether.contains("as text"), "{ether}");
        let read: Node = serde_json::from_str(r#"[null,true,-1,"x",{}]"#).unwrap();
        let parts = [
            Node::Null,
            Node::Bool(true),
            Node::Integer(-1),
            Node::Text("x".to_owned()),
            Node::Object(BTreeMap::new()),
        ];
        assert_eq!(read, Node::List(parts.into()));
    }
}
