//! `chancery tx`: the transactions that are not final, through the admin listener of a running gateway.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::{Context, Done, Success};

/// Look at transactions that are not final, and have one mined sooner or not at all
#[derive(Debug, clap::Subcommand)]
pub enum Transactions {
    /// Show what is signed and not final: account, nonce, state, age, fees, and the node's last word
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Have the same transaction mined sooner, for at least 10 % more (with blobs: 100 %)
    Bump(At),
    /// Use its nonce up by a transfer of nothing, for at least 10 % more (with blobs: by a blob of zeros, for 100 % more)
    Cancel(At),
    /// Say that a mined count is true that stands far above what the ledger knows of
    Accept {
        /// The account, by name or address
        #[arg(long, value_name = "NAME")]
        account: String,
        /// The chain, by name or number, where there are several
        #[arg(long, value_name = "CHAIN")]
        chain: Option<String>,
        /// How many of its transactions the chain has mined, as you found out elsewhere than from the node
        #[arg(long, value_name = "COUNT")]
        mined: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct At {
    /// The account, by name or address
    #[arg(long, value_name = "NAME")]
    account: String,
    /// The transaction's nonce
    #[arg(long, value_name = "NONCE")]
    nonce: u64,
    /// The chain, by name or number, where there are several
    #[arg(long, value_name = "CHAIN")]
    chain: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The bodies that the API takes.
#[derive(Serialize)]
struct Order<'a> {
    account: &'a str,
    nonce: u64,
    chain: Option<&'a str>,
}

#[derive(Serialize)]
struct Count<'a> {
    account: &'a str,
    mined: u64,
    chain: Option<&'a str>,
}

/// What the API answers: with `--json` it is passed on as it is.
#[derive(Deserialize, Serialize)]
struct Listed {
    transactions: Vec<Open>,
    doubted: Vec<Doubted>,
}

#[derive(Deserialize, Serialize)]
struct Open {
    kind: String,
    account: Option<String>,
    address: String,
    chain: u64,
    nonce: u64,
    state: String,
    hash: String,
    client: String,
    request: String,
    since: String,
    max_fee_per_gas: String,
    max_priority_fee_per_gas: String,
    max_fee_per_blob_gas: Option<String>,
    node: Option<String>,
    returned: bool,
}

#[derive(Deserialize, Serialize)]
struct Doubted {
    account: Option<String>,
    address: String,
    chain: u64,
    mined: u64,
    known: u64,
}

#[derive(Deserialize, Serialize)]
struct Sent {
    done: String,
    hash: String,
    max_fee_per_gas: String,
    max_priority_fee_per_gas: String,
    max_fee_per_blob_gas: Option<String>,
    node: String,
    node_text: String,
}

#[derive(Deserialize, Serialize)]
struct Accepted {
    account: Option<String>,
    address: String,
    mined: u64,
}

impl Transactions {
    pub fn run(self, context: &Context) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::List { admin } => {
                    let listed: Listed = admin.connect(context).await?.get("/v1/transactions").await?;
                    context.print(&listed, lines(&listed))?;
                }
                Self::Bump(at) => at.order(context, "/v1/transactions/bump").await?,
                Self::Cancel(at) => at.order(context, "/v1/transactions/cancel").await?,
                Self::Accept { account, chain, mined, admin } => {
                    let count = Count { account: &account, mined, chain: chain.as_deref() };
                    let mut admin = admin.connect(context).await?;
                    let done: Accepted = admin.post("/v1/transactions/accept", &count).await?;
                    let text = format!("a mined count of {mined} is taken as true for {}", done.address);
                    context.print(&done, text)?;
                }
            }
            Ok(Success::Done)
        })
    }
}

impl At {
    async fn order(self, context: &Context, path: &str) -> anyhow::Result<()> {
        let order = Order { account: &self.account, nonce: self.nonce, chain: self.chain.as_deref() };
        let sent: Sent = self.admin.connect(context).await?.post(path, &order).await?;
        let node = [sent.node.as_str(), sent.node_text.as_str()].join(" ");
        let text = format!("{}: {} (the node: {})", sent.done, sent.hash, node.trim_end());
        context.print(&sent, text)
    }
}

fn lines(listed: &Listed) -> String {
    let mut text = String::new();
    for doubt in &listed.doubted {
        // A `String` takes everything.
        let _ = writeln!(
            text,
            "{} on chain {}: the node says {} are mined, the ledger knows of {}: nothing is signed; see `chancery tx accept`",
            doubt.account.as_ref().unwrap_or(&doubt.address),
            doubt.chain,
            doubt.mined,
            doubt.known
        );
    }
    if listed.transactions.is_empty() {
        text.push_str("nothing is open");
    }
    for open in &listed.transactions {
        let _ = writeln!(
            text,
            "{} chain {} nonce {}  {}{}  {}  since {}  by {}  max fee {} wei, priority {} wei{}  the node: {}",
            open.account.as_ref().unwrap_or(&open.address),
            open.chain,
            open.nonce,
            open.state,
            match (open.kind.as_str(), open.returned) {
                ("authorization", _) => " (an authorization: whoever has it may hand it in)",
                (_, true) => " (its client sends it)",
                (_, false) => "",
            },
            open.hash,
            open.since,
            open.client,
            open.max_fee_per_gas,
            open.max_priority_fee_per_gas,
            open.max_fee_per_blob_gas.as_ref().map(|fee| format!(", blobs {fee} wei")).unwrap_or_default(),
            open.node.as_deref().unwrap_or("nothing yet"),
        );
    }
    text.trim_end().to_owned()
}
