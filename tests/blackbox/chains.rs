//! Several nodes for one chain, and several chains behind one gateway.

use serde_json::json;

use crate::kit::{FRIEND, Fault, Gateway, Node, POLICY, World, eventually};

/// A gateway with the world's node, `first`, and a second one of the same chain.
async fn two_nodes() -> (Gateway, Node) {
    let (world, second) = (World::new().await, Node::start().await);
    second.adopt(world.treasury()).await;
    let node = |name: &str, url: &str| format!("[[chain.nodes]]\nname = \"{name}\"\nurl = \"{url}\"\n");
    let nodes = node("first", &world.node.url()) + &node("second", &second.url());
    let (one, timeout) = (format!("node = \"{}\"\n", world.node.url()), "timeout = \"2s\"\n");
    let world = world.replace(&one, "").replace(timeout, &format!("{timeout}{nodes}"));
    (world.start().await, second)
}

/// A gateway with the world's chain, and a second one called `other`.
async fn two_chains() -> (Gateway, Node) {
    let other = Node::start_with(&["--chain-id", "10"]).await;
    let world = World::new().await.replace("[chain]", "[[chain]]");
    other.adopt(world.treasury()).await;
    let chain = format!("\n[[chain]]\nname = \"other\"\nid = 10\nnode = \"{}\"\n", other.url());
    let first = POLICY.split("[[rule]]").nth(1).unwrap();
    let again = first.replace("31337", "10").replace("pay-friend", "pay-on-other");
    // An amount of a coin is of one chain.
    let rules = format!("{POLICY}\n[[rule]]{again}").replace("[caps]", "[caps.chain.31337]");
    (world.append(&chain).policy(&rules).start().await, other)
}

#[tokio::test]
async fn inv_13_reads_and_sends_go_on_when_a_node_dies() {
    let (mut gateway, second) = two_nodes().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    // Both have it: it was sent to both.
    gateway.node().mines(gateway.treasury(), 1).await;
    second.mines(gateway.treasury(), 1).await;
    gateway.world.node.stop();
    let balance = trader.call("eth_getBalance", json!([FRIEND, "latest"])).await.unwrap();
    assert_eq!(balance, second.ask("eth_getBalance", json!([FRIEND, "latest"])).await);
    trader.send(gateway.payment(2)).await.unwrap();
    second.mines(gateway.treasury(), 2).await;
    let ready = gateway.admin("admin", "/readyz").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert!(ready.body.contains("node first is not used"), "{}", ready.body);
}

#[tokio::test]
async fn inv_11_a_mined_count_that_jumps_is_believed_of_two_nodes_and_of_one_not() {
    let (gateway, second) = two_nodes().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    gateway.node().mines(gateway.treasury(), 1).await;
    gateway.node().ask("anvil_setNonce", json!([gateway.treasury(), "0x30"])).await;
    let refused = trader.send(gateway.payment(2)).await.unwrap_err();
    assert_eq!(refused.data["code"], "mined_jump", "{refused:?}");
    second.ask("anvil_setNonce", json!([gateway.treasury(), "0x30"])).await;
    let hash = trader.send(gateway.payment(2)).await.unwrap();
    assert_eq!(gateway.node().transaction(&hash).await["nonce"], "0x30");
    let rows = gateway.audit().await.into_iter().map(|row| row.to_string());
    let accepted: Vec<String> = rows.filter(|row| row.contains("accept_count")).collect();
    assert!(accepted.len() == 1 && accepted[0].contains("the nodes first, second"), "{accepted:?}");
}

#[tokio::test]
async fn each_chain_has_its_path_its_node_and_its_nonces() {
    let (gateway, other) = two_chains().await;
    let at = |path: &str| gateway.client("trader").at(path);
    for (path, id) in [("/", "0x7a69"), ("/31337", "0x7a69"), ("/other", "0xa"), ("/10", "0xa")] {
        assert_eq!(at(path).call("eth_chainId", json!([])).await, Ok(json!(id)), "{path}");
    }
    for path in ["/11", "/Other", "/other/", "/other?x"] {
        assert_eq!(at(path).post("{}").await.status, 404, "{path}");
    }
    at("/other").send(gateway.payment(5)).await.unwrap();
    at("/other").send(gateway.payment(6)).await.unwrap();
    other.mines(gateway.treasury(), 2).await;
    at("/").send(gateway.payment(7)).await.unwrap();
    gateway.node().mines(gateway.treasury(), 1).await;
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction").len(), 1);

    // One that names another chain than its path is refused.
    let mut wrong = gateway.payment(1);
    wrong["chainId"] = json!("0x7a69");
    assert_eq!(at("/10").send(wrong).await.unwrap_err().data["code"], "invalid_params");
    let unsaid = gateway.operate("admin", &["tx", "bump", "--account", "treasury", "--nonce", "0"]).await;
    assert!(unsaid.stderr.contains("say which chain, one of 31337, other"), "{unsaid:?}");
}

#[tokio::test]
async fn inv_10_what_was_not_taken_is_sent_again_on_its_own_chain() {
    let (gateway, other) = two_chains().await;
    other.fail("eth_sendRawTransaction", Fault::Drop);
    let hash = gateway.client("trader").at("/other").send(gateway.payment(5)).await.unwrap();
    other.heal();
    eventually("it is mined", async || other.receipt(&hash).await.is_object().then_some(())).await;
    assert!(gateway.node().calls_of("eth_sendRawTransaction").is_empty());
}
