//! The configuration as it is written: every key that may stand in the file, and no other.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

pub(super) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub gateway: Gateway,
    pub admin: Option<Admin>,
    pub chain: OneOrMore<Chain>,
    pub policy: Policy,
    pub ledger: Ledger,
    pub audit: Option<Audit>,
    #[serde(default)]
    pub signer: Signer,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub issuer: Vec<Issuer>,
    #[serde(default)]
    pub client: Vec<Client>,
    #[serde(default)]
    pub operator: Vec<Operator>,
    #[serde(default)]
    pub token: Vec<Token>,
    #[serde(default)]
    pub account: Vec<Account>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub listen: Text,
    pub hosts: Vec<Text>,
    pub certificate: Text,
    pub key: Text,
    pub client_ca: Text,
    pub identity: Option<Text>,
    #[serde(default)]
    pub crls: Vec<Text>,
    pub crl: Option<Text>,
    #[serde(default)]
    pub proxy_protocol: Vec<Text>,
    pub drain: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub name: Text,
    pub client_ca: Text,
    pub identity: Option<Text>,
    #[serde(default)]
    pub crls: Vec<Text>,
    pub crl: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub listen: Text,
    pub hosts: Option<Vec<Text>>,
    #[serde(default)]
    pub proxy_protocol: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chain {
    pub name: Option<Text>,
    pub id: Spanned<u64>,
    pub node: Option<Text>,
    pub node_file: Option<Text>,
    #[serde(default)]
    pub nodes: Vec<Node>,
    pub broadcast: Option<Vec<Text>>,
    pub timeout: Option<Text>,
    pub finality: Option<u64>,
    pub max_answer: Option<usize>,
    pub max_lag: Option<u64>,
    pub gas_margin: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub name: Text,
    pub url: Option<Text>,
    pub url_file: Option<Text>,
    pub ws: Option<Text>,
    #[serde(default)]
    pub headers: std::collections::BTreeMap<Text, Header>,
    pub jwt_file: Option<Text>,
    pub certificate: Option<Text>,
    pub key: Option<Text>,
    pub ca: Option<Text>,
    pub reads: Option<bool>,
}

/// The value of a header, or the file that holds it.
pub(super) enum Header {
    Value(String),
    File(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFile {
    file: String,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or { file = \"…\" }")
            }

            fn visit_str<E>(self, value: &str) -> Result<Header, E> {
                Ok(Header::Value(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Header, A::Error> {
                let HeaderFile { file } = Deserialize::deserialize(MapAccessDeserializer::new(table))?;
                Ok(Header::File(file))
            }
        }

        from.deserialize_any(Either)
    }
}

/// `[chain]` where there is one, `[[chain]]` where there are several.
pub(super) struct OneOrMore<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Tables<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Tables<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, or several")
            }

            fn visit_map<A: MapAccess<'de>>(self, one: A) -> Result<Vec<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(one)).map(|one| vec![one])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, more: A) -> Result<Vec<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(more))
            }
        }

        from.deserialize_any(Tables(PhantomData)).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub directory: Text,
    pub required_signatures: Option<usize>,
    #[serde(default)]
    pub signers: Vec<Text>,
    pub shadow: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub path: Text,
    pub url: Option<Text>,
    pub url_file: Option<Text>,
    pub max_open: Option<u32>,
    pub fill_gaps: Option<bool>,
    pub fill_gaps_max_fee: Option<Text>,
    pub min_free: Option<Text>,
    #[serde(default)]
    pub show_pause_reason: bool,
    pub keys_kept: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    pub key: Text,
    pub every_rows: Option<u64>,
    pub every: Option<Text>,
    pub file: Option<Text>,
    pub webhook: Option<Text>,
    pub webhook_secret_file: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signer {
    #[serde(default)]
    pub allow_software_keys: bool,
    pub deadline: Option<Text>,
    pub user: Option<Text>,
    pub max_stuck: Option<usize>,
    pub drill_every: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub max_body: Option<usize>,
    pub max_batch: Option<usize>,
    pub max_depth: Option<usize>,
    pub max_header: Option<usize>,
    pub max_connections: Option<usize>,
    pub max_connections_per_client: Option<usize>,
    pub max_connections_per_address: Option<usize>,
    pub max_handshakes: Option<usize>,
    pub max_in_flight: Option<usize>,
    pub max_in_flight_per_client: Option<usize>,
    pub handshake_timeout: Option<Text>,
    pub head_timeout: Option<Text>,
    pub body_timeout: Option<Text>,
    pub write_timeout: Option<Text>,
    pub idle_timeout: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub name: Text,
    pub identity: Text,
    pub issuer: Option<Text>,
    pub role: Option<Text>,
    pub person: Option<Text>,
    #[serde(default)]
    pub accounts: Vec<Text>,
    #[serde(default)]
    pub origins: Vec<Text>,
    pub repeat_window: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operator {
    pub name: Text,
    pub identity: Text,
    pub issuer: Option<Text>,
    pub role: Text,
    pub person: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub name: Text,
    pub profile: Option<Text>,
    pub module: Text,
    pub label: Text,
    pub serial: Option<Text>,
    pub pin_file: Option<Text>,
    pub pin_fd: Option<Spanned<i32>>,
    pub pin_credential: Option<Text>,
    pub user: Option<Text>,
    pub sandbox: Option<Text>,
    pub network: Option<bool>,
    #[serde(default)]
    pub files: Vec<Text>,
    pub sessions: Option<usize>,
    pub site: Option<Text>,
    #[serde(default)]
    pub environment: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    pub name: Text,
    pub address: Text,
    pub token: Option<Text>,
    #[serde(default)]
    pub backups: Vec<Text>,
    pub order: Option<Text>,
    pub backup: Option<Text>,
    pub key: Option<Text>,
    pub keystore: Option<Text>,
    pub password_file: Option<Text>,
    pub auto_bump: Option<Spanned<AutoBump>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AutoBump {
    pub after: Text,
    pub step: Option<u32>,
    pub up_to: Text,
}
