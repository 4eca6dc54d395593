//! The types of typed data: structs, and what their members may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_dyn_abi::DynSolType;
use alloy_primitives::{B256, keccak256};

use crate::transaction::typed_data::TypedDataError;
use crate::transaction::typed_data::json::shown;

/// How many members all structs together may have with everything that is inside them, and how deep they may lie.
/// (A type that is used twice counts twice: else sixty small types could stand for 2^60 places.)
const MAX_MEMBERS: usize = 1024;
const MAX_DEPTH: usize = 16;

/// A struct: its members in order, and the text that stands for it in every hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructType {
    name: String,
    members: Vec<Member>,
    encode_type: String,
    type_hash: B256,
}

/// A member of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub ty: MemberType,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberType {
    /// A type of Solidity's that is no array and no tuple.
    Value(DynSolType),
    Struct(Arc<StructType>),
    /// An array, of a fixed size or any.
    List(Box<Self>, Option<usize>),
}

/// The members of each struct as they are written: name and type.
pub(super) type Written = BTreeMap<String, Vec<(String, String)>>;

impl StructType {
    /// From what `encodeType` gives: `Mail(Person from,string contents)Person(address wallet)`, to the letter.
    pub fn parse(encode_type: &str) -> Result<Self, TypedDataError> {
        let wrong = || {
            let what = format!(
                "`{}` is no EIP-712 type; write for example \"Mail(address to,string text)\"",
                shown(encode_type)
            );
            TypedDataError::Types(what)
        };
        let mut written = Written::new();
        let mut primary = None;
        let mut rest = encode_type;
        while !rest.is_empty() {
            let (name, after) = rest.split_once('(').ok_or_else(wrong)?;
            let (members, after) = after.split_once(')').ok_or_else(wrong)?;
            rest = after;
            let member =
                |member: &str| member.split_once(' ').map(|(ty, name)| (name.to_owned(), ty.to_owned()));
            let members: Option<Vec<_>> = members.split(',').map(member).collect();
            if written.insert(name.to_owned(), members.ok_or_else(wrong)?).is_some() {
                return Err(wrong());
            }
            primary = primary.or(Some(name));
        }
        let read = build(&written, primary.ok_or_else(wrong)?)?;
        if read.encode_type == encode_type {
            Ok(Self::clone(&read))
        } else {
            let what = format!(
                "an EIP-712 type has its structs in order, and no spaces but one: write \"{}\"",
                read.encode_type
            );
            Err(TypedDataError::Types(what))
        }
    }

    /// A struct without structs in it, such as the domain's, by its members' names and types.
    pub(super) fn plain(name: &str, members: &[(String, String)]) -> Result<Self, TypedDataError> {
        let member = |(name, ty): &(String, String)| {
            Some(Member { name: name.clone(), ty: MemberType::Value(elementary(ty)?) })
        };
        let members: Option<Vec<_>> = members.iter().map(member).collect();
        let members = members.ok_or_else(|| TypedDataError::Types(format!("`{name}` is no plain struct")))?;
        Ok(finished(name, members))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The type with all that it uses, as EIP-712 writes it: the same text is the same type.
    pub fn encode_type(&self) -> &str {
        &self.encode_type
    }

    pub const fn type_hash(&self) -> B256 {
        self.type_hash
    }

    /// `types` without the domain, as JSON has them.
    pub(super) fn written(&self) -> Written {
        let mut all = BTreeMap::new();
        self.collect(&mut all);
        let members = |ty: &&Self| ty.members.iter().map(|one| (one.name.clone(), one.ty.name())).collect();
        all.iter().map(|(name, ty)| ((*name).to_owned(), members(ty))).collect()
    }

    fn collect<'t>(&'t self, all: &mut BTreeMap<&'t str, &'t Self>) {
        if all.insert(&self.name, self).is_some() {
            return;
        }
        for member in &self.members {
            if let Some(inner) = member.ty.innermost() {
                inner.collect(all);
            }
        }
    }

    fn own(&self) -> String {
        let members: Vec<_> =
            self.members.iter().map(|one| format!("{} {}", one.ty.name(), one.name)).collect();
        format!("{}({})", self.name, members.join(","))
    }
}

impl MemberType {
    /// As a type of the ABI: a struct is a tuple.
    pub fn to_abi(&self) -> DynSolType {
        match self {
            Self::Value(ty) => ty.clone(),
            Self::Struct(inner) => {
                DynSolType::Tuple(inner.members.iter().map(|member| member.ty.to_abi()).collect())
            }
            Self::List(item, None) => DynSolType::Array(Box::new(item.to_abi())),
            Self::List(item, Some(size)) => DynSolType::FixedArray(Box::new(item.to_abi()), *size),
        }
    }

    /// The struct that it is, or that its items are.
    pub fn innermost(&self) -> Option<&StructType> {
        match self {
            Self::Value(_) => None,
            Self::Struct(inner) => Some(inner),
            Self::List(item, _) => item.innermost(),
        }
    }

    /// As it is written.
    pub fn name(&self) -> String {
        match self {
            Self::Value(ty) => ty.sol_type_name().into_owned(),
            Self::Struct(inner) => inner.name.clone(),
            Self::List(item, None) => format!("{}[]", item.name()),
            Self::List(item, Some(size)) => format!("{}[{size}]", item.name()),
        }
    }
}

/// The primary type with all that it uses; what it does not use, nobody may write.
pub(super) fn build(written: &Written, primary: &str) -> Result<Arc<StructType>, TypedDataError> {
    let mut builder = Builder { written, built: BTreeMap::new(), open: Vec::new() };
    let (found, _) = builder.of(primary)?;
    match written.keys().find(|name| !builder.built.contains_key(name.as_str())) {
        None => Ok(found),
        Some(unused) => Err(TypedDataError::Types(format!("`{}` is not used by `{primary}`", shown(unused)))),
    }
}

struct Builder<'w> {
    written: &'w Written,
    /// With how many members there are in it, all told.
    built: BTreeMap<&'w str, (Arc<StructType>, usize)>,
    /// The structs that we are inside of.
    open: Vec<&'w str>,
}

impl Builder<'_> {
    fn of(&mut self, name: &str) -> Result<(Arc<StructType>, usize), TypedDataError> {
        let wrong = |what: String| Err(TypedDataError::Types(what));
        if let Some(known) = self.built.get(name) {
            return Ok(known.clone());
        }
        let Some((name, members)) = self.written.get_key_value(name) else {
            return wrong(format!("`{}` is no type that is known here, and none of `types`", shown(name)));
        };
        if !is_identifier(name) || is_elementary(name) {
            return wrong(format!("`{}` cannot be the name of a struct", shown(name)));
        }
        if self.open.contains(&name.as_str()) {
            return wrong(format!("`{name}` holds itself; libraries hash such types in different ways"));
        }
        if self.open.len() >= MAX_DEPTH {
            return wrong(format!("the types are nested more than {MAX_DEPTH} deep"));
        }
        if members.is_empty() {
            return wrong(format!("`{name}` has no members"));
        }
        self.open.push(name);
        let mut size = 0_usize;
        let mut read = Vec::<Member>::new();
        for (member, ty) in members {
            if !is_identifier(member) {
                return wrong(format!("`{}` cannot be the name of a member", shown(member)));
            }
            if read.iter().any(|other| other.name == *member) {
                return wrong(format!("`{name}` has two members `{member}`"));
            }
            let (ty, inside) = self.member(ty)?;
            size = size.saturating_add(inside).saturating_add(1);
            read.push(Member { name: member.clone(), ty });
        }
        if size > MAX_MEMBERS {
            return wrong(format!("`{name}` has more than {MAX_MEMBERS} members, with those of its structs"));
        }
        self.open.pop();
        let ty = Arc::new(finished(name, read));
        self.built.insert(name, (Arc::clone(&ty), size));
        Ok((ty, size))
    }

    fn member(&mut self, text: &str) -> Result<(MemberType, usize), TypedDataError> {
        let wrong = |why: &str| Err(TypedDataError::Types(format!("the type `{}` {why}", shown(text))));
        if let Some((item, size)) = text.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
            let size = match size {
                "" => None,
                digits => match digits.parse::<usize>() {
                    Ok(size) if size > 0 && size <= MAX_MEMBERS && size.to_string() == digits => Some(size),
                    _ => return wrong("has no size that an array can have"),
                },
            };
            if text.matches('[').count() > MAX_DEPTH {
                return wrong("is nested too deeply");
            }
            let (item, inside) = self.member(item)?;
            return Ok((MemberType::List(Box::new(item), size), inside.saturating_mul(size.unwrap_or(1))));
        }
        if is_elementary(text) {
            return match elementary(text) {
                Some(ty) => Ok((MemberType::Value(ty), 0)),
                None => wrong("is not one that libraries agree on; write its size, as in uint256 or bytes32"),
            };
        }
        let (inner, size) = self.of(text)?;
        Ok((MemberType::Struct(inner), size))
    }
}

fn finished(name: &str, members: Vec<Member>) -> StructType {
    let mut ty =
        StructType { name: name.to_owned(), members, encode_type: String::new(), type_hash: B256::ZERO };
    let mut all = BTreeMap::new();
    ty.collect(&mut all);
    all.remove(name);
    let others: Vec<_> = all.values().map(|other| other.own()).collect();
    let encode_type = format!("{}{}", ty.own(), others.concat());
    drop(all);
    ty.type_hash = keccak256(encode_type.as_bytes());
    ty.encode_type = encode_type;
    ty
}

/// A name that means the same to every library. What every object of JavaScript has is no such name.
fn is_identifier(name: &str) -> bool {
    const OF_EVERY_OBJECT: &[&str] = &[
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "prototype",
        "toLocaleString",
        "toString",
        "valueOf",
    ];
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && name.len() <= 64
        && !name.starts_with("__")
        && !OF_EVERY_OBJECT.contains(&name)
}

/// Whether a name is one of Solidity's own types, or so like one that a library could take it for one.
fn is_elementary(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'x'))
    };
    matches!(name, "address" | "bool" | "string" | "byte" | "function" | "tuple" | "EIP712Domain")
        || ["uint", "int", "bytes", "fixed", "ufixed"].into_iter().any(numbered)
}

/// Those that are read; `uint`, `int` and `byte` are hashed under different names.
fn elementary(name: &str) -> Option<DynSolType> {
    let ty = match name {
        "address" => DynSolType::Address,
        "bool" => DynSolType::Bool,
        "string" => DynSolType::String,
        "bytes" => DynSolType::Bytes,
        _ => {
            let size = |prefix: &str| name.strip_prefix(prefix)?.parse::<usize>().ok();
            if let Some(bits) = size("uint").filter(|bits| is_width(*bits)) {
                DynSolType::Uint(bits)
            } else if let Some(bits) = size("int").filter(|bits| is_width(*bits)) {
                DynSolType::Int(bits)
            } else {
                DynSolType::FixedBytes(size("bytes").filter(|size| (1..=32).contains(size))?)
            }
        }
    };
    // `uint08` is no other name of `uint8`.
    (ty.sol_type_name() == name).then_some(ty)
}

const fn is_width(bits: usize) -> bool {
    bits.is_multiple_of(8) && bits >= 8 && bits <= 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_back_from_its_text() {
        let text = "Mail(Person[] to,Person from,string contents)Asset(address token,uint8[2][] of)Person(string name,Asset all)";
        let mail = StructType::parse(text).unwrap();
        assert_eq!((mail.name(), mail.encode_type()), ("Mail", text));
        assert_eq!(mail.type_hash(), keccak256(text));
        assert_eq!(*build(&mail.written(), "Mail").unwrap(), mail);
        let abi = mail.members()[0].ty.to_abi();
        assert_eq!(abi.sol_type_name(), "(string,(address,uint8[2][]))[]");
    }

    #[test]
    fn a_type_on_which_libraries_differ_is_none() {
        for text in [
            "",
            "A",
            "A()",
            "A(uint a)",
            "A(int a)",
            "A(byte a)",
            "A(uint7 a)",
            "A(uint08 a)",
            "A(uint264 a)",
            "A(bytes0 a)",
            "A(bytes33 a)",
            "A(fixed128x18 a)",
            "A(function a)",
            "A(uint8[0] a)",
            "A(uint8[01] a)",
            "A(uint8[-1] a)",
            "A(uint8] a)",
            "A(uint8 a,uint8 a)",
            "A(uint8 a, uint8 b)",
            "A(uint8 a b)",
            "A(uint8 a)B(uint8 b)",
            "A(A a)",
            "A(A[] a)",
            "A(B b)B(A a)",
            "A(B b)",
            "A(C c,B b)C(uint8 c)B(uint8 b)",
            "A(uint8 a)A(uint8 a)",
            "uint256(uint8 a)",
            "bytes99(uint8 a)",
            "EIP712Domain(string name)",
            "A(EIP712Domain d)",
            "A(uint8 __proto__)",
            "A(uint8 constructor)",
            "A(uint8 $x)",
            "A(uint8 é)",
            "A-B(uint8 a)",
        ] {
            assert!(StructType::parse(text).is_err(), "{text}");
        }
        assert!(StructType::parse("A(B b,B c)B(uint8 b)").is_ok(), "used twice is no recursion");
    }

    #[test]
    fn types_that_stand_for_more_than_anyone_reads_are_refused() {
        let doubling = |count: usize| -> String {
            let one = |at: usize| format!("T{at:02}(T{:02} a,T{:02} b)", at + 1, at + 1);
            format!("{}T{count:02}(uint8 a)", (0..count).map(one).collect::<String>())
        };
        assert!(StructType::parse(&doubling(8)).is_ok());
        assert!(StructType::parse(&doubling(14)).unwrap_err().to_string().contains("more than 1024 members"));
        assert!(StructType::parse(&doubling(60)).unwrap_err().to_string().contains("16 deep"));
        assert!(StructType::parse("A(B[1024] b)B(uint8 a,uint8 b)").is_err());
        assert!(StructType::parse(&format!("A(uint8{} a)", "[]".repeat(100_000))).is_err());
    }

    #[test]
    fn a_type_may_be_so_large_and_no_larger() {
        let says = |text: &str| StructType::parse(text).map(drop).map_err(|e| e.to_string());
        // Each of a list's items counts, and the member that is the list.
        assert_eq!(says("A(B[1023] b)B(uint8 a)"), Ok(()));
        assert!(says("A(B[1024] b)B(uint8 a)").unwrap_err().contains("more than 1024 members"));
        assert_eq!(says("A(uint8[1024] a)"), Ok(()));
        assert!(says("A(uint8[1025] a)").unwrap_err().contains("has no size that an array can have"));
        let nested = |times: usize| says(&format!("A(uint8{} a)", "[]".repeat(times)));
        assert_eq!(nested(16), Ok(()));
        assert!(nested(17).unwrap_err().contains("is nested too deeply"));
        let chain = |length: usize| {
            let one = |at: usize| format!("T{at:02}(T{:02} a)", at + 1);
            says(&format!("{}T{:02}(uint8 a)", (1..length).map(one).collect::<String>(), length))
        };
        assert_eq!(chain(16), Ok(()));
        assert!(chain(17).unwrap_err().contains("nested more than 16 deep"));
    }

    #[test]
    fn a_name_is_one_that_every_library_reads_alike() {
        let (most, more) = ("a".repeat(64), "a".repeat(65));
        for (name, is) in [
            ("a", true),
            ("_a", true),
            ("A_9", true),
            (most.as_str(), true),
            (more.as_str(), false),
            ("9a", false),
            ("__a", false),
            ("a__", true),
            ("a-b", false),
            ("", false),
            ("$", false),
            ("toString", false),
            ("valueOf", false),
            ("hasOwnProperty", false),
        ] {
            assert_eq!(is_identifier(name), is, "{name}");
        }
        for (name, is) in [
            ("address", true),
            ("bool", true),
            ("string", true),
            ("bytes", true),
            ("byte", true),
            ("function", true),
            ("tuple", true),
            ("EIP712Domain", true),
            ("uint", true),
            ("int7", true),
            ("bytes99", true),
            ("fixed128x18", true),
            ("ufixed8x1", true),
            ("uint8a", false),
            ("integer", false),
            ("bytesLike", false),
            ("fixedRate", false),
            ("Address", false),
            ("addresses", false),
        ] {
            assert_eq!(is_elementary(name), is, "{name}");
        }
        // What is only like one of Solidity's own is a struct's name as any other.
        assert!(StructType::parse("A(bytesLike a)bytesLike(uint8 b)").is_ok());
        assert!(StructType::parse("A(fixed8x1 a)fixed8x1(uint8 b)").is_err());
    }

    #[test]
    fn solidity_has_so_many_widths() {
        for (name, is) in [
            ("uint8", true),
            ("uint256", true),
            ("uint0", false),
            ("uint4", false),
            ("uint12", false),
            ("uint264", false),
            ("int8", true),
            ("int256", true),
            ("int0", false),
            ("int260", false),
            ("bytes1", true),
            ("bytes32", true),
            ("bytes0", false),
            ("bytes33", false),
            ("uint08", false),
            ("bytes", true),
            ("string", true),
            ("bool", true),
            ("address", true),
            ("uint", false),
            ("fixed", false),
        ] {
            assert_eq!(elementary(name).is_some(), is, "{name}");
        }
        let says = |text: &str| StructType::parse(text).unwrap_err().to_string();
        for (text, why) in [
            (
                "A(uint a)",
                "the type `uint` is not one that libraries agree on; write its size, as in uint256 or bytes32",
            ),
            ("A(B b)", "`B` is no type that is known here, and none of `types`"),
            ("A(uint8 a)B(uint8 b)", "`B` is not used by `A`"),
            ("A(uint8 a,uint8 a)", "`A` has two members `a`"),
            ("A(A a)", "`A` holds itself; libraries hash such types in different ways"),
            ("A(uint8[01] a)", "the type `uint8[01]` has no size that an array can have"),
            ("tuple(uint8 a)", "`tuple` cannot be the name of a struct"),
            ("A(uint8 9)", "`9` cannot be the name of a member"),
            ("A(uint8)", "`A(uint8)` is no EIP-712 type; write for example \"Mail(address to,string text)\""),
            (
                "A(C c,B b)C(uint8 c)B(uint8 b)",
                "an EIP-712 type has its structs in order, and no spaces but one: write \"A(C c,B b)B(uint8 b)C(uint8 c)\"",
            ),
        ] {
            assert!(says(text).ends_with(why), "{text}: {}", says(text));
        }
    }
}
