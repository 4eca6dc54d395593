//! What a person did with a key, in the audit chain.

use crate::clock::Clock;
use crate::cmd::Context;
use crate::config::Config;
use crate::ledger::{self, KeyUse, Note};

pub(super) fn used(token: &str, what: &'static str) -> KeyUse {
    let user = Some(rustix::process::getuid().as_raw());
    KeyUse { token: token.to_owned(), what, keys: Vec::new(), label: None, why: None, user }
}

/// Into the audit chain, where there is one that nobody has open.
pub(super) fn put_on_record(context: &Context, config: &Config, used: KeyUse) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let note = Note::Key(used);
    match runtime.block_on(ledger::note_offline(&config.ledger, Clock::system(), &note)) {
        Ok(true) => {}
        Ok(false) => {
            context.say("not in the audit chain: there is no ledger, or a running gateway has it open");
        }
        Err(error) => context.say(format_args!("not in the audit chain: {error}")),
    }
    Ok(())
}
