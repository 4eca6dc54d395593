//! The machine's clock is set while the program runs.

use serde_json::json;

use crate::kit::{POLICY, WallClock, World, eventually};

#[tokio::test]
async fn inv_03_a_clock_that_is_set_frees_nothing_and_stops_nothing() {
    let budget = "[[budget]]\nid = \"hourly\"\nsum = \"count\"\nmax = 4\nwindow = \"1h\"\nper = [\"from\"]\n\
                  match = { kind = \"transaction\" }\n";
    let (world, clock) = WallClock::of(World::new().await.policy(&format!("{POLICY}\n{budget}")));
    let mut gateway = world.start().await;
    let trader = gateway.client("trader");
    let told = async || {
        let rows = gateway.audit().await;
        rows.last().unwrap()["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    trader.send(gateway.payment(1)).await.unwrap();
    let before = told().await;

    clock.set("+2h");
    trader.send(gateway.payment(2)).await.unwrap();
    gateway.logs("the wall clock was set while this ran").await;
    let step = gateway.metric("chancery_clock_step_seconds").await;
    assert!((7100.0..7300.0).contains(&step), "{step}");
    // What the chain has not decided counts whatever the time: only what is final grows old.
    gateway.settled().await;
    gateway.node().ask("anvil_mine", json!(["0x80"])).await;
    let is_final = async || {
        let rows = gateway.audit().await;
        (rows.iter().filter(|row| row["kind"] == "final").count() == 2).then_some(())
    };
    eventually("both are final", is_final).await;
    let after = told().await;
    assert!(after.duration_since(before).as_mins() >= 115, "the clock was not set: {before} {after}");
    // Two windows have passed by the wall, and none in truth.
    trader.send(gateway.payment(3)).await.unwrap();
    clock.set("-2h");
    trader.send(gateway.payment(4)).await.unwrap();
    assert!(told().await >= after, "rows are in order all the same");
    for set in ["-2h", "+0", "+2h", "-3d", "+3d"] {
        clock.set(set);
        let refused = trader.send(gateway.payment(5)).await.unwrap_err();
        assert_eq!(refused.data["code"], "over_budget", "{set}: {refused:?}");
        // Nothing else goes by the hour.
        trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap();
    }
    clock.set("+0");
    gateway.settled().await;
    assert_eq!(gateway.node().sent_by(gateway.treasury()).await.len(), 4);
    gateway.chancery(&["audit", "verify"]).await.well();

    // Back at the right time the machine is restarted: what was spent is spent.
    gateway.kill().await;
    gateway.restart().await;
    let trader = gateway.client("trader");
    let refused = eventually("an answer", async || trader.send(gateway.payment(6)).await.err()).await;
    assert_eq!(refused.data["code"], "over_budget", "{refused:?}");
}
