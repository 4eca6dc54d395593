//! `chancery pause` and `chancery resume`: the kill switch, through the admin listener of a running gateway.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::{Context, Done, Success};

/// Have nothing signed for an account, a client or at all, until `resume`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Pause {
    #[command(flatten)]
    scope: Scope,
    /// Show what is paused
    #[arg(long, group = "what", conflicts_with = "reason")]
    list: bool,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    admin: AdminArgs,
}

/// End a pause
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Resume {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, clap::Args)]
struct Said {
    /// Why; it stands in the audit chain
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Scope {
    /// This account, by name or address
    #[arg(long, value_name = "NAME", group = "what")]
    account: Option<String>,
    /// This client, by name
    #[arg(long, value_name = "NAME", group = "what")]
    client: Option<String>,
    /// Every account and every client
    #[arg(long, group = "what")]
    all: bool,
}

/// The body that the API takes.
#[derive(Serialize)]
struct Order<'a> {
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// What the API answers, of a pause: with `--json` it is passed on as it is.
#[derive(Deserialize, Serialize)]
struct Held {
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Listed {
    pauses: Vec<Held>,
}

#[derive(Deserialize, Serialize)]
struct Begun {
    paused: Held,
    changed: bool,
}

#[derive(Deserialize, Serialize)]
struct Ended {
    resumed: Held,
    /// What is still paused.
    pauses: Vec<Held>,
}

impl Pause {
    pub fn run(self, context: &Context) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let order = self.scope.order(&self.said);
            let mut admin = self.admin.connect(context).await?;
            if self.list {
                let listed: Listed = admin.get("/v1/pauses").await?;
                context.print(&listed, lines(&listed.pauses))?;
                return Ok(Success::Done);
            }
            let begun: Begun = admin.post("/v1/pause", &order).await?;
            let how = if begun.changed { "is paused" } else { "was paused before" };
            let text = format!("{} {how}; `chancery resume` ends it", begun.paused.words());
            context.print(&begun, text)?;
            Ok(Success::Done)
        })
    }
}

impl Resume {
    pub fn run(self, context: &Context) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let order = self.scope.order(&self.said);
            let ended: Ended = self.admin.connect(context).await?.post("/v1/resume", &order).await?;
            context.print(&ended, format_args!("{} is paused no longer", ended.resumed.words()))?;
            if !ended.pauses.is_empty() && !context.json() {
                context.say(format_args!("still paused:\n{}", lines(&ended.pauses)));
            }
            Ok(Success::Done)
        })
    }
}

impl Scope {
    fn order<'a>(&'a self, said: &'a Said) -> Order<'a> {
        let (scope, name) = match (&self.account, &self.client) {
            (Some(account), _) => ("account", Some(account.as_str())),
            (None, Some(client)) => ("client", Some(client.as_str())),
            (None, None) => ("all", None),
        };
        Order { scope, name, reason: said.reason.as_deref() }
    }
}

impl Held {
    fn words(&self) -> String {
        match (self.scope.as_str(), self.name.as_deref().or(self.address.as_deref())) {
            ("all", _) | (_, None) => "everything".to_owned(),
            (scope, Some(name)) => format!("{scope} {name}"),
        }
    }
}

fn lines(pauses: &[Held]) -> String {
    if pauses.is_empty() {
        return "nothing is paused".to_owned();
    }
    let mut text = String::new();
    for pause in pauses {
        let or = |part: &Option<String>| part.clone().unwrap_or_default();
        // A `String` takes everything.
        let _ = write!(
            text,
            "{}{}  since {} by {} ({})",
            if text.is_empty() { "" } else { "\n" },
            pause.words(),
            or(&pause.since),
            or(&pause.operator),
            or(&pause.person),
        );
        if let Some(reason) = &pause.reason {
            let _ = write!(text, ": {reason}");
        }
    }
    text
}
