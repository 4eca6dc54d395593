//! The HTTP head of a node's answer, however broken: where its body ends is never open to opinion.
#![no_main]

use chancery::upstream::{Framing, Head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(head)) = Head::read(bytes) else { return };
    assert!(head.length <= bytes.len());
    let text = String::from_utf8_lossy(&bytes[..head.length]).to_ascii_lowercase();
    assert!(text.ends_with("\n\r\n") || text.ends_with("\n\n"));
    let values = |name: &str| -> Vec<String> {
        let lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    // Whatever the body is: one length at most, and none beside chunks.
    assert!(lengths.iter().all(|length| length.bytes().all(|byte| byte.is_ascii_digit())));
    assert!(codings.is_empty() || (lengths.is_empty() && codings == ["chunked"]));
    match head.body {
        Framing::Chunked => assert!(!codings.is_empty()),
        Framing::Open => assert!(!head.is_kept && lengths.is_empty() && codings.is_empty()),
        Framing::Sized(0) => {}
        Framing::Sized(size) => {
            let fits = |length: &String| length.parse().unwrap_or(usize::MAX) == size;
            assert!(!lengths.is_empty() && lengths.iter().all(fits));
        }
    }
});
