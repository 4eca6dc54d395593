//! Function signatures as people write them, with names at every depth: `swap((address token, uint256 amount) params)`.

use alloy_json_abi::{Param, StateMutability};

/// Reads a signature. It nests no deeper than it has brackets, whose number the caller bounds.
pub(in crate::policy) fn parse(signature: &str) -> Option<alloy_json_abi::Function> {
    let (name, rest) = signature.trim().split_once('(')?;
    let name = name.strip_prefix("function ").unwrap_or(name);
    let mut rest = rest;
    let inputs = list(&mut rest)?;
    if !rest.trim().is_empty() || !is_identifier(name) {
        return None;
    }
    Some(alloy_json_abi::Function {
        name: name.to_owned(),
        inputs,
        outputs: Vec::new(),
        state_mutability: StateMutability::NonPayable,
    })
}

/// Parameters up to the closing bracket, whose opening one was taken.
fn list(rest: &mut &str) -> Option<Vec<Param>> {
    let mut found = Vec::new();
    *rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix(')') {
        *rest = after;
        return Some(found);
    }
    loop {
        found.push(one(rest)?);
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            *rest = after.trim_start();
        } else {
            *rest = rest.strip_prefix(')')?;
            return Some(found);
        }
    }
}

fn one(rest: &mut &str) -> Option<Param> {
    let inner = rest.strip_prefix("tuple").unwrap_or(rest).strip_prefix('(');
    let (root, components) = if let Some(inner) = inner {
        *rest = inner;
        ("tuple".to_owned(), list(rest)?)
    } else {
        let root = match take(rest, |c| c.is_ascii_alphanumeric()) {
            "uint" => "uint256",
            "int" => "int256",
            "" | "tuple" => return None,
            other => other,
        };
        (root.to_owned(), Vec::new())
    };
    let suffix = take(rest, |c| c.is_ascii_digit() || matches!(c, '[' | ']'));
    let mut name = "";
    while rest.starts_with(' ') {
        *rest = rest.trim_start();
        match take(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$')) {
            // Nothing stands before a comma or a bracket.
            "memory" | "calldata" | "" => {}
            word if name.is_empty() && is_identifier(word) => name = word,
            _ => return None,
        }
    }
    Some(Param { ty: format!("{root}{suffix}"), name: name.to_owned(), components, internal_type: None })
}

fn take<'t>(rest: &mut &'t str, is: impl Fn(char) -> bool) -> &'t str {
    let end = rest.find(|c| !is(c)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at(end);
    *rest = after;
    taken
}

fn is_identifier(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$');
    !text.is_empty() && text.chars().all(plain) && !text.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_at_every_depth() {
        for (text, canonical) in [
            ("f()", "f()"),
            ("f( )", "f()"),
            ("function f(address)", "f(address)"),
            ("f(address to, uint amount)", "f(address,uint256)"),
            ("f(bytes calldata data,int[2][] n)", "f(bytes,int256[2][])"),
            ("f((address a, (bool b)[] c) d, tuple(uint8 e)[3] f)", "f((address,(bool)[]),(uint8)[3])"),
            ("$_f1(bytes32 _a)", "$_f1(bytes32)"),
        ] {
            assert_eq!(
                parse(text).map(|function| function.signature()).as_deref(),
                Some(canonical),
                "{text}"
            );
        }
        let function = parse("f((address a, (bool b)[] c) d)").unwrap();
        assert_eq!(function.inputs[0].name, "d");
        assert_eq!(function.inputs[0].components[1].components[0].name, "b");
        for text in [
            "",
            "f",
            "f(",
            "f)",
            "(address)",
            "1f()",
            "f(address",
            "f(address))",
            "f(address,)",
            "f(,)",
            "f(address a b)",
            "f(address 1a)",
            "f()()",
            "f(address) returns (bool)",
            "f g()",
            "f(address\u{a0}to)",
            "f(tuple)",
            "f(addr,ess",
            "f(())x",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
