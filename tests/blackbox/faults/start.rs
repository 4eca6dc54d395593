//! What is proved of a key before it is used, and how a refusal reads.

use crate::kit::TestKey;

use super::bench::Parts;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_key_is_read_in_every_form_and_proved_without_one() {
    for odd in [
        "point = \"der\"",
        "point = \"raw\"",
        "point = \"compressed\"",
        "point = \"bit-string\"",
        "point = \"bare\"",
        "point = \"absent\"",
        "point = \"absent\"\npoint_on_private = true",
        "point = \"nonsense\"",
    ] {
        let key = TestKey::random();
        let bench = Parts::new(vec![(key.named("treasury", odd), key)], 2, "").start_again().await;
        bench.sign_well(0).await;
        bench.signer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mismatch_refuses_to_start_and_says_token_key_and_what_was_expected() {
    let key = TestKey::random();
    let other = TestKey::random();
    let one = |odd: &str| key.named("treasury", odd);
    let shown = format!("shown = \"{}\"", other.secret());
    let cases = [
        (String::new(), vec!["no private key labelled `treasury`"]),
        (one("") + &other.named("treasury", ""), vec!["2 private keys labelled `treasury`"]),
        (one("curve = \"p256\""), vec!["secp256k1"]),
        (one("sign = false"), vec!["CKA_SIGN"]),
        (one("sensitive = false"), vec!["CKA_SENSITIVE"]),
        (one("extractable = true"), vec!["CKA_EXTRACTABLE"]),
        (one("always_authenticate = true"), vec!["CKA_ALWAYS_AUTHENTICATE"]),
        // A public key of another address; another key that says so; and one that shows nothing, or ours.
        (one(&shown), vec!["its address is", "the configuration pins"]),
        (other.named("treasury", ""), vec!["its address is", "the configuration pins"]),
        (other.named("treasury", "point = \"absent\""), vec!["its signature is not by"]),
        (
            other.named("treasury", &format!("shown = \"{}\"", key.secret())),
            vec!["its signature is not by", "the configuration pins"],
        ),
        (format!("slots = 2\n{}", one("")), vec!["2 tokens labelled `chancery`", "serial"]),
    ];
    for (settings, expected) in cases {
        let pinned = key.address.to_string();
        let Err(refused) = Parts::new(vec![(settings.clone(), key.clone())], 2, "").try_start().await else {
            panic!("it starts with\n{settings}");
        };
        let said = refused.to_string();
        assert!(said.contains("token token-0"), "which token? {said}");
        assert!(said.contains("treasury") || said.contains("serial"), "which key? {said}");
        if said.contains("pins") {
            assert!(said.contains(&pinned), "what was expected? {said}");
        }
        for part in expected {
            assert!(said.contains(part), "`{part}`? {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_trouble_at_the_start_is_no_mismatch() {
    for function in ["C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue", "C_SignInit", "C_Sign"] {
        let key = TestKey::random();
        let parts = Parts::new(vec![(key.named("treasury", ""), key)], 2, "deadline = \"1s\"");
        parts.lanes[0].token.faults(&[&format!("on = \"{function}\"; code = \"CKR_DEVICE_ERROR\"")]);
        let bench = parts.start_again().await;
        let state = bench.signer.readiness()[0].to_string();
        assert!(state.contains(function) && state.contains("CKR_DEVICE_ERROR"), "{function}: {state}");
        parts.lanes[0].token.lift();
        bench.recovers(0).await;
        bench.signer.stop().await;
    }
}
