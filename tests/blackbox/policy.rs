//! Policies as files: what they decide, and what is said when they cannot be read.

use serde_json::json;

use crate::kit::{FRIEND, Gateway, POLICY, STRANGER, World, eventually, repository};

#[tokio::test]
async fn a_refusal_names_its_rule_and_is_written_down() {
    let policy = format!(
        r#"{POLICY}
        [[rule]]
        id = "friend-is-on-holiday"
        effect = "deny"
        kind = "transaction"
        to = ["{friend}"]
        "#,
        friend = with_checksum(FRIEND),
    );
    let gateway = Gateway::with_policy(&policy).await;
    let refused = gateway.client("trader").send(gateway.payment(1)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["rule"]), (-32003, &json!("friend-is-on-holiday")));

    let request = refused.data["request_id"].as_str().unwrap();
    let rows = gateway.audit().await;
    let row = rows.iter().find(|row| row.to_string().contains(request));
    assert!(row.is_some_and(|row| row.to_string().contains("friend-is-on-holiday")), "{rows:#?}");
}

#[tokio::test]
async fn what_was_signed_is_judged_by_a_policy_that_is_to_come() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for wei in [1, 2, 3] {
        trader.send(gateway.payment(wei)).await.unwrap();
    }
    trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap();
    let as_it_is = gateway.chancery(&["policy", "replay"]).await.well();
    assert!(as_it_is.starts_with("3 allowed as they were, 0 by another rule, 0 denied; "), "{as_it_is}");
    let stricter =
        POLICY.replace("1 ether\" }\nexecution", "2 wei\" }\nexecution").replace("pay-friend", "pay-little");
    std::fs::create_dir(gateway.folder().join("stricter")).unwrap();
    std::fs::write(gateway.folder().join("stricter/policy.toml"), stricter).unwrap();
    let folder = gateway.folder().join("stricter");
    let told = gateway.chancery(&["policy", "replay", "--json", folder.to_str().unwrap()]).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["other"].as_array().unwrap().len(), 2, "{told}");
    let denied = told["denied"].as_array().unwrap();
    assert!(denied.len() == 1 && denied[0]["why"].as_str().unwrap().contains("`value`"), "{told}");
    assert_eq!(denied[0]["then"], "pay-friend");
}

#[tokio::test]
async fn inv_04_an_empty_policy_allows_nothing() {
    let gateway = Gateway::with_policy("").await;
    let trader = gateway.client("trader");
    let refused = trader.send(gateway.payment(0)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("transaction_denied")));
    let refused =
        trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (4100, &json!("message_denied")));
}

#[tokio::test]
async fn inv_04_a_policy_that_cannot_be_read_starts_nothing() {
    for (why, line, policy) in [
        ("no TOML", ":1", "[[rule".to_owned()),
        ("unknown key", ":3", POLICY.replace("id            =", "idd           =")),
        ("unknown section", "", format!("[budgets]\n{POLICY}")),
        ("unknown client", "", POLICY.replacen("[\"trader\"]", "[\"nobody\"]", 1)),
        ("unknown account", "", POLICY.replacen("[\"treasury\"]", "[\"nobody\"]", 1)),
        (
            "unknown contract",
            "",
            POLICY.replacen("\"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\"", "\"weth\"", 1),
        ),
        ("an amount without a unit", "", POLICY.replacen("\"1 ether\"", "\"1\"", 1)),
        ("the same id twice", "", POLICY.replace("\"greet\"", "\"pay-friend\"")),
        ("an allow rule without its chain", "", POLICY.replacen("chain         = 31337\n", "", 1)),
        ("an allow rule without its call", "", POLICY.replacen("call          = \"empty\"\n", "", 1)),
    ] {
        let world = World::new().await.policy(&policy);
        let end = world.refuses_to_start().await;
        assert!(end.stderr.contains(&format!("main.toml{line}")), "{why}: {}", end.stderr);
        let check = world.chancery(&["policy", "check"]).await;
        assert!(check.code.is_some_and(|code| code != 0), "{why}: {check:?}");
    }
}

#[tokio::test]
async fn a_folder_without_policies_starts_nothing() {
    let world = World::new().await;
    std::fs::remove_dir_all(world.folder().join("policies")).unwrap();
    let end = world.refuses_to_start().await;
    assert!(end.stderr.contains("policies"), "{}", end.stderr);
}

#[tokio::test]
async fn a_misspelt_key_in_the_configuration_is_named_with_its_line() {
    let end = World::new().await.replace("drain =", "drian =").refuses_to_start().await;
    assert!(end.stderr.contains("chancery.toml:8: unknown field `drian`"), "{}", end.stderr);
    assert_eq!(end.code, Some(1));
}

/// What an auditor asks: who might do what, then. The ledger has the answer, whatever became of the files.
#[tokio::test]
async fn the_policy_of_a_time_is_told_by_what_the_ledger_keeps() {
    let gateway = Gateway::start().await;
    let now = gateway.chancery(&["policy", "describe"]).await.well();
    assert!(now.contains("  pay-friend: trader may send ether to") && now.contains("CLIENT"), "{now}");
    let then = chancery::clock::Clock::system().now().to_string();
    std::fs::write(gateway.folder().join("policies/main.toml"), "").unwrap();
    let trader = gateway.client("trader");
    let is_denied = async || trader.send(gateway.payment(1)).await.err();
    eventually("the policy is read again", is_denied).await;
    let empty = gateway.chancery(&["policy", "describe"]).await.well();
    assert!(empty.trim_end().ends_with("Who may have what signed: nobody, anything"), "{empty}");

    let told = gateway.chancery(&["policy", "describe", "--at", &then]).await.well();
    let (head, rest) = told.split_once('\n').unwrap();
    assert!(head.starts_with("Policy 0x") && head.contains(", since 20"), "{head}");
    assert_eq!(rest, now.replace(&format!("{}/", gateway.folder().join("policies").display()), ""));
    let told = gateway.chancery(&["policy", "describe", "--at", &then, "--json"]).await.well();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["rules"][0]["effect"], "allow");
    let rows = gateway.audit().await;
    let of_audit = rows.iter().find(|row| row["kind"] == "policy").unwrap();
    assert_eq!((&told["policy"], &told["since"]), (&of_audit["body"]["policy"], &of_audit["at"]));
    let none = gateway.chancery(&["policy", "describe", "--at", "2020-01-01"]).await;
    assert!(
        none.code == Some(1) && none.stderr.contains("the audit has no policy of 2020-01-01"),
        "{none:?}"
    );
}

/// What a script is told of before it is sent; and the keys for editors.
#[tokio::test]
async fn a_list_is_judged_before_anything_is_sent_and_editors_have_a_schema() {
    let gateway = Gateway::start().await;
    let stranger = json!({ "from": gateway.treasury(), "to": STRANGER, "value": "0x1" });
    let file = gateway.folder().join("run.json");
    let transactions = [gateway.payment(1), stranger].map(|one| json!({ "transaction": one }));
    for (list, code, says) in [
        (json!([gateway.payment(1)]), 0, "1 allowed, 0 denied"),
        (json!({ "transactions": transactions }), 3, "1 allowed, 1 denied"),
    ] {
        std::fs::write(&file, list.to_string()).unwrap();
        let told =
            gateway.chancery(&["policy", "preflight", file.to_str().unwrap(), "--client", "trader"]).await;
        assert!(told.code == Some(code) && told.stdout.trim_end().ends_with(says), "{told:?}");
    }
    assert!(gateway.node().sent_by(gateway.treasury()).await.is_empty());
    let schema = gateway.chancery(&["policy", "schema"]).await.well();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema.pointer("/properties/rule").is_some(), "{schema}");
}

/// A refusal becomes a rule that somebody can read, and that is enough.
#[tokio::test]
async fn a_refused_request_has_the_narrowest_rule_suggested_that_allows_it() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let asked = json!({ "from": gateway.treasury(), "to": STRANGER, "value": "0x7" });
    let refused = trader.send(asked.clone()).await.unwrap_err();
    let id = refused.data["request_id"].as_str().unwrap();
    let rule = gateway.chancery(&["policy", "suggest", id]).await.well();
    assert!(rule.contains(&with_checksum(STRANGER)) && rule.contains("max = \"7 wei\""), "{rule}");
    std::fs::write(gateway.folder().join("policies/more.toml"), rule).unwrap();
    let allowed = async || trader.send(asked.clone()).await.ok();
    eventually("the policy is read again", allowed).await;
    let none = gateway.chancery(&["policy", "suggest", "00000000"]).await;
    assert!(none.code == Some(1) && none.stderr.contains("no refusal of request"), "{none:?}");
}

#[tokio::test]
async fn arguments_of_a_token_are_judged() {
    let policy = format!(
        r#"
        [contracts]
        coin = {{ chain = 31337, address = "0x5FbDB2315678afecb367f032d93F642f64180aa3", abi = "erc20", decimals = 6, symbol = "COIN" }}

        [[rule]]
        id = "pay-coins"
        effect = "allow"
        kind = "transaction"
        chain = 31337
        clients = ["trader"]
        from = ["treasury"]
        to = ["coin"]
        call = "transfer"
        args = {{ to = "{friend}", amount = {{ max = "100 COIN" }} }}
        execution_fee = {{ max = "0.05 ether" }}
        "#,
        friend = with_checksum(FRIEND),
    );
    let gateway = Gateway::with_policy(&policy).await;
    let trader = gateway.client("trader");
    let transfer = |selector: &str, to: &str, value: u64, tail: &str| {
        let data = format!("0x{selector}{:0>64}{value:064x}{tail}", &to[2..]);
        json!({ "from": gateway.treasury(), "to": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "data": data })
    };
    trader.send(transfer("a9059cbb", FRIEND, 100_000_000, "")).await.unwrap();
    for (why, transaction) in [
        ("too much", transfer("a9059cbb", FRIEND, 100_000_001, "")),
        ("to another", transfer("a9059cbb", STRANGER, 1, "")),
        ("another function", transfer("095ea7b3", FRIEND, 1, "")),
        ("bytes behind", transfer("a9059cbb", FRIEND, 1, "00")),
        ("a dirty address", transfer("a9059cbb", &format!("0x01{}", &FRIEND[2..]), 1, "")),
        (
            "cut short",
            json!({ "from": gateway.treasury(), "to": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "data": "0xa9059cbb" }),
        ),
    ] {
        let refused = trader.send(transaction).await.expect_err(why);
        assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("transaction_denied")), "{why}");
    }
    gateway.node().mines(gateway.treasury(), 1).await;
}

#[tokio::test]
async fn the_caps_hold_whatever_a_rule_allows() {
    let generous =
        POLICY.replace("execution_fee = { max = \"0.05 ether\" }", "execution_fee = { max = \"50 ether\" }");
    for (cap, field, value) in
        [("max_gas", "gas", "0x4c4b41"), ("max_fee_per_gas", "maxFeePerGas", "0x746a528801")]
    {
        let gateway = Gateway::with_policy(&generous).await;
        let mut payment = gateway.payment(1);
        payment[field] = json!(value);
        let refused = gateway.client("trader").send(payment).await.unwrap_err();
        assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("transaction_denied")), "{cap}");
    }
}

#[tokio::test]
async fn a_rate_is_kept() {
    let policy = format!(
        r#"{POLICY}
        [[rate]]
        id = "two-a-minute"
        max = 2
        window = "60s"
        per = ["client"]
        match = {{ kind = "transaction" }}
        "#
    );
    let gateway = Gateway::with_policy(&policy).await;
    let trader = gateway.client("trader");
    for wei in 1..=2 {
        trader.send(gateway.payment(wei)).await.unwrap();
    }
    let refused = trader.send(gateway.payment(3)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32005, &json!("rate_limited")));
    assert!(refused.data["retry_after"].as_u64().is_some_and(|wait| (1..=60).contains(&wait)), "{refused:?}");
    // Another kind has its own measure.
    trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap();
}

#[tokio::test]
async fn check_test_explain_and_the_gateway_decide_alike() {
    let gateway = Gateway::start().await;
    let check = gateway.chancery(&["policy", "check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    let cases = gateway.folder().join("policies/tests");
    std::fs::create_dir_all(&cases).unwrap();
    let request = gateway.folder().join("request.json");

    for (to, allowed) in [(FRIEND, true), (STRANGER, false)] {
        let mut payment = gateway.payment(1);
        payment["to"] = json!(to);
        let code = if allowed { 0 } else { 3 };

        std::fs::write(&request, payment.to_string()).unwrap();
        let explain =
            gateway.chancery(&["policy", "explain", request.to_str().unwrap(), "--client", "trader"]).await;
        assert_eq!(explain.code, Some(code), "{explain:?}");
        assert!(explain.stdout.contains("pay-friend"), "{explain:?}");

        let expect = if allowed { "allow" } else { "deny" };
        for (expect, code) in [(expect, 0), (if allowed { "deny" } else { "allow" }, 3)] {
            let request = json!([payment]).to_string();
            let case = format!(
                "[[case]]\nname = \"a\"\nclient = \"trader\"\nrequest = '''{{\"jsonrpc\":\"2.0\",\"id\":1,\
                 \"method\":\"eth_sendTransaction\",\"params\":{request}}}'''\nexpect = \"{expect}\"\n"
            );
            std::fs::write(cases.join("cases.toml"), case).unwrap();
            let test = gateway.chancery(&["policy", "test"]).await;
            assert_eq!(test.code, Some(code), "{expect}: {test:?}");
        }
        assert_eq!(gateway.client("trader").send(payment).await.is_ok(), allowed, "{to}");
    }
}

#[tokio::test]
async fn the_example_configuration_is_read() {
    let example = repository().join("deploy/chancery.example.toml");
    let text = std::fs::read_to_string(&example).unwrap();
    chancery::config::Config::parse(&example, &text).unwrap();

    // Every key that may be written stands in it, if only in a comment.
    let written = std::fs::read_to_string(repository().join("src/config/written.rs")).unwrap();
    for line in written.lines().filter_map(|line| line.trim().strip_prefix("pub ")) {
        let Some((key, _)) = line.split_once(':') else { continue };
        let is_there = |line: &str| {
            let line = line.trim_start_matches(['#', ' ', '[']);
            line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', ']', '.']))
        };
        assert!(text.lines().any(is_there), "`{key}` is not in the example");
    }
}

/// An address as policies want it, so that a mistyped one is noticed.
fn with_checksum(address: &str) -> String {
    address.parse::<alloy_primitives::Address>().unwrap().to_string()
}
