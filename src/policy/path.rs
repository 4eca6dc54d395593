//! Where a condition looks in the arguments of a call: `amount`, `params.recipient`, `path[-1]`, `all(orders.to)`, `len(path)`.

use std::borrow::Cow;
use std::fmt;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::U256;

use crate::policy::abi::{Function, Part};
use crate::policy::packed;

/// A place in the arguments of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Path {
    /// The number of the argument.
    pub at: usize,
    pub steps: Vec<Step>,
    pub over: Over,
    /// As it was written.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Step {
    /// A component of a tuple.
    Part(usize),
    /// An item of an array; from its end where negative.
    Item(i32),
    /// Each item of an array.
    Each,
}

/// What is looked at there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Over {
    /// The value itself.
    One,
    /// Every value, of none as well: `all(…)`.
    All,
    /// At least one of the values: `some(…)`.
    Some,
    /// How many items, or bytes, there are: `len(…)`.
    Length,
    /// The token that a path of Uniswap v3, which is bytes, begins or ends with: `head(…)`, `tail(…)`.
    Head,
    Tail,
    /// Every token of such a path: `tokens(…)`.
    Tokens,
    /// At least one of them: what `tokens(…)` means in a deny rule.
    SomeToken,
}

impl Path {
    /// Reads a path through the parameters of a function, and the type of what it leads to.
    pub fn parse(function: &Function, text: &str) -> Result<(Self, DynSolType), String> {
        let (over, inner) = split(text);
        let mut rest = inner;
        let name = take_name(&mut rest);
        let none = || format!("{} has no parameter `{name}`", function.describe());
        let at = function.position(name).ok_or_else(none)?;
        let mut ty = function.types.get(at).ok_or_else(none)?;
        let mut parts = function.parts.get(at).map(Vec::as_slice).unwrap_or_default();
        let mut steps = Vec::new();
        let each = matches!(over, Over::All | Over::Some);
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let (index, after) =
                    after.split_once(']').ok_or_else(|| format!("`{text}`: a `]` is missing"))?;
                rest = after;
                let (item, index) = indexed(ty, index).map_err(|why| format!("`{text}`: {why}"))?;
                steps.push(Step::Item(index));
                ty = item;
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
                while let (true, DynSolType::Array(item) | DynSolType::FixedArray(item, _)) = (each, ty) {
                    steps.push(Step::Each);
                    ty = item;
                }
                let name = take_name(&mut rest);
                let DynSolType::Tuple(types) = ty else {
                    return Err(format!(
                        "`{text}`: a {} has no part `{name}`{}",
                        ty.sol_type_name(),
                        hint(ty)
                    ));
                };
                let part = position(parts, types.len(), name);
                let part =
                    part.ok_or_else(|| format!("`{text}`: {} has no part `{name}`", describe(ty, parts)))?;
                steps.push(Step::Part(part));
                ty = types.get(part).ok_or_else(none)?;
                parts = parts.get(part).map(|part| part.parts.as_slice()).unwrap_or_default();
            } else {
                return Err(format!(
                    "`{text}` is no path; write for example \"params.recipient\", \"path[0]\" or \"all(amounts)\""
                ));
            }
        }
        while let (true, DynSolType::Array(item) | DynSolType::FixedArray(item, _)) = (each, ty) {
            steps.push(Step::Each);
            ty = item;
        }
        if each && !steps.contains(&Step::Each) {
            return Err(format!("`{text}`: there is no array in it, so write it without {}( )", over.word()));
        }
        let path = Self { at, steps, over, text: text.to_owned() };
        match (over, ty) {
            (Over::Length, DynSolType::Array(_) | DynSolType::Bytes | DynSolType::String) => {
                Ok((path, DynSolType::Uint(256)))
            }
            (Over::Length, other) => {
                Err(format!("`{text}`: a {} has no length of its own", other.sol_type_name()))
            }
            (Over::Head | Over::Tail | Over::Tokens, DynSolType::Bytes) => Ok((path, DynSolType::Address)),
            (Over::Head | Over::Tail | Over::Tokens, other) => {
                Err(format!("`{text}`: a {} is not bytes, which a path of tokens is", other.sol_type_name()))
            }
            (_, ty) => Ok((path, ty.clone())),
        }
    }

    /// A whole argument.
    pub fn argument(function: &Function, at: usize) -> Self {
        Self { at, steps: Vec::new(), over: Over::One, text: function.label(at) }
    }

    /// The same place, looked at in another way.
    pub fn looked_at(&self, over: Over) -> Self {
        let text =
            if over == Over::One { self.text.clone() } else { format!("{}({})", over.word(), self.text) };
        Self { over, text, ..self.clone() }
    }

    /// Whether both look at the same values in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.at, &self.steps, self.over) == (other.at, &other.steps, other.over)
    }

    /// The values that are looked at, or why there is none.
    pub fn values<'v>(&self, arguments: &'v [DynSolValue]) -> Result<Vec<Cow<'v, DynSolValue>>, String> {
        let mut found = Vec::new();
        for value in self.places(arguments)? {
            match self.over {
                Over::One | Over::All | Over::Some => found.push(Cow::Borrowed(value)),
                Over::Length => {
                    let length = length(value).ok_or_else(|| format!("there is no `{}`", self.text))?;
                    found.push(Cow::Owned(DynSolValue::Uint(length, 256)));
                }
                Over::Head | Over::Tail | Over::Tokens | Over::SomeToken => {
                    let tokens = value.as_bytes().and_then(packed::tokens);
                    let tokens =
                        tokens.ok_or_else(|| format!("there is no `{}`: it is no path", self.text))?;
                    let one = match self.over {
                        Over::Head => tokens.first(),
                        Over::Tail => tokens.last(),
                        _ => None,
                    };
                    let looked_at = one.map_or(tokens.as_slice(), std::slice::from_ref);
                    found.extend(looked_at.iter().map(|token| Cow::Owned(DynSolValue::Address(*token))));
                }
            }
        }
        Ok(found)
    }

    /// Whether it looks into the bytes of a path: those that are none may be read otherwise by who takes them.
    pub const fn is_packed(&self) -> bool {
        matches!(self.over, Over::Head | Over::Tail | Over::Tokens | Over::SomeToken)
    }

    fn places<'v>(&self, arguments: &'v [DynSolValue]) -> Result<Vec<&'v DynSolValue>, String> {
        let none = || format!("there is no `{}`", self.text);
        let mut found = vec![arguments.get(self.at).ok_or_else(none)?];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                match (step, value) {
                    (Step::Part(at), DynSolValue::Tuple(parts)) => {
                        next.push(parts.get(*at).ok_or_else(none)?);
                    }
                    (Step::Item(at), DynSolValue::Array(items) | DynSolValue::FixedArray(items)) => {
                        let item = place(*at, items.len()).and_then(|at| items.get(at));
                        next.push(item.ok_or_else(|| {
                            format!("there is no `{}`: it has {} items", self.text, items.len())
                        })?);
                    }
                    (Step::Each, DynSolValue::Array(items) | DynSolValue::FixedArray(items)) => {
                        next.extend(items);
                    }
                    _ => return Err(none()),
                }
            }
            found = next;
        }
        Ok(found)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Over {
    const fn word(self) -> &'static str {
        match self {
            Self::One => "",
            Self::All => "all",
            Self::Some => "some",
            Self::Length => "len",
            Self::Head => "head",
            Self::Tail => "tail",
            Self::Tokens | Self::SomeToken => "tokens",
        }
    }
}

/// How many items or bytes there are.
fn length(value: &DynSolValue) -> Option<U256> {
    let length = match value {
        DynSolValue::Array(items) | DynSolValue::FixedArray(items) => items.len(),
        DynSolValue::Bytes(bytes) => bytes.len(),
        DynSolValue::String(text) => text.len(),
        _ => return None,
    };
    Some(U256::from(length))
}

/// The places of a function's arguments where this can stand, such as an address, and of which nothing is `said`. An index
/// into an array whose length is open says nothing of its other items.
pub(in crate::policy) fn unsaid(
    function: &Function,
    said: &[Path],
    holds: fn(&DynSolType) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for (at, ty) in function.types.iter().enumerate() {
        let parts = function.parts.get(at).map(Vec::as_slice).unwrap_or_default();
        let said: Vec<_> = said.iter().filter(|path| path.at == at).collect();
        open(ty, parts, &mut Place { steps: Vec::new(), text: function.label(at), holds }, &said, &mut found);
    }
    found
}

struct Place {
    steps: Vec<Step>,
    text: String,
    holds: fn(&DynSolType) -> bool,
}

fn open(ty: &DynSolType, parts: &[Part], at: &mut Place, said: &[&Path], found: &mut Vec<String>) {
    let is_said = |steps: &[Step]| {
        said.iter().any(|path| path.steps == steps && matches!(path.over, Over::One | Over::All))
    };
    if !(at.holds)(ty) || is_said(&at.steps) {
        return;
    }
    let inside = |step: Step, text: String, ty: &DynSolType, parts: &[Part]| {
        let mut place = Place { steps: at.steps.clone(), text, holds: at.holds };
        place.steps.push(step);
        let mut found = Vec::new();
        open(ty, parts, &mut place, said, &mut found);
        found
    };
    match ty {
        DynSolType::Tuple(types) => {
            for (part, ty) in types.iter().enumerate() {
                let text = format!("{}.{}", at.text, label(parts, part));
                let parts = parts.get(part).map(|part| part.parts.as_slice()).unwrap_or_default();
                found.extend(inside(Step::Part(part), text, ty, parts));
            }
        }
        DynSolType::Array(item) => {
            let open = inside(Step::Each, at.text.clone(), item, parts);
            found.extend(open.into_iter().map(|text| format!("all({text})")));
        }
        DynSolType::FixedArray(item, size) => {
            let all = inside(Step::Each, at.text.clone(), item, parts);
            if all.is_empty() {
                return;
            }
            let size = i32::try_from(*size).unwrap_or(i32::MAX);
            let each = (0..size).flat_map(|at_item| {
                inside(Step::Item(at_item), format!("{}[{at_item}]", at.text), item, parts)
            });
            let each: Vec<_> = each.collect();
            if !each.is_empty() {
                found.extend(all.into_iter().map(|text| format!("all({text})")));
            }
        }
        _ => found.push(at.text.clone()),
    }
}

/// `all(x)`, `some(x)`, `len(x)`, `head(x)`, `tail(x)`, `tokens(x)`, or `x`.
fn split(text: &str) -> (Over, &str) {
    for over in [Over::All, Over::Some, Over::Length, Over::Head, Over::Tail, Over::Tokens] {
        let inner = text.strip_prefix(over.word()).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
        if let Some(inner) = inner {
            return (over, inner);
        }
    }
    (Over::One, text)
}

fn take_name<'t>(rest: &mut &'t str) -> &'t str {
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    name
}

/// The item's type, and its index: of an array of fixed size counted from its beginning, so that one item has one path.
fn indexed<'t>(ty: &'t DynSolType, index: &str) -> Result<(&'t DynSolType, i32), String> {
    let number = index.parse::<i32>().ok().filter(|number| number.to_string() == index);
    let number = number
        .ok_or_else(|| format!("`[{index}]` is no index; write [0] for the first, [-1] for the last"))?;
    match ty {
        DynSolType::Array(item) => Ok((item, number)),
        DynSolType::FixedArray(item, size) => {
            let at = place(number, *size).filter(|at| at < size).and_then(|at| i32::try_from(at).ok());
            Ok((item, at.ok_or_else(|| format!("there are {size} items only"))?))
        }
        other => Err(format!("a {} has no items", other.sol_type_name())),
    }
}

fn place(index: i32, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn position(parts: &[Part], count: usize, name: &str) -> Option<usize> {
    let named = parts.iter().position(|part| part.name == name && !name.is_empty());
    named.or_else(|| name.parse().ok().filter(|at: &usize| *at < count && at.to_string() == name))
}

fn label(parts: &[Part], at: usize) -> String {
    match parts.get(at) {
        Some(part) if !part.name.is_empty() => part.name.clone(),
        _ => at.to_string(),
    }
}

fn describe(ty: &DynSolType, parts: &[Part]) -> String {
    let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() { ty.sol_type_name().into_owned() } else { format!("({})", names.join(", ")) }
}

const fn hint(ty: &DynSolType) -> &'static str {
    match ty {
        DynSolType::Array(_) | DynSolType::FixedArray(..) => "; name an item, [0], or write all(…)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;
    use crate::policy::abi::holds_address;

    fn function() -> Function {
        Function::parse(
            "f(address a, (address to, uint256 v)[] orders, address[2] pair, (uint8 n, (address w, bytes b) in) p, uint256[][] m)",
        )
        .unwrap()
    }

    fn type_at(text: &str) -> Result<String, String> {
        Path::parse(&function(), text).map(|(_, ty)| ty.sol_type_name().into_owned())
    }

    #[test]
    fn what_has_a_length_is_counted_in_items_or_bytes() {
        let text = |text: &str| DynSolValue::String(text.to_owned());
        for (value, expected) in [
            (text("h\u{e9}"), Some(3)),
            (DynSolValue::Bytes(vec![0; 5]), Some(5)),
            (DynSolValue::Array(vec![text(""), text("")]), Some(2)),
            (DynSolValue::FixedArray(vec![text("")]), Some(1)),
            (DynSolValue::Bool(true), None),
        ] {
            assert_eq!(length(&value), expected.map(U256::from), "{value:?}");
        }
        assert!(type_at("00").is_err(), "a number is written one way");
    }

    #[test]
    fn a_path_leads_to_a_type() {
        for (text, ty) in [
            ("a", "address"),
            ("0", "address"),
            ("orders[0].to", "address"),
            ("orders[-1].v", "uint256"),
            ("orders[0].1", "uint256"),
            ("all(orders.to)", "address"),
            ("some(orders.v)", "uint256"),
            ("len(orders)", "uint256"),
            ("pair[1]", "address"),
            ("pair[-1]", "address"),
            ("all(pair)", "address"),
            ("p.in.w", "address"),
            ("len(p.in.b)", "uint256"),
            ("all(m)", "uint256"),
            ("all(m[0])", "uint256"),
            ("m[0][-1]", "uint256"),
            ("head(p.in.b)", "address"),
            ("tail(p.in.b)", "address"),
            ("tokens(p.in.b)", "address"),
        ] {
            assert_eq!(type_at(text).as_deref(), Ok(ty), "{text}");
        }
        for (text, why) in [
            ("b", "has no parameter `b`"),
            ("", "has no parameter ``"),
            ("orders.to", "name an item"),
            ("a.to", "a address has no part"),
            ("a[0]", "has no items"),
            ("pair[2]", "there are 2 items only"),
            ("pair[-3]", "there are 2 items only"),
            ("orders[+1]", "is no index"),
            ("orders[01]", "is no index"),
            ("orders[0", "a `]` is missing"),
            ("orders[0]to", "is no path"),
            ("orders[0].who", "(to, v) has no part `who`"),
            ("all(a)", "there is no array in it"),
            ("len(pair)", "has no length of its own"),
            ("head(a)", "is not bytes"),
            ("len(a)", "has no length of its own"),
            ("any(a)", "has no parameter `any(a)`"),
        ] {
            let said = type_at(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_not_said_of_an_address_is_named() {
        let said = |texts: &[&str]| {
            let paths: Vec<_> = texts.iter().map(|text| Path::parse(&function(), text).unwrap().0).collect();
            unsaid(&function(), &paths, holds_address)
        };
        assert_eq!(said(&[]), ["a", "all(orders.to)", "all(pair)", "p.in.w"]);
        assert_eq!(
            said(&["a", "orders[0].to", "pair[0]", "p.in.b"]),
            ["all(orders.to)", "all(pair)", "p.in.w"]
        );
        assert_eq!(
            said(&["a", "some(orders.to)", "len(orders)", "pair[0]", "pair[-1]", "p"]),
            ["all(orders.to)"]
        );
        assert!(said(&["a", "all(orders.to)", "all(pair)", "p.in.w"]).is_empty());
        assert!(said(&["a", "orders", "pair", "p.in"]).is_empty());
    }

    #[test]
    fn a_path_leads_to_the_values() {
        let number = |n: u64| DynSolValue::Uint(U256::from(n), 256);
        let order = |n| DynSolValue::Tuple(vec![DynSolValue::Address(Address::ZERO), number(n)]);
        let arguments =
            [DynSolValue::Address(Address::ZERO), DynSolValue::Array(vec![order(1), order(2), order(3)])];
        let values = |text: &str| {
            let path = Path::parse(&function(), text).unwrap().0;
            path.values(&arguments).map(|values| values.into_iter().map(Cow::into_owned).collect::<Vec<_>>())
        };
        assert_eq!(values("orders[0].v"), Ok(vec![number(1)]));
        assert_eq!(values("orders[-3].v"), Ok(vec![number(1)]));
        assert_eq!(values("orders[-1].v"), Ok(vec![number(3)]));
        assert_eq!(values("all(orders.v)"), Ok(vec![number(1), number(2), number(3)]));
        assert!(values("orders[3].v").unwrap_err().contains("it has 3 items"));
        assert!(values("orders[-4].v").is_err());
    }

    #[test]
    fn a_place_is_called_by_its_names_and_else_by_its_numbers() {
        let function =
            Function::parse("f((address,uint256,address to) p, address[2] q, (address,bool)[] r)").unwrap();
        assert_eq!(unsaid(&function, &[], holds_address), ["p.0", "p.to", "all(q)", "all(r.0)"]);
        let at = |text: &str| Path::parse(&function, text).unwrap().0;
        assert_eq!(unsaid(&function, &[at("p.0"), at("all(q)"), at("r")], holds_address), ["p.to"]);
        let one = at("p.to");
        assert_eq!(one.to_string(), "p.to");
        for (over, text) in [
            (Over::One, "p.to"),
            (Over::All, "all(p.to)"),
            (Over::Some, "some(p.to)"),
            (Over::Length, "len(p.to)"),
            (Over::Head, "head(p.to)"),
            (Over::Tail, "tail(p.to)"),
            (Over::Tokens, "tokens(p.to)"),
            (Over::SomeToken, "tokens(p.to)"),
        ] {
            let other = one.looked_at(over);
            assert_eq!((other.text.as_str(), other.is_same(&one)), (text, over == Over::One));
            let is_packed = matches!(over, Over::Head | Over::Tail | Over::Tokens | Over::SomeToken);
            assert_eq!(other.is_packed(), is_packed, "{text}");
        }
        let second = Path::argument(&function, 1);
        assert_eq!((second.to_string(), second.is_same(&at("q"))), ("q".to_owned(), true));
        assert!(!second.is_same(&at("p")) && !one.is_same(&at("p.0")));
    }

    #[test]
    fn a_path_that_leads_nowhere_says_what_there_is() {
        for (text, why) in [
            ("orders[0].who", "`orders[0].who`: (to, v) has no part `who`"),
            (
                "orders.to",
                "`orders.to`: a (address,uint256)[] has no part `to`; name an item, [0], or write all(…)",
            ),
            ("pair.to", "`pair.to`: a address[2] has no part `to`; name an item, [0], or write all(…)"),
            ("a.to", "`a.to`: a address has no part `to`"),
            ("all(p.n)", "`all(p.n)`: there is no array in it, so write it without all( )"),
            ("some(a)", "`some(a)`: there is no array in it, so write it without some( )"),
            ("pair[2]", "`pair[2]`: there are 2 items only"),
            ("a[0]", "`a[0]`: a address has no items"),
            ("m[x]", "`m[x]`: `[x]` is no index; write [0] for the first, [-1] for the last"),
            ("len(a)", "`len(a)`: a address has no length of its own"),
            ("tokens(a)", "`tokens(a)`: a address is not bytes, which a path of tokens is"),
        ] {
            assert_eq!(type_at(text).unwrap_err(), why);
        }
        let unnamed = Function::parse("f((address,uint256) p)").unwrap();
        let why = Path::parse(&unnamed, "p.2").unwrap_err();
        assert_eq!(why, "`p.2`: (address,uint256) has no part `2`");
        assert_eq!(Path::parse(&unnamed, "p.1").unwrap().1, DynSolType::Uint(256));
        assert!(Path::parse(&unnamed, "p.").is_err() && Path::parse(&unnamed, "p.01").is_err());
    }
}
