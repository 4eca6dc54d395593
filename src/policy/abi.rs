//! Contract interfaces: the functions that calldata is read by, from a JSON ABI or a signature.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_dyn_abi::{DynSolType, Specifier as _};
use alloy_json_abi::{JsonAbi, Param};
use alloy_primitives::Selector;
use serde::Deserialize;

use crate::policy::carrier;
use crate::policy::registry::{self, BuiltIn, Move};
use crate::policy::signature;
use crate::transaction::calldata::is_decodable;
use crate::transaction::{Member, StructType};

/// No function that anyone calls comes near these; a text that goes beyond is not worth a stack.
const MAX_SIGNATURE: usize = 4096;
const MAX_NESTING: usize = 256;

/// The functions of a contract, by selector.
#[derive(Debug, Default)]
pub(in crate::policy) struct Abi {
    functions: BTreeMap<Selector, Arc<Function>>,
    json: String,
    /// What its calls move, where it is built in.
    pub moves: Vec<Move>,
    /// The functions that are commands inside `execute`, by number: of a Universal Router.
    commands: BTreeMap<u8, Arc<Function>>,
}

/// A function and what it is called with.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) struct Function {
    pub name: String,
    /// The canonical form, such as `transfer(address,uint256)`.
    pub signature: String,
    pub selector: Selector,
    /// Empty where the ABI gives a parameter no name.
    pub names: Vec<String>,
    pub types: Vec<DynSolType>,
    /// What the tuples of each parameter are made of, where its type is, or holds, a tuple.
    pub parts: Vec<Vec<Part>>,
    /// Whether a call could stand in its arguments that nobody here knows how to open.
    pub may_carry: bool,
}

/// A component of a tuple.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) struct Part {
    /// Empty where the ABI gives it no name.
    pub name: String,
    pub parts: Vec<Part>,
}

/// Why an ABI or a signature cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::policy) enum AbiError {
    #[error("it is no JSON ABI, and no Foundry or Hardhat artifact with an `abi`: {0}")]
    Json(String),
    #[error("`{0}` is no function signature; write for example \"transfer(address,uint256)\"")]
    Signature(String),
    #[error("`{0}` has a type that is not known, nested too deeply, or without size")]
    Type(String),
    #[error("`{0}` and `{1}` have the same selector")]
    Collision(String, String),
    #[error("it has no function `{0}`; it has {1}")]
    NoFunction(String, String),
    #[error("it has several functions named `{0}`; write one of {1}")]
    Overloaded(String, String),
}

impl Abi {
    /// A JSON ABI as an array, or the artifact of Foundry or Hardhat that holds one; or what is built in.
    pub fn parse(json: &str) -> Result<Self, AbiError> {
        // The artifact's bytecode, which may be unlinked, is of no interest.
        #[derive(Deserialize)]
        struct Artifact {
            abi: JsonAbi,
        }
        let wrong = |e: serde_json::Error| AbiError::Json(e.to_string());
        let built_in = registry::parse(json).transpose().map_err(AbiError::Signature)?;
        let BuiltIn { abi, moves, commands } = if let Some(built_in) = built_in {
            built_in
        } else if json.trim_start().starts_with('[') {
            BuiltIn { abi: serde_json::from_str(json).map_err(wrong)?, ..BuiltIn::default() }
        } else {
            let abi = serde_json::from_str::<Artifact>(json).map_err(wrong)?.abi;
            BuiltIn { abi, ..BuiltIn::default() }
        };
        let mut functions = BTreeMap::<Selector, Arc<Function>>::new();
        for function in abi.functions() {
            let function = Arc::new(Function::of(function)?);
            if let Some(other) = functions.insert(function.selector, Arc::clone(&function))
                && other.signature != function.signature
            {
                return Err(AbiError::Collision(other.signature.clone(), function.signature.clone()));
            }
        }
        let json = serde_json::to_string(&abi).map_err(wrong)?;
        let command = |(number, signature): (u8, String)| {
            let function = functions.values().find(|function| function.signature == signature)?;
            Some((number, Arc::clone(function)))
        };
        let commands = commands.into_iter().filter_map(command).collect();
        Ok(Self { functions, json, moves, commands })
    }

    /// The ABI alone, in one canonical form; what else the file held is not part of the policy.
    pub fn json(&self) -> &str {
        &self.json
    }

    pub fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values()
    }

    pub fn by_selector(&self, selector: Selector) -> Option<&Arc<Function>> {
        self.functions.get(&selector)
    }

    /// The function that a command's number stands for.
    pub fn command(&self, number: u8) -> Option<&Arc<Function>> {
        self.commands.get(&number)
    }

    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    pub fn is_command(&self, selector: Selector) -> bool {
        self.commands.values().any(|function| function.selector == selector)
    }

    /// By name, if it is unambiguous, or by full signature.
    pub fn find(&self, call: &str) -> Result<&Arc<Function>, AbiError> {
        let list = |of: &[&Arc<Function>]| {
            of.iter().map(|function| format!("`{}`", function.signature)).collect::<Vec<_>>().join(", ")
        };
        let signature = if call.contains('(') { Some(Function::parse(call)?) } else { None };
        let named: Vec<_> = match &signature {
            Some(wanted) => self.by_selector(wanted.selector).into_iter().collect(),
            None => self.functions.values().filter(|function| function.name == call).collect(),
        };
        match named.as_slice() {
            [one] => Ok(one),
            [] => {
                let all: Vec<_> = self.functions.values().collect();
                Err(AbiError::NoFunction(call.to_owned(), list(&all)))
            }
            several => Err(AbiError::Overloaded(call.to_owned(), list(several))),
        }
    }
}

impl Function {
    /// From a signature; its parameters may be named: `transfer(address to, uint256 amount)`.
    pub fn parse(signature: &str) -> Result<Self, AbiError> {
        // The parser recurses.
        let depth = signature.matches('(').count().saturating_add(signature.matches('[').count());
        if signature.len() > MAX_SIGNATURE || depth > MAX_NESTING {
            return Err(AbiError::Type(signature.chars().take(80).collect()));
        }
        let parsed = signature::parse(signature).ok_or_else(|| AbiError::Signature(signature.to_owned()))?;
        Self::of(&parsed)
    }

    fn of(function: &alloy_json_abi::Function) -> Result<Self, AbiError> {
        let signature = function.signature();
        if signature.len() > MAX_SIGNATURE || signature.matches('[').count() > MAX_NESTING {
            return Err(AbiError::Type(signature.chars().take(80).collect()));
        }
        let types = function.inputs.iter().map(|input| input.resolve().ok().filter(is_decodable));
        let types: Option<Vec<DynSolType>> = types.collect();
        let types = types.ok_or_else(|| AbiError::Type(signature.clone()))?;
        Ok(Self {
            name: function.name.clone(),
            selector: function.selector(),
            names: function.inputs.iter().map(|input| input.name.clone()).collect(),
            may_carry: carrier::may_carry(&signature, &types),
            types,
            parts: function.inputs.iter().map(|input| parts(&input.components)).collect(),
            signature,
        })
    }

    /// The members of a struct of EIP-712 as if they were parameters: to conditions they are the same. Nothing is ever
    /// called by its selector.
    pub fn of_struct(ty: &StructType) -> Self {
        Self {
            name: ty.name().to_owned(),
            signature: ty.encode_type().to_owned(),
            selector: Selector::ZERO,
            may_carry: false,
            names: ty.members().iter().map(|member| member.name.clone()).collect(),
            types: ty.members().iter().map(|member| member.ty.to_abi()).collect(),
            parts: ty.members().iter().map(|member| parts_of(member.ty.innermost())).collect(),
        }
    }

    /// The signature with the names of its parameters, as a mistake or a report shows it.
    pub fn describe(&self) -> String {
        let one = |(ty, name): (&DynSolType, &String)| {
            format!("{} {name}", ty.sol_type_name()).trim_end().to_owned()
        };
        let parameters: Vec<_> = self.types.iter().zip(&self.names).map(one).collect();
        format!("{}({})", self.name, parameters.join(", "))
    }

    /// The position of a parameter by its name or, counted from 0, its number.
    pub fn position(&self, name: &str) -> Option<usize> {
        let named = self.names.iter().position(|known| known == name && !name.is_empty());
        named.or_else(|| {
            name.parse().ok().filter(|at: &usize| *at < self.types.len() && at.to_string() == name)
        })
    }

    /// Whether any of its parameters, or of their parts, has a name.
    pub fn is_named(&self) -> bool {
        fn named(parts: &[Part]) -> bool {
            parts.iter().any(|part| !part.name.is_empty() || named(&part.parts))
        }
        self.names.iter().any(|name| !name.is_empty()) || self.parts.iter().any(|parts| named(parts))
    }

    /// What a part of a parameter, which is a tuple, is called in a policy.
    pub fn part_label(&self, at: usize, part: usize) -> String {
        match self.parts.get(at).and_then(|parts| parts.get(part)) {
            Some(part) if !part.name.is_empty() => part.name.clone(),
            _ => part.to_string(),
        }
    }

    /// What a parameter is called in a policy.
    pub fn label(&self, at: usize) -> String {
        match self.names.get(at) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => at.to_string(),
        }
    }
}

fn parts_of(ty: Option<&StructType>) -> Vec<Part> {
    let part = |one: &Member| Part { name: one.name.clone(), parts: parts_of(one.ty.innermost()) };
    ty.map(|ty| ty.members().iter().map(part).collect()).unwrap_or_default()
}

fn parts(components: &[Param]) -> Vec<Part> {
    let part = |one: &Param| Part { name: one.name.clone(), parts: parts(&one.components) };
    components.iter().map(part).collect()
}

/// Whether an address, or bytes of any length, can stand anywhere in a value of this type.
pub(in crate::policy) fn holds_address_or_bytes(ty: &DynSolType) -> bool {
    match ty {
        DynSolType::Bytes => true,
        DynSolType::Array(item) | DynSolType::FixedArray(item, _) => holds_address_or_bytes(item),
        DynSolType::Tuple(items) => items.iter().any(holds_address_or_bytes),
        other => holds_address(other),
    }
}

/// Whether an address can stand anywhere in a value of this type.
pub(in crate::policy) fn holds_address(ty: &DynSolType) -> bool {
    match ty {
        // A function value is an address and a selector.
        DynSolType::Address | DynSolType::Function => true,
        DynSolType::Array(item) | DynSolType::FixedArray(item, _) => holds_address(item),
        DynSolType::Tuple(items) => items.iter().any(holds_address),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_a_foundry_and_a_hardhat_artifact_are_read() {
        let array = registry::built_in("erc20").unwrap();
        let foundry = format!(r#"{{"abi":{array},"bytecode":{{"object":"0x__$aa$__"}},"id":3}}"#);
        let hardhat = format!(r#"{{"_format":"hh-sol-artifact-1","abi":{array},"bytecode":"0x"}}"#);
        for json in [array, &foundry, &hardhat] {
            let abi = Abi::parse(json).unwrap();
            let transfer = abi.find("transfer").unwrap();
            assert_eq!(transfer.signature, "transfer(address,uint256)");
            assert_eq!(transfer.selector, [0xa9, 0x05, 0x9c, 0xbb]);
            assert_eq!(abi.find("transfer(address to, uint256 value)").unwrap(), transfer);
        }
        assert!(matches!(Abi::parse("{}"), Err(AbiError::Json(_))));
    }

    #[test]
    fn an_overloaded_name_and_a_missing_one_say_what_there_is() {
        let json = r#"[
            {"type":"function","name":"f","inputs":[{"name":"a","type":"address"}],"outputs":[],"stateMutability":"view"},
            {"type":"function","name":"f","inputs":[],"outputs":[],"stateMutability":"view"}]"#;
        let abi = Abi::parse(json).unwrap();
        let both = abi.find("f").unwrap_err().to_string();
        assert!(both.contains("`f()`") && both.contains("`f(address)`"), "{both}");
        assert_eq!(abi.find("f()").unwrap().types, []);
        assert!(abi.find("g").unwrap_err().to_string().contains("it has no function `g`"));
    }

    #[test]
    fn a_text_that_is_no_signature_is_refused_without_recursion() {
        for text in [format!("f{}", "(".repeat(100_000)), format!("f(uint8{})", "[]".repeat(100_000))] {
            assert!(matches!(Function::parse(&text), Err(AbiError::Type(_))));
        }
        let deep = format!(
            r#"[{{"type":"function","name":"f","inputs":[{{"name":"a","type":"uint8{}"}}],"outputs":[],"stateMutability":"view"}}]"#,
            "[]".repeat(100_000)
        );
        assert!(matches!(Abi::parse(&deep), Err(AbiError::Type(_) | AbiError::Json(_))));
    }

    #[test]
    fn a_parameter_has_a_name_or_a_number() {
        let function = Function::parse("f(address to, uint256)").unwrap();
        assert_eq!(function.signature, "f(address,uint256)");
        assert_eq!((function.position("to"), function.position("1")), (Some(0), Some(1)));
        assert_eq!(
            (function.position(""), function.position("2"), function.position("01")),
            (None, None, None)
        );
    }

    #[test]
    fn inv_04_of_typed_data_addresses_and_bytes_must_be_spoken_of() {
        for (text, must) in [
            ("address", true),
            ("bytes", true),
            ("(uint256,bytes)[]", true),
            ("(uint256,address)", true),
            ("bytes32", false),
            ("(uint256,string)[2]", false),
        ] {
            assert_eq!(holds_address_or_bytes(&DynSolType::parse(text).unwrap()), must, "{text}");
        }
    }

    #[test]
    fn an_address_is_found_at_any_depth() {
        for (text, holds) in [
            ("address", true),
            ("(uint8,(bool,address[3])[])", true),
            ("function", true),
            ("bytes", false),
            ("(uint8,string)[]", false),
        ] {
            assert_eq!(holds_address(&DynSolType::parse(text).unwrap()), holds, "{text}");
        }
    }

    #[test]
    fn a_signature_is_bounded_in_length_and_depth() {
        // What the canonical form leaves out, such as the name of a parameter, counts as well.
        let named = |length: usize| format!("f(uint8 {})", "a".repeat(length.saturating_sub(9)));
        assert_eq!(named(4096).len(), 4096);
        assert_eq!(Function::parse(&named(4096)).unwrap().signature, "f(uint8)");
        assert!(matches!(Function::parse(&named(4097)), Err(AbiError::Type(shown)) if shown.len() == 80));
        let open = |depth: usize| Function::parse(&format!("f{}", "(".repeat(depth)));
        assert!(matches!(open(256), Err(AbiError::Signature(_))), "it is looked at");
        assert!(matches!(open(257), Err(AbiError::Type(_))), "it is not");
        let listed = |times: usize| Function::parse(&format!("f(uint8{})", "[]".repeat(times)));
        assert!(listed(8).is_ok() && matches!(listed(300), Err(AbiError::Type(_))));
        let of_json = |length: usize| {
            let name = "f".repeat(length.saturating_sub(2));
            Abi::parse(&format!(
                r#"[{{"type":"function","name":"{name}","inputs":[],"outputs":[],"stateMutability":"view"}}]"#
            ))
        };
        assert!(of_json(4096).is_ok());
        assert!(matches!(of_json(4097), Err(AbiError::Type(_))));
    }

    #[test]
    fn a_function_is_named_where_any_part_of_it_has_a_name() {
        for (text, is_named) in [
            ("f()", false),
            ("f(address,uint256)", false),
            ("f((address,(bool,uint8)[]))", false),
            ("f(address to,uint256)", true),
            ("f((address to,uint256))", true),
            ("f((address,(bool,uint8 v)[]))", true),
        ] {
            assert_eq!(Function::parse(text).unwrap().is_named(), is_named, "{text}");
        }
        let function = Function::parse("f((address to,uint256),bool yes)").unwrap();
        assert_eq!([function.part_label(0, 0), function.part_label(0, 1)], ["to", "1"]);
        assert_eq!([function.part_label(0, 7), function.part_label(1, 0)], ["7", "0"]);
        assert_eq!([function.label(0), function.label(1), function.label(2)], ["0", "yes", "2"]);
        assert_eq!(function.describe(), "f((address,uint256), bool yes)");
    }

    #[test]
    fn only_a_universal_routers_functions_are_commands() {
        let of = |name: &str| Abi::parse(registry::built_in(name).unwrap()).unwrap();
        let (router, token) = (of("universal-router"), of("erc20"));
        assert!(router.has_commands() && !token.has_commands());
        let wrap = router.command(0x0b).unwrap();
        assert_eq!((wrap.name.as_str(), router.is_command(wrap.selector)), ("WRAP_ETH", true));
        let execute = router.find("execute(bytes,bytes[])").unwrap();
        assert!(!router.is_command(execute.selector) && !token.is_command(wrap.selector));
        assert_eq!((router.command(0x7f), token.command(0)), (None, None));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let overloaded = r#"[
            {"type":"function","name":"f","inputs":[{"name":"a","type":"address"}],"outputs":[],"stateMutability":"view"},
            {"type":"function","name":"f","inputs":[],"outputs":[],"stateMutability":"view"}]"#;
        let abi = Abi::parse(overloaded).unwrap();
        for (call, why) in [
            ("g", "it has no function `g`; it has `f()`, `f(address)`"),
            ("f", "it has several functions named `f`; write one of `f()`, `f(address)`"),
            ("f(", "`f(` is no function signature; write for example \"transfer(address,uint256)\""),
            ("f(uint7)", "`f(uint7)` has a type that is not known, nested too deeply, or without size"),
            ("f(bool)", "it has no function `f(bool)`; it has `f()`, `f(address)`"),
        ] {
            assert_eq!(abi.find(call).unwrap_err().to_string(), why);
        }
        // `transfer(address,uint256)` and this have one selector.
        let twins = r#"[
            {"type":"function","name":"transfer","inputs":[{"name":"a","type":"address"},{"name":"b","type":"uint256"}],"outputs":[],"stateMutability":"view"},
            {"type":"function","name":"many_msg_babbage","inputs":[{"name":"c","type":"bytes1"}],"outputs":[],"stateMutability":"view"}]"#;
        let error = Abi::parse(twins).unwrap_err().to_string();
        assert!(
            error.ends_with("have the same selector") && error.contains("`many_msg_babbage(bytes1)`"),
            "{error}"
        );
    }
}
