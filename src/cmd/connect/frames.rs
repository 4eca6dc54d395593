//! Foundry's and geth's IPC framing: JSON values one after the other, with nothing between them but white space.
//!
//! Only where a value ends is found out here; whether it is good JSON is for the gateway to say.

use bytes::{Buf as _, Bytes, BytesMut};

/// The largest value that is taken: the gateway's own bound on a body.
pub const MAX_VALUE: usize = 2 * 1024 * 1024;

/// Deeper than the gateway reads (32), so that its own clear error comes through.
const MAX_DEPTH: u32 = 128;

/// Cuts a stream of bytes into JSON objects and arrays, however it arrives.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
    /// How far into `buffer` the scan has come.
    scanned: usize,
    depth: u32,
    /// One bit for each open bracket, the innermost lowest: 1 for `{`, 0 for `[`.
    open: u128,
    /// Within a string; and after a backslash in it.
    string: bool,
    escaped: bool,
}

/// The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("expected a JSON object or array, found byte 0x{0:02x}")]
    NotAValue(u8),
    #[error("a bracket is closed that was not opened")]
    Unbalanced,
    #[error("the JSON is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the request is larger than {MAX_VALUE} bytes")]
    TooLarge,
}

impl Frames {
    /// Where to read more bytes into.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether a value has begun and not ended.
    pub fn in_value(&self) -> bool {
        self.depth > 0
    }

    /// The next whole value, or `None` until more bytes are there.
    pub fn next(&mut self) -> Result<Option<Bytes>, Unreadable> {
        if self.depth == 0 {
            self.skip_white_space();
        }
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            self.scanned = self.scanned.saturating_add(1);
            if self.scanned > MAX_VALUE {
                return Err(Unreadable::TooLarge);
            }
            self.take(byte)?;
            if self.depth == 0 {
                let value = self.buffer.split_to(self.scanned).freeze();
                self.scanned = 0;
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn take(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b'{' => self.opens(1),
            b'[' => self.opens(0),
            b'}' => self.closes(1),
            b']' => self.closes(0),
            other if self.depth == 0 => Err(Unreadable::NotAValue(other)),
            b'"' => {
                self.string = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    const fn opens(&mut self, kind: u128) -> Result<(), Unreadable> {
        if self.depth >= MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        self.depth = self.depth.saturating_add(1);
        self.open = self.open << 1 | kind;
        Ok(())
    }

    const fn closes(&mut self, kind: u128) -> Result<(), Unreadable> {
        if self.depth == 0 || self.open & 1 != kind {
            return Err(Unreadable::Unbalanced);
        }
        self.depth = self.depth.saturating_sub(1);
        self.open >>= 1;
        Ok(())
    }

    fn skip_white_space(&mut self) {
        let blank =
            self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.buffer.advance(blank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All values of a stream that arrives in these pieces.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Bytes>, Unreadable> {
        let mut frames = Frames::default();
        let mut values = Vec::new();
        for piece in pieces {
            frames.buffer().extend_from_slice(piece);
            while let Some(value) = frames.next()? {
                values.push(value);
            }
        }
        Ok(values)
    }

    #[test]
    fn values_may_be_split_at_any_byte() {
        let one = r#"{"id":0,"method":"a}]\"{\\","params":[{"é":"]\\\""}]}"#.as_bytes();
        let two = br#"[{"id":1},{"id":"}"}]"#;
        for gap in ["", "\n", " \r\n\t"] {
            let stream = [one, gap.as_bytes(), two].concat();
            for at in 0..stream.len() {
                let (head, tail) = stream.split_at(at);
                assert_eq!(read([head, tail]).unwrap(), [one, two.as_slice()], "{at}");
            }
            assert_eq!(read(stream.chunks(1)).unwrap(), [one, two.as_slice()]);
        }
    }

    #[test]
    fn what_is_no_object_or_array_ends_the_stream() {
        for (text, why) in [
            ("1", Unreadable::NotAValue(b'1')),
            ("\"{}\"", Unreadable::NotAValue(b'"')),
            ("GET / HTTP/1.1", Unreadable::NotAValue(b'G')),
            ("\u{feff}{}", Unreadable::NotAValue(0xef)),
            ("{}\0", Unreadable::NotAValue(0)),
            ("}", Unreadable::Unbalanced),
            ("{\"a\":[}", Unreadable::Unbalanced),
            ("[}", Unreadable::Unbalanced),
        ] {
            assert_eq!(read([text.as_bytes()]), Err(why), "{text}");
        }
    }

    #[test]
    fn inv_12_depth_and_size_are_bounded() {
        let deep = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(read([deep(128).as_bytes()]).unwrap().len(), 1);
        assert_eq!(read([deep(129).as_bytes()]), Err(Unreadable::TooDeep));

        let large = |size: usize| format!("[\"{}\"]", "x".repeat(size - 4));
        assert_eq!(read([large(MAX_VALUE).as_bytes()]).unwrap().len(), 1);
        assert_eq!(read([large(MAX_VALUE + 1).as_bytes()]), Err(Unreadable::TooLarge));
        // Not only once it is whole.
        let begun = [b"[\"".as_slice(), &b"x".repeat(MAX_VALUE)].concat();
        assert_eq!(read([begun.as_slice()]), Err(Unreadable::TooLarge));
    }

    proptest! {
        #[test]
        fn any_stream_of_values_is_cut_as_a_json_parser_cuts_it(
            values in prop::collection::vec(any_value(), 0..6),
            gap in "[ \n\t\r]{0,3}",
            size in 1_usize..40,
        ) {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            let stream = texts.join(&gap);
            let cut = read(stream.as_bytes().chunks(size)).unwrap();
            prop_assert_eq!(cut, texts);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"{}[]\"\\ a,:".to_vec()), 0..60)) {
            drop(read([bytes.as_slice()]));
        }
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            ".*".prop_map(Value::from),
            r#"[\\"{}\[\]]{0,6}"#.prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::Null),
        ];
        let tree = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        });
        prop::collection::vec(tree, 0..4).prop_map(Value::from)
    }
}
