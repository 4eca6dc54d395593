//! Pauses: who may have nothing signed until an operator says so, and what that stops. Pure.

use std::fmt;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ledger::audit::rfc3339;

/// What a pause holds for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", content = "name", rename_all = "snake_case")]
pub enum PauseScope {
    All,
    Account(Address),
    Client(String),
}

/// A pause that holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    #[serde(flatten)]
    pub scope: PauseScope,
    pub reason: Option<String>,
    pub operator: String,
    pub person: String,
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
}

/// What an operator says when he pauses or resumes.
#[derive(Clone, Debug)]
pub struct PauseOrder {
    pub scope: PauseScope,
    pub reason: Option<String>,
}

/// A refusal because of a pause. Its `Display` is the public sentence; the reason is in it where the configuration
/// lets clients know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing is paused {}{}", by(.scope, *.by_itself), why(.reason.as_deref()))]
pub struct Paused {
    pub scope: PauseScope,
    pub reason: Option<String>,
    /// The ledger did it, as it is not the one that it was.
    pub by_itself: bool,
}

/// Who pauses where no operator does.
pub(in crate::ledger) const ITSELF: &str = "the ledger itself";

impl PauseScope {
    /// Whether it holds for what this client asks of this account.
    pub fn covers(&self, client: &str, account: Address) -> bool {
        match self {
            Self::All => true,
            Self::Account(paused) => *paused == account,
            Self::Client(paused) => paused == client,
        }
    }

    /// As tables, metrics and the API call it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Account(_) => "account",
            Self::Client(_) => "client",
        }
    }

    pub(in crate::ledger) fn name(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Account(account) => format!("{account:#x}"),
            Self::Client(client) => client.clone(),
        }
    }

    /// Reads back what [`PauseScope::kind`] and [`PauseScope::name`] wrote.
    pub(in crate::ledger) fn read(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "all" if name.is_empty() => Some(Self::All),
            "account" => name.parse().ok().map(Self::Account),
            "client" => Some(Self::Client(name.to_owned())),
            _ => None,
        }
    }
}

/// The widest pause that keeps this client from having this account sign.
pub(in crate::ledger) fn stops<'a>(pauses: &'a [Pause], client: &str, account: Address) -> Option<&'a Pause> {
    pauses.iter().filter(|pause| pause.scope.covers(client, account)).min_by(|a, b| a.scope.cmp(&b.scope))
}

impl Pause {
    /// The refusal that it causes.
    pub(in crate::ledger) fn refusal(&self, show_reason: bool) -> Paused {
        let reason = self.reason.clone().filter(|_| show_reason);
        Paused { scope: self.scope.clone(), reason, by_itself: self.operator == ITSELF }
    }
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Account(account) => write!(f, "account {account}"),
            Self::Client(client) => write!(f, "client {client}"),
        }
    }
}

fn by(scope: &PauseScope, by_itself: bool) -> &'static str {
    match scope {
        _ if by_itself => "by the ledger itself until an operator resumes it",
        PauseScope::All => "by an operator",
        PauseScope::Account(_) => "for this account by an operator",
        PauseScope::Client(_) => "for this client by an operator",
    }
}

fn why(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(scope: PauseScope) -> Pause {
        let (operator, person) = ("ops".to_owned(), "Grace".to_owned());
        let reason = Some("key suspected".to_owned());
        Pause { scope, reason, operator, person, since: Timestamp::from_millis(0) }
    }

    #[test]
    fn a_pause_stops_its_account_its_client_or_all_and_nothing_else() {
        let (ours, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let account = [pause(PauseScope::Account(ours))];
        assert!(stops(&account, "alice", ours).is_some());
        assert!(stops(&account, "alice", other).is_none());
        let client = [pause(PauseScope::Client("alice".to_owned()))];
        assert!(stops(&client, "alice", other).is_some());
        assert!(stops(&client, "alicia", ours).is_none());
        let both = [account, client, [pause(PauseScope::All)]].concat();
        assert_eq!(stops(&both, "bob", other).unwrap().scope, PauseScope::All);
        assert_eq!(stops(&both, "alice", ours).unwrap().scope, PauseScope::All, "the widest is named");
        assert!(stops(&[], "alice", ours).is_none());
    }

    #[test]
    fn who_paused_is_told() {
        let own = Pause { operator: ITSELF.to_owned(), ..pause(PauseScope::All) };
        let said = own.refusal(false).to_string();
        assert_eq!(said, "signing is paused by the ledger itself until an operator resumes it");
    }

    #[test]
    fn the_reason_is_told_only_where_it_may_be() {
        let pause = pause(PauseScope::Client("alice".to_owned()));
        assert_eq!(pause.refusal(false).to_string(), "signing is paused for this client by an operator");
        assert_eq!(
            pause.refusal(true).to_string(),
            "signing is paused for this client by an operator: key suspected"
        );
    }

    #[test]
    fn a_scope_reads_back_as_it_was_written() {
        for scope in
            [PauseScope::All, PauseScope::Account(Address::repeat_byte(0xab)), PauseScope::Client("a".into())]
        {
            assert_eq!(PauseScope::read(scope.kind(), &scope.name()), Some(scope));
        }
        assert_eq!(PauseScope::read("all", "x"), None);
        assert_eq!(PauseScope::read("account", "x"), None);
    }
}
