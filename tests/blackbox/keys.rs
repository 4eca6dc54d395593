//! `chancery keys`: what an operator does with keys, on real tokens.

mod conformance;

use crate::kit::{TestToken, World};

#[tokio::test]
async fn a_pin_that_cannot_be_the_vendors_is_not_tried() {
    let (world, token) = TestToken::before(World::new().await);
    // The PIN of this token has no user's name before it.
    let world = world.replace("name = \"main\"\n", "name = \"main\"\nprofile = \"aws-cloudhsm\"\n");
    let said = world.refuses_or_is_not_ready().await;
    assert!(said.contains("was not tried") && said.contains("user:password"), "{said}");
    let end = world.chancery(&["keys", "list"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("was not tried"), "{end:?}");
    assert_eq!(token.calls("C_Login"), 0);
    // With the right one it is the same token, and nothing is latched.
    let world = world.replace("profile = \"aws-cloudhsm\"\n", "profile = \"softhsm2\"\n");
    world.chancery(&["keys", "list"]).await.well();
    assert_eq!(token.calls("C_Login"), 1);
}
