//! Software keys: in an encrypted file, in a worker's memory, and only where the configuration says so.

use alloy_primitives::{Address, Bytes, eip191_hash_message};
use chancery::transaction::{address_of_point, recover};
use k256::ecdsa::SigningKey;
use k256::elliptic_curve::rand_core::OsRng;
use k256::elliptic_curve::sec1::ToEncodedPoint as _;
use serde_json::json;

use super::kit::World;

const POLICY: &str = r#"
[[rule]]
id      = "greet"
effect  = "allow"
kind    = "message"
clients = ["trader"]
from    = ["laptop"]
text    = { prefix = "hello" }
"#;

/// A keystore file as `cast wallet import` or geth writes one, and an account that names it.
async fn laptop(pinned: Option<Address>) -> (World, Address) {
    let world = World::new().await;
    let secret = [0x46; 32];
    let key = SigningKey::from_slice(&secret).unwrap();
    let address =
        address_of_point(key.verifying_key().as_affine().to_encoded_point(false).as_bytes()).unwrap();
    eth_keystore::encrypt_key(world.folder(), &mut OsRng, secret, "correct horse", Some("laptop.json"))
        .unwrap();
    std::fs::write(world.folder().join("password"), "correct horse\n").unwrap();
    let account = format!(
        "\n[[account]]\nname = \"laptop\"\naddress = \"{}\"\nkeystore = \"laptop.json\"\npassword_file = \"password\"\n",
        pinned.unwrap_or(address)
    );
    let world = world.replace("accounts = [\"treasury\"]", "accounts = [\"treasury\", \"laptop\"]");
    (world.append(&account).policy(POLICY), address)
}

const ALLOWED: &str = "\n[signer]\nallow_software_keys = true\n";

#[tokio::test]
async fn a_software_key_is_refused_unless_it_is_allowed_and_is_loud_then() {
    let (world, _) = laptop(None).await;
    let refused = world.refuses_to_start().await;
    assert!(refused.stderr.contains("allow_software_keys"), "{}", refused.stderr);

    let gateway = world.append(ALLOWED).start().await;
    gateway.logs("SOFTWARE KEYS").await;
}

#[tokio::test]
async fn a_software_key_signs_what_its_policy_allows() {
    let (world, address) = laptop(None).await;
    let gateway = world.append(ALLOWED).start().await;
    let message = Bytes::from_static(b"hello");
    let signature = gateway.client("trader").call("personal_sign", json!([message, address])).await.unwrap();
    let signature: Bytes = serde_json::from_value(signature).unwrap();
    let raw: [u8; 64] = signature[..64].try_into().unwrap();
    recover(eip191_hash_message(&message), &raw, address).unwrap();
}

#[tokio::test]
async fn a_keystore_with_another_key_starts_nothing() {
    let (world, _) = laptop(Some(Address::repeat_byte(9))).await;
    let refused = world.append(ALLOWED).refuses_to_start().await;
    assert!(refused.stderr.contains("the configuration pins"), "{}", refused.stderr);
}
