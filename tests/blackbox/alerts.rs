//! What an operator is woken for: a token that is nearly used up, a key that is gone, a group that stands at one site.

use rustix::process::{Signal, kill_process};

use crate::kit::{TestToken, World, eventually, softhsm_module};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_12_sessions_and_queue_over_four_fifths_raise_an_alert_that_is_over_by_itself() {
    let (world, token) = TestToken::before(World::new().await);
    let world = world.replace("[ledger]", "[ledger]\nmax_open = 200");
    let gateway = world.append("\n[signer]\ndeadline = \"60s\"\n").start().await;
    let saturated = async |of: &str| {
        gateway.metric(&format!("chancery_token_saturated{{token=\"main\",of=\"{of}\"}}")).await
    };
    token.faults(&["on = \"C_Sign\"; hang = \"until-lifted\""]);
    // Four sessions, four requests for each in the worker, and nearly all of the 64 places before it.
    let load = gateway.send_at_once((1..=76).map(|wei| gateway.payment(wei)));
    let watch = async {
        for of in ["sessions", "queue"] {
            eventually(of, async || (saturated(of).await > 0.5).then_some(())).await;
        }
        token.lift();
    };
    let (answers, ()) = tokio::join!(load, watch);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for of in ["sessions", "queue"] {
        eventually(of, async || (saturated(of).await < 0.5).then_some(())).await;
        gateway.logs(&format!("ALERT: over 80 %: {of}")).await;
    }
}

#[tokio::test]
async fn a_key_that_is_gone_is_an_alarm_until_it_is_back() {
    let (world, token, key) = TestToken::instead(World::new().await);
    let gateway = world.start().await;
    let trader = gateway.client("trader");
    let greet = async || trader.call("personal_sign", serde_json::json!(["0x68656c6c6f", key.address])).await;
    greet().await.unwrap();
    let mismatch = async || gateway.metric("chancery_token_mismatch").await;
    assert!(mismatch().await < 0.5);
    token.holds("");
    kill_process(gateway.workers()[0], Signal::KILL).unwrap();
    eventually("the alarm", async || (mismatch().await > 0.5).then_some(())).await;
    for what in ["ALARM", "no private key labelled `treasury`"] {
        gateway.logs(what).await;
    }
    assert_eq!(greet().await.unwrap_err().data["code"], "signer_unavailable");

    token.holds(&key.named("treasury", ""));
    eventually("a signature", async || greet().await.ok()).await;
    assert!(mismatch().await < 0.5);
}

#[tokio::test]
async fn a_group_at_one_site_is_an_alert_and_one_at_two_is_none() {
    for (first, second, alerts) in [("east", "east", 1.0), ("east", "west", 0.0)] {
        let world = World::new().await;
        // Another that holds the same keys.
        let copy = world.folder().join("second.conf");
        std::fs::copy(world.token.configuration(), &copy).unwrap();
        let second = format!(
            "\n[[token]]\nname = \"second\"\nsite = \"{second}\"\nlabel = \"chancery\"\nmodule = \"{}\"\npin_file = \"{}\"\n\
             environment.SOFTHSM2_CONF = \"{}\"\n",
            softhsm_module().display(),
            world.token.pin_file().display(),
            copy.display(),
        );
        let gateway = world
            .replace("[[token]]", &format!("[[token]]\nsite = \"{first}\""))
            .replace("token = \"main\"", "token = \"main\"\nbackups = [\"second\"]")
            .append(&second)
            .start()
            .await;
        let alert = gateway.metric("chancery_account_one_site").await;
        assert!((alert - alerts).abs() < 0.1, "{alert}");
        assert_eq!(gateway.whole_log().await.contains("stand at one site"), alerts > 0.5);
    }
}
