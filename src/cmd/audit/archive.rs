//! `chancery audit archive`: the oldest rows go into a file, and then out of the ledger.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, Keccak256};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::clock::Timestamp;
use crate::cmd::admin_client::AdminArgs;
use crate::cmd::audit::export::{new_file, time};
use crate::cmd::audit::{HINT, ledger_at};
use crate::cmd::progress::Progress;
use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::ledger;

/// Which rows, and where to. The gateway runs meanwhile: it is the one that removes them.
#[derive(Debug, clap::Args)]
pub struct Archive {
    /// Only rows before this time, which is 24 hours ago or more: 2026-01-31, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Timestamp,
    /// The file to write, which must not be there yet
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Serialize)]
struct Order {
    upto: i64,
    hash: B256,
    digest: B256,
}

#[derive(Deserialize)]
struct Answer {}

/// What is written, and its digest.
struct Digesting {
    file: BufWriter<File>,
    hasher: Keccak256,
}

impl Archive {
    pub(super) fn run(self, context: &Context, runtime: &Runtime) -> Done {
        let at = ledger_at(context, None)?;
        runtime.block_on(async {
            // First of all: without an operator nothing is written.
            let mut admin = self.admin.connect(context).await?;
            let file =
                new_file(&self.output).hint(self.output.display(), "name a file that is not there yet")?;
            let mut out = Digesting { file: BufWriter::new(file), hasher: Keccak256::new() };
            let mut progress = Progress::new(context, "archiving");
            let each = |row: &ledger::Entry| {
                serde_json::to_writer(&mut out, row)?;
                out.write_all(b"\n")
            };
            let last = ledger::oldest(&at, self.until, each, &mut |done, all| progress.at(done, all)).await;
            drop(progress);
            let Some((upto, hash)) = last.hint("the rows cannot be read", HINT)? else {
                std::fs::remove_file(&self.output)?;
                let text = format!("no row is older than {}: nothing was archived", self.until);
                context.print(&json!({ "archived": null }), text)?;
                return Ok(Success::Done);
            };
            let digest = out.end(&self.output)?;
            let _: Answer = admin.post("/v1/audit/archive", &Order { upto, hash, digest }).await?;
            let file = self.output.display();
            let text = format!(
                "rows up to {upto} are in {file}, and leave the ledger; keep it, and the files before it:\n  \
                 chancery audit verify --archive {file}"
            );
            context.print(&json!({ "archived": { "upto": upto, "hash": hash, "digest": digest } }), text)?;
            Ok(Success::Done)
        })
    }
}

impl io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Digesting {
    /// On the disk, with its name: what it holds is removed elsewhere after that.
    fn end(self, path: &Path) -> io::Result<B256> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(self.hasher.finalize())
    }
}
