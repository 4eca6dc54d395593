//! `chancery keys`: what an operator does with keys, on real tokens.

mod backup;
mod conformance;
mod destroy;
mod drill;
mod rotate;

use crate::kit::{LABEL, TestToken, World, softhsm_module};

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

/// Each sees that nothing is latched, and then waits for the others.
#[tokio::test]
async fn inv_07_a_wrong_pin_is_tried_once_however_many_processes_try_at_once() {
    let (world, token) = TestToken::before(World::new().await);
    world.token.write_wrong_pin();
    token.faults(&["on = \"C_OpenSession\"; delay_us = 1000000"]);
    let list = || world.chancery(&["keys", "list"]);
    let ends = tokio::join!(list(), list(), list());
    for end in [ends.0, ends.1, ends.2] {
        assert!(end.code != Some(0) && end.stderr.contains("CKR_PIN_INCORRECT"), "{end:?}");
    }
    assert_eq!(token.calls("C_Login"), 1);
}

/// A world whose treasury has a backup: a second token with the same key, restored there as SoftHSM2 does it.
pub async fn with_backup() -> World {
    let world = World::new().await;
    let (folder, spare) = (world.folder().join("token/tokens"), world.folder().join("spare"));
    for token in std::fs::read_dir(folder).unwrap() {
        let token = token.unwrap();
        let copy = spare.join("tokens").join(token.file_name());
        std::fs::create_dir_all(&copy).unwrap();
        for file in std::fs::read_dir(token.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let configuration = spare.join("softhsm2.conf");
    let text =
        format!("directories.tokendir = {}\nobjectstore.backend = file\n", spare.join("tokens").display());
    std::fs::write(&configuration, text).unwrap();
    let table = format!(
        "\n[[token]]\nname = \"spare\"\nlabel = \"{LABEL}\"\nmodule = \"{}\"\npin_file = \"{}\"\n\
         environment.SOFTHSM2_CONF = \"{}\"\n",
        softhsm_module().display(),
        world.token.pin_file().display(),
        configuration.display(),
    );
    world.append(&table).replace("token = \"main\"\n", "token = \"main\"\nbackups = [\"spare\"]\n")
}
