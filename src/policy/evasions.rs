//! What people try to get by a policy: each evasion is a test, and there is nothing else here.

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::{U256, hex};
    use serde_json::{Value, json};

    use crate::clock::Timestamp;
    use crate::policy::Evidence;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, NOW, PAY, TREASURY, USDC, address, call, caller, decide, failed, policy,
        template, transaction, transfer, typed,
    };
    use crate::policy::{DenialCause, Policy, Replace};
    use crate::transaction::Tx;

    const MORE: &str = r#"
router    = { chain = 1, address = "0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45", abi = "uniswap-v3-router-02" }
multicall = { chain = 1, address = "0xcA11bde05977b3631167028862bE2a173976CA11", abi = "multicall3" }
safe      = { chain = 1, address = "0x90F79bf6EB2c4f870365E785982E1f101E93b906", abi = "safe" }
"#;
    const ROUTER: &str = "0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45";
    const MULTICALL: &str = "0xcA11bde05977b3631167028862bE2a173976CA11";
    const SAFE: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

    fn rule(id: &str, more: &str) -> String {
        format!(
            "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
             from = [\"treasury\"]\n{more}\n"
        )
    }

    /// The payment of `PAY`, swaps of USDC for the account itself, and the outsides of what carries calls.
    fn desk(more: &str) -> Policy {
        let rules = [
            PAY.to_owned(),
            rule(
                "swap",
                "to = [\"router\"]\ncall = \"exactInput\"\nargs = { \"head(params.path)\" = \"usdc\", \"tail(params.path)\" = \"any\", \"params.recipient\" = \"$from\" }",
            ),
            rule("many", "to = [\"multicall\"]\ncall = \"aggregate3\"\nargs = { calls = \"any\" }"),
            rule(
                "safe",
                "to = [\"safe\"]\ncall = \"execTransaction\"\nargs = { to = \"any\", gasToken = \"any\", refundReceiver = \"any\" }",
            ),
            rule(
                "safe-pays",
                "to = [\"usdc\"]\nvia = [\"safe\"]\ncall = \"transfer\"\nargs = { to = \"alice\" }",
            ),
        ];
        policy(&format!("{CONTRACTS}{MORE}{}{more}", rules.concat())).unwrap_or_else(|e| panic!("{e}"))
    }

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    fn cause(policy: &Policy, to: &str, data: &str) -> Option<DenialCause> {
        decide(policy, "ann", &json!({ "to": to, "data": data })).err().map(|denied| denied.cause)
    }

    /// `exactInput`, of USDC for another token.
    fn swap(recipient: &str) -> Vec<u8> {
        let path = [&hex::decode(USDC).unwrap()[..], &[0, 1, 244], &hex::decode(BOB).unwrap()].concat();
        let params = vec![DynSolValue::Bytes(path), address(recipient), number(5), number(4)];
        let data = call("exactInput((bytes,address,uint256,uint256))", &[DynSolValue::Tuple(params)]);
        hex::decode(data).unwrap()
    }

    fn inside(to: &str, data: &str) -> String {
        let parts =
            vec![address(to), DynSolValue::Bool(false), DynSolValue::Bytes(hex::decode(data).unwrap())];
        call("aggregate3((address,bool,bytes)[])", &[DynSolValue::Array(vec![DynSolValue::Tuple(parts)])])
    }

    fn exec(to: &str, data: &str, operation: u64) -> String {
        let nobody = || DynSolValue::Address(alloy_primitives::Address::ZERO);
        let data = DynSolValue::Bytes(hex::decode(data).unwrap());
        let operation = DynSolValue::Uint(U256::from(operation), 8);
        let numbers = || number(0);
        let values =
            [address(to), numbers(), data, operation, numbers(), numbers(), numbers(), nobody(), nobody()];
        let signature =
            "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)";
        call(signature, &[&values[..], &[DynSolValue::Bytes(vec![1])]].concat())
    }

    #[test]
    fn inv_04_bytes_after_the_calldata_hide_nothing() {
        let desk = desk("");
        let good = hex::encode_prefixed(swap(TREASURY));
        assert_eq!(cause(&desk, ROUTER, &good), None);
        for more in ["00", "ff", &"00".repeat(32)] {
            assert_eq!(
                cause(&desk, ROUTER, &format!("{good}{more}")),
                Some(DenialCause::Undecodable),
                "{more}"
            );
            let paid = format!("{}{more}", transfer(ALICE, 1));
            assert_eq!(cause(&desk, USDC, &paid), Some(DenialCause::Undecodable), "{more}");
        }
    }

    #[test]
    fn inv_04_an_offset_that_no_encoder_writes_hides_nothing() {
        let desk = desk("");
        // The tuple is moved a word back, and the word before it is what another reader might take for it.
        let moved = |by: u8| {
            let mut data = swap(TREASURY);
            data[35] += by;
            let rest = data.split_off(36);
            [data, vec![0; by.into()], rest].concat()
        };
        assert_eq!(cause(&desk, ROUTER, &hex::encode_prefixed(moved(0))), None);
        assert_eq!(cause(&desk, ROUTER, &hex::encode_prefixed(moved(32))), Some(DenialCause::Undecodable));
        // The path overlaps with what stands before it.
        let mut data = swap(TREASURY);
        data[67] = 0x40;
        assert_eq!(cause(&desk, ROUTER, &hex::encode_prefixed(data)), Some(DenialCause::Undecodable));
    }

    #[test]
    fn inv_04_bits_beside_an_address_hide_nothing() {
        let desk = desk("");
        for at in [4, 15] {
            let mut data = hex::decode(transfer(ALICE, 1)).unwrap();
            data[at] = 1;
            assert_eq!(
                cause(&desk, USDC, &hex::encode_prefixed(data)),
                Some(DenialCause::Undecodable),
                "{at}"
            );
        }
    }

    #[test]
    fn inv_04_an_approval_inside_another_call_is_an_approval() {
        let approve = call("approve(address,uint256)", &[address(BOB), number(1)]);
        assert_eq!(cause(&desk(""), MULTICALL, &inside(USDC, &approve)), Some(DenialCause::NoRule));
        let all = rule("all", "to = [\"any\"]\nvia = [\"any\"]\ncall = \"any\"");
        let denied = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\ncall = \"approve(address,uint256)\"\n";
        let desk = desk(&format!("{all}{denied}"));
        let nested = inside(MULTICALL, &inside(USDC, &approve));
        for (to, data) in
            [(MULTICALL, inside(USDC, &approve)), (MULTICALL, nested), (SAFE, exec(USDC, &approve, 0))]
        {
            assert_eq!(cause(&desk, to, &data), Some(DenialCause::Rule), "{data}");
        }
    }

    #[test]
    fn inv_04_a_permit_and_a_raise_are_no_way_around_a_rule_for_approvals() {
        let approve = rule(
            "approve",
            "to = [\"usdc\"]\ncall = \"approve\"\nargs = { spender = \"bob\", amount = { max = \"1 USDC\" } }",
        );
        let desk = desk(&approve);
        let word = || DynSolValue::FixedBytes(alloy_primitives::B256::ZERO, 32);
        let v = DynSolValue::Uint(U256::from(27), 8);
        let values = [address(TREASURY), address(BOB), number(1), number(9), v, word(), word()];
        let permit = call("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", &values);
        let raise = call("increaseAllowance(address,uint256)", &[address(BOB), number(1)]);
        assert_eq!(cause(&desk, USDC, &call("approve(address,uint256)", &[address(BOB), number(1)])), None);
        for data in [permit, raise] {
            assert_eq!(cause(&desk, USDC, &data), Some(DenialCause::NoRule), "{data}");
        }
    }

    #[test]
    fn inv_04_a_safe_delegates_to_nobody_that_no_rule_names() {
        let desk = desk("");
        let paid = transfer(ALICE, 1);
        assert_eq!(cause(&desk, SAFE, &exec(USDC, &paid, 0)), None);
        assert_eq!(cause(&desk, SAFE, &exec(USDC, &paid, 1)), Some(DenialCause::NoRule));
        assert_eq!(cause(&desk, SAFE, &exec(BOB, "0x01020304", 1)), Some(DenialCause::NoRule));
    }

    #[test]
    fn inv_04_a_transfer_from_the_account_itself_is_no_transfer_and_counts() {
        let take = |from: &str, to: &str| {
            call("transferFrom(address,address,uint256)", &[address(from), address(to), number(7)])
        };
        assert_eq!(cause(&desk(""), USDC, &take(TREASURY, BOB)), Some(DenialCause::NoRule));
        let collect = rule(
            "collect",
            "to = [\"usdc\"]\ncall = \"transferFrom\"\nargs = { from = \"alice\", to = \"$from\" }",
        );
        let anything = rule("anything", "to = [\"usdc\"]\ncall = \"any\"");
        let budget = "[[budget]]\nid = \"day\"\nasset = \"usdc\"\nmax = \"1 USDC\"\nwindow = \"24h\"\n";
        let desk_of = |more: &str| desk(&format!("{more}{budget}"));
        assert_eq!(cause(&desk_of(&collect), USDC, &take(ALICE, TREASURY)), None);
        assert_eq!(cause(&desk_of(&collect), USDC, &take(TREASURY, BOB)), Some(DenialCause::NoRule));
        let asked = transaction(&json!({ "data": take(TREASURY, BOB) }));
        let assessed = desk_of(&anything).assess::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0));
        let (_, charges) = assessed.unwrap();
        assert_eq!(charges.first().map(|charge| charge.amount), Some(U256::from(7)));
    }

    #[test]
    fn inv_04_a_call_without_value_cannot_burn_a_fortune_in_fees() {
        // 30,000 ether: a million gas at 30 million gwei.
        let burn = json!({
            "data": transfer(ALICE, 1), "gas": "0xf4240", "maxFeePerGas": "0x6a94d74f430000", "maxPriorityFeePerGas": "0x6a94d74f430000",
        });
        let unbound = PAY.replace("execution_fee", "# execution_fee");
        for (text, condition) in [
            (format!("{CONTRACTS}{PAY}"), "execution_fee"),
            (format!("{CONTRACTS}{unbound}"), "caps.max_execution_fee"),
            (format!("{CONTRACTS}{PAY}[caps]\nmax_execution_fee = \"any\"\n"), "execution_fee"),
        ] {
            let denied = decide(&policy(&text).unwrap(), "ann", &burn).unwrap_err();
            assert_eq!(denied.condition.as_deref(), Some(condition), "{denied}");
        }
        let budget = "[[budget]]\nid = \"day\"\nasset = \"ether\"\nmax = \"5 ether\"\nwindow = \"24h\"\n";
        let policy =
            policy(&format!("{CONTRACTS}{unbound}{budget}[caps]\nmax_execution_fee = \"any\"\n")).unwrap();
        let (_, charges) =
            policy.assess::<Tx>(&caller("ann"), &transaction(&burn), Timestamp::from_millis(0)).unwrap();
        assert!(charges.iter().any(|charge| charge.amount > charge.limit.max), "the ledger refuses it");
    }

    #[test]
    fn inv_04_a_replacement_is_judged_like_anything_else() {
        let text = format!("{CONTRACTS}{PAY}replace = \"own\"\n");
        let policy = policy(&text).unwrap();
        let at = |fields: Value| {
            let mut all = json!({ "nonce": "0x5" });
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            policy
                .decide::<Tx>(&caller("ann"), transaction(&all), Evidence::default())
                .map(|permitted| permitted.replace())
        };
        assert_eq!(at(json!({ "data": transfer(ALICE, 1) })), Ok(Replace::Own));
        for other in [
            json!({ "to": BOB, "value": "0x1" }),
            json!({ "to": BOB, "data": transfer(ALICE, 1) }),
            json!({ "data": transfer(TREASURY, 1) }),
            json!({ "to": null, "data": "0x00" }),
        ] {
            assert_eq!(at(other).unwrap_err().cause, DenialCause::NoRule);
        }
    }

    /// A signature over typed data needs no transaction to approve somebody.
    #[test]
    fn inv_04_a_permit_off_the_chain_is_no_way_around_a_rule_for_approvals() {
        let approve = rule(
            "approve",
            "to = [\"usdc\"]\ncall = \"approve\"\nargs = { spender = \"bob\", amount = { max = \"1 USDC\" } }",
        );
        let anything = rule("anything", "to = [\"any\"]\ncall = \"any\"\nvalue = \"any\"");
        let permit = json!({ "owner": TREASURY, "spender": BOB, "value": "1", "nonce": "0", "deadline": (NOW + 60).to_string() });
        let details = json!({ "token": USDC, "amount": 1, "expiration": 9, "nonce": 0 });
        let single = json!({ "details": details, "spender": BOB, "sigDeadline": "9" });
        for data in [
            template("Permit", USDC, permit),
            template("PermitSingle", "0x000000000022D473030F116dDEE9F6B43aC78BA3", single),
        ] {
            for rules in [&approve, &anything] {
                assert_eq!(failed(&desk(rules), &data).as_deref(), Some("no_rule"), "{data}");
            }
        }
    }

    /// What a domain calls itself is its own word: the contract that verifies the signature, and its chain, are what bind.
    #[test]
    fn inv_04_a_domain_that_lies_gets_nothing_signed() {
        let ty = "Vote(uint256 id)";
        let vote = format!(
            "[[rule]]\nid = \"vote\"\neffect = \"allow\"\nkind = \"typed_data\"\nchain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]\n\
             to = [\"usdc\"]\nprimary_type = \"{ty}\"\ndomain = {{ name = \"USD Coin\" }}\n"
        );
        let desk = desk(&vote);
        let data = |to: &str, chain: u64| {
            let mut data = typed(ty, to, json!({ "id": 1 }));
            data["domain"]["chainId"] = json!(chain);
            data
        };
        assert_eq!(failed(&desk, &data(USDC, 1)), None);
        assert_eq!(failed(&desk, &data(BOB, 1)).as_deref(), Some("no_rule"), "another contract by that name");
        assert_eq!(failed(&desk, &data(USDC, 10)).as_deref(), Some("chain"), "that contract, elsewhere");
    }
}
