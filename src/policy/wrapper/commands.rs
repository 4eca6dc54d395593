//! Universal Router: each command of `execute` as a call of its own, by the names that the router's source gives them.
//!
//! The router runs commands on itself for whoever calls it. Two addresses stand for others in its inputs: 1 for the
//! sender, 2 for the router. They are put in, so that rules see who gets what.

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, Bytes, U256};

use crate::policy::abi::Function;
use crate::policy::call::{Inner, Made, TransactionFacts};
use crate::policy::wrapper::form::{bytes, list};
use crate::transaction::calldata;

/// What a command byte holds besides its number: it may fail without the others.
const MAY_FAIL: u8 = 0x80;

pub(super) fn open(
    transaction: &TransactionFacts<'_>,
    arguments: &[DynSolValue],
) -> Result<Vec<Inner>, String> {
    let commands = arguments.first().map(bytes).transpose()?.unwrap_or_default();
    let inputs = list(arguments, 1)?;
    if commands.len() != inputs.len() {
        return Err(format!("it has {} commands and {} inputs", commands.len(), inputs.len()));
    }
    commands.iter().zip(inputs).map(|(command, input)| one(transaction, *command, &bytes(input)?)).collect()
}

fn one(transaction: &TransactionFacts<'_>, command: u8, input: &[u8]) -> Result<Inner, String> {
    if command & MAY_FAIL != 0 {
        return Err(format!(
            "its command {command:#04x} may fail without the others, so nobody can tell what is done"
        ));
    }
    let abi = transaction.contract.and_then(|contract| contract.abi.as_ref());
    let function = abi.and_then(|abi| abi.command(command));
    let function =
        function.ok_or_else(|| format!("its command {command:#04x} is none that is opened here"))?;
    let mut values = calldata::decode(&function.types, input)
        .map_err(|why| format!("the input of {} is no exact encoding: {why}", function.name))?;
    for (at, value) in values.iter_mut().enumerate() {
        if let DynSolValue::Address(address) = value
            && is_recipient(function, at)
        {
            *address = meant(*address, transaction);
        }
    }
    let values = DynSolValue::Tuple(values).abi_encode_sequence().unwrap_or_default();
    let data = Bytes::from([function.selector.as_slice(), &values].concat());
    Ok(Inner { made: Made::AsCommand, to: Address::ZERO, value: U256::ZERO, data })
}

fn is_recipient(function: &Function, at: usize) -> bool {
    function.names.get(at).is_some_and(|name| name == "recipient")
}

fn meant(address: Address, transaction: &TransactionFacts<'_>) -> Address {
    if address == Address::with_last_byte(1) {
        transaction.sender
    } else if address == Address::with_last_byte(2) {
        transaction.to.unwrap_or(address)
    } else {
        address
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, TREASURY, USDC, address, call, caller, decide, policy, transaction,
    };
    use crate::policy::{DenialCause, Policy};
    use crate::transaction::Tx;

    const SENDER: &str = "0x0000000000000000000000000000000000000001";
    const ROUTER: &str = "0x0000000000000000000000000000000000000002";

    /// The router stands at `bob`.
    fn router() -> Policy {
        let rule = |id: &str, more: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
                 from = [\"treasury\"]\nto = [\"bob\"]\n{more}\n"
            )
        };
        let rules = [
            rule("router", "call = \"execute(bytes,bytes[],uint256)\""),
            rule("plan", "call = \"EXECUTE_SUB_PLAN\""),
            rule(
                "swap",
                "call = \"V3_SWAP_EXACT_IN\"\nargs = { recipient = [\"$from\", \"bob\"], \"head(path)\" = \"usdc\", \"tail(path)\" = \"any\", amountIn = { max = \"1 USDC\" } }",
            ),
            rule("unwrap", "call = \"UNWRAP_WETH\"\nargs = { recipient = \"$from\" }"),
            rule(
                "fund",
                "call = \"PERMIT2_TRANSFER_FROM\"\nargs = { token = \"usdc\", recipient = \"bob\" }",
            ),
        ];
        let contracts = CONTRACTS.replace("bob   = {", "bob = { abi = \"universal-router\",");
        let budget = "[[budget]]\nid = \"usdc\"\nasset = \"usdc\"\nmax = \"9 USDC\"\nwindow = \"24h\"\n";
        policy(&format!("{contracts}{}{budget}", rules.concat())).unwrap_or_else(|e| panic!("{e}"))
    }

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    /// What a command takes: the arguments of a call, without its selector.
    fn input(signature: &str, args: &[DynSolValue]) -> Vec<u8> {
        hex::decode(call(signature, args)).unwrap().split_off(4)
    }

    fn swap(recipient: &str, amount: u64, by_user: bool) -> (u8, Vec<u8>) {
        let path =
            hex::decode(USDC).unwrap().into_iter().chain([0, 1, 244]).chain(hex::decode(ALICE).unwrap());
        let path = DynSolValue::Bytes(path.collect());
        let args = [address(recipient), number(amount), number(1), path, DynSolValue::Bool(by_user)];
        (0, input("f(address,uint256,uint256,bytes,bool)", &args))
    }

    fn unwrap(recipient: &str) -> (u8, Vec<u8>) {
        (0x0c, input("f(address,uint256)", &[address(recipient), number(1)]))
    }

    fn plan(commands: &[(u8, Vec<u8>)]) -> [DynSolValue; 2] {
        let inputs = commands.iter().map(|(_, input)| DynSolValue::Bytes(input.clone())).collect();
        let numbers = commands.iter().map(|(command, _)| *command).collect();
        [DynSolValue::Bytes(numbers), DynSolValue::Array(inputs)]
    }

    fn execute(commands: &[(u8, Vec<u8>)]) -> String {
        let [numbers, inputs] = plan(commands);
        call("execute(bytes,bytes[],uint256)", &[numbers, inputs, number(9)])
    }

    fn sub(commands: &[(u8, Vec<u8>)]) -> (u8, Vec<u8>) {
        (0x21, input("f(bytes,bytes[])", &plan(commands)))
    }

    #[test]
    fn inv_04_each_command_is_judged_with_who_gets_what() {
        use DenialCause::{NoRule, Undecodable, Wrapper};
        let policy = router();
        let with = |commands: &[(u8, Vec<u8>)], change: &dyn Fn(&mut Vec<u8>)| {
            let mut commands = commands.to_vec();
            change(&mut commands[0].1);
            execute(&commands)
        };
        let good = swap(SENDER, 1_000_000, true);
        let direct = call(
            "V3_SWAP_EXACT_IN(address,uint256,uint256,bytes,bool)",
            &[
                address(TREASURY),
                number(1),
                number(1),
                DynSolValue::Bytes(hex::decode(USDC).unwrap()),
                DynSolValue::Bool(true),
            ],
        );
        for (data, expected) in [
            (execute(std::slice::from_ref(&good)), None),
            (execute(&[swap(TREASURY, 1, true)]), None),
            (execute(&[swap(ROUTER, 1, true), unwrap(SENDER)]), None),
            (execute(&[swap(BOB, 1, true), unwrap(TREASURY)]), None),
            (execute(&[sub(std::slice::from_ref(&good))]), None),
            (execute(&[swap(ALICE, 1, true)]), Some((NoRule, "args.recipient"))),
            (execute(&[good.clone(), unwrap(ALICE)]), Some((NoRule, "args.recipient"))),
            (execute(&[good.clone(), unwrap(ROUTER)]), Some((NoRule, "args.recipient"))),
            (execute(&[swap(SENDER, 1_000_001, true)]), Some((NoRule, "args.amountIn"))),
            (execute(&[sub(&[swap(ALICE, 1, true)])]), Some((NoRule, "args.recipient"))),
            (execute(&[(0x0b, unwrap(SENDER).1)]), Some((NoRule, "call WRAP_ETH(address,uint256)"))),
            (execute(&[(0x80, good.1.clone())]), Some((Wrapper, "0x80 may fail without the others"))),
            (execute(&[(0x10, good.1.clone())]), Some((Wrapper, "0x10 is none that is opened here"))),
            (execute(&[(0x40, good.1.clone())]), Some((Wrapper, "0x40 is none that is opened here"))),
            (execute(&[]), Some((Wrapper, "carries no call"))),
            (execute(&[(0, vec![])]), Some((Wrapper, "the input of V3_SWAP_EXACT_IN is no exact encoding"))),
            (with(std::slice::from_ref(&good), &|input| input.push(0)), Some((Wrapper, "no exact encoding"))),
            (with(std::slice::from_ref(&good), &|input| input[0] = 1), Some((Wrapper, "no exact encoding"))),
            (direct, Some((Undecodable, "is a command inside `execute`"))),
        ] {
            let judged = decide(&policy, "ann", &json!({ "to": BOB, "data": data }));
            match (&judged, expected) {
                (Ok(_), None) => {}
                (Err(denied), Some((cause, why))) => {
                    assert!(
                        denied.cause == cause && denied.sentence.contains(why),
                        "{denied}: {cause:?} {why}"
                    );
                }
                _ => panic!("{judged:?} {expected:?}"),
            }
        }
        let [_, inputs] = plan(&[good]);
        let short =
            call("execute(bytes,bytes[],uint256)", &[DynSolValue::Bytes(vec![0, 0]), inputs, number(9)]);
        let denied = decide(&policy, "ann", &json!({ "to": BOB, "data": short })).unwrap_err();
        assert!(denied.sentence.contains("2 commands and 1 inputs"), "{denied}");
    }

    #[test]
    fn what_the_user_pays_is_counted_once() {
        let policy = router();
        let taken = |commands: &[(u8, Vec<u8>)]| {
            let asked = transaction(&json!({ "to": BOB, "data": execute(commands) }));
            let (_, charges) =
                policy.assess::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0)).unwrap();
            charges.first().map(|charge| charge.amount.to::<u64>())
        };
        let transfer = [address(USDC), address(ROUTER), DynSolValue::Uint(U256::from(5), 160)];
        let fund = (2, input("f(address,address,uint160)", &transfer));
        assert_eq!(taken(&[swap(SENDER, 7, true)]), Some(7));
        assert_eq!(taken(&[swap(ROUTER, 7, true), swap(SENDER, 8, true)]), Some(15));
        assert_eq!(taken(&[fund, swap(SENDER, 5, false)]), Some(5));
        assert_eq!(taken(&[unwrap(SENDER)]), None);
    }
}
