//! What a person did with a key, in the audit chain: by the running gateway where there is one, else by this command.

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::cmd::Context;
use crate::cmd::admin_client::AdminArgs;
use crate::config::Config;
use crate::ledger::{self, KeyUse, Note};

#[derive(Deserialize, Serialize)]
struct Recorded {
    recorded: String,
}

pub(super) fn used(token: &str, what: &'static str) -> KeyUse {
    KeyUse { user: Some(rustix::process::getuid().as_raw()), ..KeyUse::new(token, what) }
}

/// Into the audit chain. What stands in the way is only said: what was done is done.
pub(super) fn put_on_record(context: &Context, config: &Config, admin: &AdminArgs, used: &KeyUse) {
    match on_record(context, config, admin, used) {
        Ok(true) => {}
        Ok(false) => context.say("not in the audit chain: there is no ledger yet"),
        Err(error) => context.say(format_args!("not in the audit chain: {error:#}")),
    }
}

/// The same; false where there is no ledger yet.
pub(super) fn on_record(
    context: &Context,
    config: &Config,
    admin: &AdminArgs,
    used: &KeyUse,
) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if !ledger::in_use(&config.ledger.path)? {
        let note = Note::Key(used.clone());
        return Ok(runtime.block_on(ledger::note_offline(&config.ledger, Clock::system(), &note))?);
    }
    if !admin.has_certificate() {
        anyhow::bail!(
            "a running gateway has it open, which an operator can have write it: --cert, or CHANCERY_ADMIN_CERT"
        );
    }
    let body = serde_json::json!({
        "token": used.token, "what": used.what, "keys": used.keys, "label": used.label, "why": used.why,
    });
    runtime.block_on(async {
        let _: Recorded = admin.connect(context).await?.post("/v1/keys/record", &body).await?;
        Ok(true)
    })
}
