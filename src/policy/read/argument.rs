//! `args` and `fields`: what each argument of a call, or member of typed data, may be, and what stands inside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_dyn_abi::DynSolType;
use alloy_primitives::Address;
use toml::{Spanned, Value};

use crate::policy::abi::{Function, holds_address, holds_address_or_bytes};
use crate::policy::amount::Unit;
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::condition::Condition;
use crate::policy::path::{Over, Path, unsaid};
use crate::policy::read::File;
use crate::policy::read::matcher::Matchers;
use crate::policy::read::names::Names;
use crate::policy::read::operand::Reader;
use crate::policy::typed::{self, SAFE_TX, Template};
use crate::policy::written::Text;
use crate::policy::{packed, pairs};

type Written = BTreeMap<Text, Spanned<Value>>;

/// Reads `args` into conditions.
pub(super) fn read(
    file: &mut File<'_>,
    written: Option<&Spanned<Written>>,
    meant: &mut Matchers,
    call: Option<&Text>,
    names: &Names<'_>,
    allow: bool,
) {
    let Some(function) = meant.function.clone() else {
        if let (Some(written), false) = (written, call.is_some_and(|call| is_function(call.get_ref()))) {
            file.wrong(&written.span(), "`args` needs a `call` that names a function");
        }
        return;
    };
    // What carries calls that are opened is judged by what it carries; of other bytes nobody knows what is done with them.
    let is_opened = names.wrappers.find(function.selector).is_some();
    let bytes = function.may_carry && !is_opened;
    let places = Places { key: "args", of: &function, names, allow, bytes };
    for (path, test) in places.read(file, (written, call), meant) {
        meant.conditions.push(Condition::Argument { function: Arc::clone(&function), path, test });
    }
}

/// Reads `primary_type` and `fields` into conditions.
pub(super) fn read_fields(
    file: &mut File<'_>,
    written: Option<&Spanned<Written>>,
    meant: &mut Matchers,
    primary: Option<&Text>,
    names: &Names<'_>,
    allow: bool,
) {
    let Some(primary) = primary else {
        if let Some(written) = written {
            file.wrong(&written.span(), "`fields` needs a `primary_type`");
        }
        return;
    };
    let Some(ty) = file.right(&primary.span(), typed::primary_type(primary.get_ref())) else { return };
    meant.conditions.push(Condition::PrimaryType(Arc::clone(&ty)));
    // What stands in `bytes` may be a whole call, and is signed with the rest. That of a Safe is opened, and judged.
    let is_opened = Template::of(&ty.signature).is_some_and(|template| template.name == SAFE_TX);
    let places = Places { key: "fields", of: &ty, names, allow, bytes: !is_opened };
    for (path, test) in places.read(file, (written, Some(primary)), meant) {
        meant.conditions.push(Condition::Field { ty: Arc::clone(&ty), path, test });
    }
}

/// Places in the arguments of a call, or in the members of typed data, and what may stand there.
struct Places<'a> {
    key: &'static str,
    of: &'a Function,
    names: &'a Names<'a>,
    /// Whether every place where an address can stand must be spoken of.
    allow: bool,
    /// And every one of `bytes`.
    bytes: bool,
}

impl Places<'_> {
    fn read(
        &self,
        file: &mut File<'_>,
        (written, whole): (Option<&Spanned<Written>>, Option<&Text>),
        meant: &Matchers,
    ) -> Vec<(Path, ArgumentTest)> {
        let Self { key, of, names, allow, .. } = *self;
        let empty = Written::new();
        let args = written.map_or(&empty, Spanned::get_ref);
        let mut said = Vec::<Path>::new();
        let mut tests = Vec::new();
        // Addresses first: amounts are in units of the tokens that they pin.
        let mut pins = vec![meant.targets.clone()];
        let mut ends = Vec::<(Path, Vec<Address>)>::new();
        let mut others = Vec::new();
        for (name, value) in args {
            let path = Path::parse(of, name.get_ref());
            let Some((mut path, ty)) = file.right(&name.span(), path) else { continue };
            // What must hold of all would forbid next to nothing.
            if !allow && path.over == Over::Tokens {
                path.over = Over::SomeToken;
            }
            if said.iter().any(|other| other.is_same(&path)) {
                file.wrong(
                    &name.span(),
                    format_args!("`{}` stands there twice, by name and number", name.get_ref()),
                );
            }
            said.push(path.clone());
            if ty == DynSolType::Address {
                let reader = Reader { names, chain: meant.chain, ty: &ty, units: &[] };
                if let Some(found) = file.right(&value.span(), reader.tests(value.get_ref())) {
                    if matches!(path.over, Over::One | Over::Head | Over::Tail) {
                        let pinned = || found.iter().filter_map(pinned);
                        pins.extend(pinned());
                        ends.extend(pinned().map(|tokens| (path.clone(), tokens)));
                    }
                    tests.push((path, found));
                }
            } else {
                others.push((path, ty, value));
            }
        }
        let units = units_of(&pins, meant.chain, names);
        for (path, ty, value) in others {
            // A number of items is no amount of a token.
            let units = if path.over == Over::Length { &[][..] } else { &units };
            let read = |units| Reader { names, chain: meant.chain, ty: &ty, units }.tests(value.get_ref());
            // Of what leads from one token to another, an amount is of one of them only.
            let found = match packed::token_of(of, &path).or_else(|| pairs::token_of(of, &path)) {
                None => read(units),
                Some(end) => {
                    let own = ends.iter().filter(|(path, _)| path.is_same(&end));
                    // As the rule calls it.
                    let end = own.clone().next().map_or(&end, |(path, _)| path);
                    let own: Vec<_> = own.map(|(_, tokens)| tokens.clone()).collect();
                    let other = |why| match read(units) {
                        Ok(_) => format!(
                            "`{path}` is of the token that `{end}` names, and is in the unit of another"
                        ),
                        Err(_) => why,
                    };
                    read(&units_of(&own, meant.chain, names)).map_err(other)
                }
            };
            if let Some(found) = file.right(&value.span(), found) {
                tests.push((path, found));
            }
        }
        if allow {
            let mut unsaid =
                unsaid(of, &said, if self.bytes { holds_address_or_bytes } else { holds_address });
            unsaid.extend(packed::unsaid(of, &tests));
            if !unsaid.is_empty() {
                let span =
                    written.map(Spanned::span).or_else(|| whole.map(Spanned::span)).unwrap_or_default();
                let unsaid: Vec<_> = unsaid.iter().map(|place| format!("`{place}`")).collect();
                let what = format!(
                    "an allow rule must say what each address{} is: {} of {} is missing in `{key}` (\"any\" if it may be any)",
                    if self.bytes { " and each `bytes`" } else { "" },
                    unsaid.join(", "),
                    of.describe()
                );
                file.wrong(&span, what);
            }
        }
        let each = |(path, found): (Path, Vec<ArgumentTest>)| {
            found.into_iter().map(move |test| (path.clone(), test))
        };
        tests.into_iter().flat_map(each).collect()
    }
}

fn is_function(call: &str) -> bool {
    call != "any" && call != "empty"
}

/// The addresses that this argument must be one of.
fn pinned(test: &ArgumentTest) -> Option<Vec<Address>> {
    let ArgumentTest::OneOf(operands, _) = test else { return None };
    let address = |operand: &Operand| match operand {
        Operand::Value(value) => value.as_address(),
        Operand::From | Operand::Sender | Operand::Created | Operand::Client | Operand::Now(_) => None,
    };
    operands.iter().map(address).collect()
}

/// The units in which the rule's amounts can be written: of tokens that it pins, where all alternatives agree, on every chain
/// that it is for.
fn units_of(pins: &[Vec<Address>], chain: Option<u64>, names: &Names<'_>) -> Vec<Unit> {
    let mut units = Vec::<Unit>::new();
    for alternatives in pins {
        let mut found = alternatives.iter().flat_map(|at| {
            let mut of_chains: Vec<_> =
                names.contracts_at(chain, *at).map(|contract| contract.unit.as_ref()).collect();
            if of_chains.is_empty() {
                of_chains.push(None);
            }
            of_chains
        });
        let Some(Some(unit)) = found.next() else { continue };
        if found.all(|other| other == Some(unit)) && !units.contains(unit) {
            units.push(unit.clone());
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::U256;
    use serde_json::json;

    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, PAY, TREASURY, USDC, address, call, caller, policy, transaction,
    };
    use crate::policy::{Denied, Policy};
    use crate::transaction::Tx;

    const SWAP: &str = "swap((address token, address[] path, address recipient, uint256 amount, uint256 deadline) params, string memo, bytes tag)";
    /// 2026-01-31T12:00:00Z
    const NOW: u64 = 1_769_860_800;

    fn with(args: &str) -> Result<Policy, String> {
        let tag = if args.contains("tag =") { "" } else { ", tag = \"any\"" };
        let args = format!("{args}{tag}").trim_start_matches(", ").to_owned();
        let rule =
            PAY.replace("[\"usdc\"]", "[\"alice\"]").replace("\"transfer\"", &format!("\"{SWAP}\"")).replace(
                "{ to = [\"alice\", \"bob\"], amount = { max = \"1_000 USDC\" } }",
                &format!("{{ {args} }}"),
            );
        policy(&format!("{CONTRACTS}{rule}")).map_err(|e| e.to_string())
    }

    fn swap(path: &[&str], recipient: &str, amount: u64, deadline: u64) -> String {
        let number = |n: u64| DynSolValue::Uint(U256::from(n), 256);
        let params = DynSolValue::Tuple(vec![
            address(USDC),
            DynSolValue::Array(path.iter().map(|at| address(at)).collect()),
            address(recipient),
            number(amount),
            number(deadline),
        ]);
        call(SWAP, &[params, DynSolValue::String("for ann".to_owned()), DynSolValue::Bytes(vec![1, 2, 3])])
    }

    fn judge(policy: &Policy, data: &str) -> Result<(), Denied> {
        let asked = transaction(&json!({ "to": ALICE, "data": data }));
        policy.judge::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(NOW * 1000)).map(drop)
    }

    const ANY: &str = "\"params.token\" = \"any\", \"params.path\" = \"any\", \"params.recipient\" = \"any\"";

    #[test]
    fn inv_04_every_address_inside_tuples_and_arrays_must_be_spoken_of() {
        assert!(with(ANY).is_ok());
        assert!(with("params = \"any\"").is_ok());
        for (args, missing) in [
            ("", "`params.token`, `all(params.path)`, `params.recipient` of swap"),
            ("\"params.token\" = \"usdc\", \"params.recipient\" = \"$from\"", "`all(params.path)` of"),
            (
                "\"params.token\" = \"usdc\", \"params.recipient\" = \"$from\", \"params.path[0]\" = \"usdc\", \"params.path[-1]\" = \"bob\"",
                "`all(params.path)` of",
            ),
            (
                "\"params.token\" = \"usdc\", \"params.recipient\" = \"$from\", \"some(params.path)\" = \"usdc\"",
                "`all(params.path)` of",
            ),
        ] {
            let error = with(args).unwrap_err();
            assert!(error.contains("policy.toml:16") && error.contains(missing), "{args}: {error}");
        }
    }

    #[test]
    fn inv_04_conditions_reach_inside() {
        let path = [USDC, BOB, TREASURY];
        let good = swap(&path, TREASURY, 5, NOW + 60);
        for (condition, holds) in [
            ("\"params.recipient\" = \"$from\"", true),
            ("\"params.recipient\" = { not = \"$from\" }", false),
            ("\"0.recipient\" = \"bob\"", false),
            ("\"params.path[0]\" = \"usdc\"", true),
            ("\"params.path[0]\" = \"bob\"", false),
            ("\"params.path[-1]\" = \"treasury\"", true),
            ("\"params.path[3]\" = \"treasury\"", false),
            ("\"all(params.path)\" = [\"usdc\", \"bob\", \"$from\"]", true),
            ("\"all(params.path)\" = [\"usdc\", \"bob\"]", false),
            ("\"all(params.path)\" = { not = \"alice\" }", true),
            ("\"some(params.path)\" = \"bob\"", true),
            ("\"some(params.path)\" = \"alice\"", false),
            ("\"len(params.path)\" = 3", true),
            ("\"len(params.path)\" = { max = 2 }", false),
            ("\"len(tag)\" = { min = 3 }", true),
            ("\"params.token\" = \"usdc\", \"params.amount\" = { max = \"0.000005 USDC\" }", true),
            ("\"params.token\" = \"usdc\", \"params.amount\" = { max = \"0.000004 USDC\" }", false),
            ("\"params.deadline\" = { within = \"1m\" }", true),
            ("\"params.deadline\" = { within = \"59s\" }", false),
            ("\"params.deadline\" = { min = \"$now\" }", true),
            ("\"params.deadline\" = { min = \"$now + 60s\", max = \"$now+1h\" }", true),
            ("\"params.deadline\" = { min = \"$now + 61s\" }", false),
            ("\"params.deadline\" = { max = \"$now - 1s\" }", false),
            ("memo = { prefix = \"for \" }", true),
            ("memo = { prefix = \"to \" }", false),
            ("memo = \"$client\"", false),
            ("tag = { prefix = \"0x0102\" }", true),
            ("tag = { prefix = \"0x02\" }", false),
            ("tag = \"0x010203\"", true),
            ("\"head(tag)\" = \"usdc\"", false),
        ] {
            let rest = ANY.split(", ").filter(|any| {
                let place = any.split(" = ").next().unwrap();
                !condition.contains(&format!("{place} ="))
                    && !condition.contains(&place.replace("params", "0"))
            });
            let rest: Vec<_> = rest.collect();
            let policy = with(&format!("{condition}, {}", rest.join(", ")))
                .unwrap_or_else(|e| panic!("{condition}: {e}"));
            let judged = judge(&policy, &good);
            assert_eq!(judged.is_ok(), holds, "{condition}: {judged:?}");
        }
        let past = with(&format!("\"params.deadline\" = {{ within = \"1h\" }}, {ANY}")).unwrap();
        let denied = judge(&past, &swap(&path, TREASURY, 5, NOW - 1)).unwrap_err();
        assert_eq!(denied.condition.as_deref(), Some("args.params.deadline"));
        let empty = with(&format!("\"all(params.path)\" = \"usdc\", {ANY}")).unwrap();
        assert!(judge(&empty, &swap(&[], TREASURY, 5, NOW)).is_ok(), "of none, all are");
        let last = with(&format!("\"params.path[-1]\" = \"usdc\", {ANY}")).unwrap();
        assert!(judge(&last, &swap(&[], TREASURY, 5, NOW)).unwrap_err().sentence.contains("it has 0 items"));
    }

    #[test]
    fn what_cannot_be_a_condition_is_named() {
        for (args, why) in [
            ("params = \"usdc\"", "name its parts"),
            ("\"params.path\" = \"usdc\"", "name its parts"),
            ("\"params.path[x]\" = \"usdc\"", "is no index"),
            ("\"params.paths[0]\" = \"usdc\"", "has no part `paths`"),
            ("\"params.amount\" = \"1 USDC\"", "needs its token pinned"),
            ("\"all(params.path)\" = \"usdc\", \"params.amount\" = \"1 USDC\"", "needs its token pinned"),
            ("\"params.token\" = \"usdc\", \"len(params.path)\" = \"1 USDC\"", "needs its token pinned"),
            ("\"params.amount\" = { within = \"1 week\" }", "is not a unit"),
            ("\"params.token\" = { within = \"1h\" }", "`within` is for times"),
            ("\"params.token\" = { prefix = \"0x00\" }", "`prefix` is for bytes and text"),
            ("memo = { prefix = \"\" }", "begins with nothing"),
            ("tag = { prefix = \"0x0\" }", "`0x0`"),
            ("\"params.amount\" = \"$client\"", "is not a number"),
            ("\"params.amount\" = \"$now + x\"", "write \"$now\""),
            ("\"params.recipient\" = \"$client\"", "`$client` is not read here"),
        ] {
            let rest: Vec<_> =
                ANY.split(", ").filter(|any| !args.starts_with(any.trim_end_matches("\"any\""))).collect();
            let error = with(&format!("{args}, {}", rest.join(", "))).unwrap_err();
            assert!(error.contains(why), "{args}: {error}");
        }
    }
}
