//! `chancery audit verify`: exit code 0 where the chain holds, 3 with the first row that does not.

use std::path::PathBuf;

use alloy_primitives::Address;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cmd::audit::{HINT, ledger_at};
use crate::cmd::progress::Progress;
use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::config::Config;
use crate::ledger::{self, Against, Broken, Verified};

/// What to verify, and what to hold it against.
#[derive(Debug, Default, clap::Args)]
pub struct Verify {
    /// The ledger, a copy of it, or rows that `audit export` wrote; by default the configuration's ledger
    pub(super) file: Option<PathBuf>,
    /// The address of the key that every checkpoint must be signed by; by default the configuration's
    #[arg(long, value_name = "ADDRESS")]
    pub(super) key: Option<Address>,
    /// Checkpoints that were kept elsewhere: the file of [audit], or what a webhook got, a line each
    #[arg(long, value_name = "FILE")]
    pub(super) checkpoints: Option<PathBuf>,
    /// The exported rows are only some: each is held against its hash, not the chain against its story
    #[arg(long)]
    pub(super) partial: bool,
    /// Rows that `audit archive` took out, oldest first; give it once for each file
    #[arg(long = "archive", value_name = "FILE")]
    pub(super) archives: Vec<PathBuf>,
}

/// What was found.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict<'a> {
    Holds(&'a Verified),
    Broken(&'a Broken),
}

impl Verify {
    pub(super) fn run(self, context: &Context, runtime: &Runtime) -> Done {
        // A copy is verified where there may be no configuration.
        let configured = Config::load(context.config()).ok().and_then(|config| config.audit);
        let file = ledger_at(context, self.file)?;
        let against = Against {
            key: self.key.or(configured.map(|audit| audit.key)),
            checkpoints: self.checkpoints,
            partial: self.partial,
            archives: self.archives,
        };
        let mut progress = Progress::new(context, "verifying");
        let verified = runtime
            .block_on(ledger::verify_against(&file, &against, &mut |done, all| progress.at(done, all)));
        drop(progress);
        match verified.hint("the ledger cannot be read", HINT)? {
            Ok(verified) => {
                context.print(&Verdict::Holds(&verified), text(&verified, &against))?;
                Ok(Success::Done)
            }
            Err(broken) => {
                let text = format!("BROKEN at row {}: {}", broken.seq, broken.why);
                context.print(&Verdict::Broken(&broken), text)?;
                Ok(Success::Denied)
            }
        }
    }
}

fn text(verified: &Verified, against: &Against) -> String {
    let mut lines = vec![if against.partial {
        format!("every row is whole, up to row {}", verified.rows)
    } else if verified.not_seen > 0 {
        format!(
            "the chain holds from row {} to row {}, head {}; the rows before were taken out: give --archive for each \
             file, to have all of it lived through and held against the tables",
            verified.not_seen.saturating_add(1),
            verified.rows,
            verified.head
        )
    } else {
        format!(
            "the chain holds: {} rows, {} intents, {} signatures, head {}",
            verified.rows, verified.intents, verified.signatures, verified.head
        )
    }];
    let after = verified.rows.saturating_sub(verified.covered);
    if verified.checkpoints == 0 {
        lines.push(
            "no checkpoint: a chain that was cut off or written anew as a whole would not be noticed"
                .to_owned(),
        );
    } else {
        let keys: Vec<String> = verified.keys.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "{} checkpoints by {} agree with it up to row {}; after that are {after} rows, of which only a later \
             checkpoint could tell whether more were cut off",
            verified.checkpoints,
            keys.join(", "),
            verified.covered
        ));
        if against.key.is_none() {
            lines.push("whose key that is, only you can say: give --key to have it compared".to_owned());
        }
    }
    if verified.disagreements > 0 {
        lines.push(format!(
            "ATTENTION: {} rows of kind `reconciliation` say that a token and the ledger disagree on what was signed",
            verified.disagreements
        ));
    }
    lines.join("\n")
}
