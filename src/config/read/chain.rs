//! `[chain]`, or several `[[chain]]`: which there are, and which nodes speak for each.

use std::ops::Range;
use std::time::Duration;

use alloy_primitives::hex;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;

use crate::config::read::{Read, Reader};
use crate::config::written::{self, Text};
use crate::config::{Chain, Node, NodeAuth};
use crate::secret::{self, NotAUrl, SecretUrl};

/// A chain of 12 s a block: what a node that follows it is never behind for long.
const MAX_LAG: u64 = 3;

/// Per cent. Less than MetaMask's half, and several times what interest that is brought up to date costs a deposit.
const GAS_MARGIN: u64 = 20;

/// Headers that the gateway writes itself.
const OURS: [&str; 6] =
    ["host", "content-type", "content-length", "transfer-encoding", "connection", "upgrade"];

impl Reader<'_> {
    pub(super) fn chains(&self, written: &[written::Chain]) -> Read<Vec<Chain>> {
        let chains = written.iter().map(|chain| self.chain(chain)).collect::<Read<Vec<_>>>()?;
        if chains.is_empty() {
            return Err(self.wrong("there is no [chain]: write one with `id` and `node`"));
        }
        self.unique("[[chain]] id", chains.iter().map(|chain| chain.id))?;
        self.unique("[[chain]] name", chains.iter().map(|chain| &chain.name))?;
        for (chain, written) in chains.iter().zip(written) {
            if let (Some(name), Ok(number)) = (&written.name, chain.name.parse::<u64>())
                && number != chain.id
            {
                return Err(self.at(&name.span(), "a name that is a number means the chain of that number"));
            }
        }
        Ok(chains)
    }

    fn chain(&self, written: &written::Chain) -> Read<Chain> {
        let nodes = self.nodes(written)?;
        let broadcast = match &written.broadcast {
            None => (0..nodes.len()).collect(),
            Some(names) if names.is_empty() => {
                return Err(self
                    .at(&written.id.span(), "`broadcast` is empty: signed transactions must go somewhere"));
            }
            Some(names) => names.iter().map(|name| self.place_of(name, &nodes)).collect::<Read<Vec<_>>>()?,
        };
        let name = match &written.name {
            Some(name) => self.name(name)?,
            None => written.id.get_ref().to_string(),
        };
        Ok(Chain {
            name,
            id: *written.id.get_ref(),
            nodes,
            broadcast,
            timeout: self.duration(written.timeout.as_ref(), Duration::from_secs(6))?,
            finality: written.finality.unwrap_or(64),
            max_answer: written.max_answer.unwrap_or(64 * 1024 * 1024),
            max_lag: written.max_lag.unwrap_or(MAX_LAG),
            gas_margin: self.gas_margin(written.gas_margin.as_ref())?,
        })
    }

    fn gas_margin(&self, written: Option<&Spanned<u64>>) -> Read<u64> {
        let Some(written) = written else { return Ok(GAS_MARGIN) };
        if *written.get_ref() > 100 {
            return Err(
                self.at(&written.span(), "`gas_margin` is 0 to 100 (per cent over the node's estimate)")
            );
        }
        Ok(*written.get_ref())
    }

    fn nodes(&self, written: &written::Chain) -> Read<Vec<Node>> {
        let url = self.url(written.node.as_ref(), written.node_file.as_ref());
        let nodes = match (url, written.nodes.as_slice()) {
            (Some(url), []) => {
                let url = url?;
                let (name, ws) = ("node".to_owned(), url.as_websocket());
                vec![Node { name, url, ws, auth: NodeAuth::default(), reads: true }]
            }
            (None, [_, ..]) => written.nodes.iter().map(|node| self.node(node)).collect::<Read<_>>()?,
            _ => {
                return Err(self.at(
                    &written.id.span(),
                    "[chain] needs `node` (a URL), or `node_file` (a file that holds it), or [[chain.nodes]]: one \
                     of them",
                ));
            }
        };
        self.unique("[[chain.nodes]] name", nodes.iter().map(|node| &node.name))?;
        if !nodes.iter().any(|node| node.reads) {
            return Err(
                self.at(&written.id.span(), "`reads` is false for every node: there must be one to ask")
            );
        }
        Ok(nodes)
    }

    fn node(&self, written: &written::Node) -> Read<Node> {
        let url = self.url(written.url.as_ref(), written.url_file.as_ref()).ok_or_else(|| {
            let what = "a node needs `url`, or `url_file` (a file that holds it), one of them";
            self.at(&written.name.span(), what)
        })??;
        let ws = match &written.ws {
            Some(ws) => SecretUrl::parse_websocket(ws.get_ref()).map_err(|e| self.at(&ws.span(), e))?,
            None => url.as_websocket(),
        };
        let auth = self.node_auth(written, &url)?;
        Ok(Node { name: self.name(&written.name)?, url, ws, auth, reads: written.reads.unwrap_or(true) })
    }

    fn node_auth(&self, written: &written::Node, url: &SecretUrl) -> Read<NodeAuth> {
        let headers =
            written.headers.iter().map(|(name, value)| self.header(name, value)).collect::<Read<Vec<_>>>()?;
        let jwt = written.jwt_file.as_ref().map(|file| self.jwt(file)).transpose()?;
        let is_shown = headers.iter().any(|(name, _)| name == "authorization");
        if let Some(file) = written.jwt_file.as_ref().filter(|_| is_shown || url.has_credentials()) {
            let what =
                "a JWT is sent as `authorization`, which `headers` or the URL's user part fills already";
            return Err(self.at(&file.span(), what));
        }
        let certificate = match (&written.certificate, &written.key) {
            (Some(certificate), Some(key)) => Some((self.path(certificate), self.path(key))),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                return Err(self.at(&one.span(), "a client certificate needs `certificate` and `key`"));
            }
        };
        let of_tls = [&written.certificate, &written.ca].into_iter().flatten().next();
        if let Some(of_tls) = of_tls.filter(|_| !url.expose().starts_with("https://")) {
            return Err(self.at(&of_tls.span(), "certificates are for a `url` of https"));
        }
        Ok(NodeAuth { headers, jwt, certificate, ca: written.ca.as_ref().map(|file| self.path(file)) })
    }

    fn header(&self, name: &Text, value: &written::Header) -> Read<(String, SecretString)> {
        let lower = name.get_ref().to_ascii_lowercase();
        if HeaderName::try_from(&lower).is_err() || OURS.contains(&lower.as_str()) {
            let what = format!("`{}` is no header that can be added", name.get_ref());
            return Err(self.at(&name.span(), what));
        }
        let value = match value {
            written::Header::Value(text) => SecretString::from(text.clone()),
            written::Header::File(file) => self.secret_of(file, &name.span())?,
        };
        if HeaderValue::try_from(value.expose_secret()).is_err() {
            return Err(self.at(&name.span(), "a header's value is one line of visible characters"));
        }
        Ok((lower, value))
    }

    fn jwt(&self, file: &Text) -> Read<SecretString> {
        let secret = self.secret(file)?;
        let text = secret.expose_secret();
        if hex::decode(text).is_ok_and(|key| key.len() == 32) {
            return Ok(secret);
        }
        Err(self.at(&file.span(), "expected 32 bytes in hexadecimal, as in the node's --authrpc.jwtsecret"))
    }

    /// A URL that stands here, or in a file; `None` where neither is said, or both.
    fn url(&self, here: Option<&Text>, file: Option<&Text>) -> Option<Read<SecretUrl>> {
        let at = |text: &Text, e: NotAUrl| self.at(&text.span(), e);
        match (here, file) {
            (Some(url), None) => Some(SecretUrl::parse(url.get_ref()).map_err(|e| at(url, e))),
            (None, Some(file)) => Some(
                self.secret(file)
                    .and_then(|url| SecretUrl::parse(url.expose_secret()).map_err(|e| at(file, e))),
            ),
            _ => None,
        }
    }

    fn secret(&self, file: &Text) -> Read<SecretString> {
        self.secret_of(file.get_ref(), &file.span())
    }

    fn secret_of(&self, file: &str, span: &Range<usize>) -> Read<SecretString> {
        let path = self.folder.join(file);
        secret::read_file(&path).map_err(|e| self.at(span, format_args!("{}: {e}", path.display())))
    }

    fn place_of(&self, name: &Text, nodes: &[Node]) -> Read<usize> {
        nodes.iter().position(|node| node.name == *name.get_ref()).ok_or_else(|| {
            self.at(&name.span(), format_args!("this chain has no node named `{}`", name.get_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigError};

    const REST: &str = r#"
[gateway]
listen = "127.0.0.1:8545"
hosts = ["localhost:8545"]
certificate = "c"
key = "k"
client_ca = "ca"
[policy]
directory = "policies"
[ledger]
path = "ledger.sqlite"
"#;

    fn read(folder: &Path, chains: &str) -> Result<Vec<Chain>, ConfigError> {
        let text = format!("{chains}{REST}");
        Config::parse(&folder.join("chancery.toml"), &text).map(|config| config.chains)
    }

    #[test]
    fn one_node_is_one_line_and_several_have_names() {
        let folder = tempfile::tempdir().unwrap();
        let one = read(folder.path(), "[chain]\nid = 5\nnode = \"http://node:8545/KEY\"\n").unwrap();
        let [chain] = &one[..] else { panic!("{one:?}") };
        assert_eq!((chain.name.as_str(), chain.nodes.len(), &chain.broadcast[..]), ("5", 1, &[0][..]));
        assert_eq!(chain.nodes[0].ws.expose(), "ws://node:8545/KEY");

        std::fs::write(folder.path().join("jwt"), format!("0x{}\n", "ab".repeat(32))).unwrap();
        std::fs::write(folder.path().join("key"), "SECRET\n").unwrap();
        let several = r#"
[[chain]]
name = "mainnet"
id = 1
broadcast = ["relay"]
max_lag = 9
gas_margin = 50
[[chain.nodes]]
name = "own"
url = "https://node/"
ws = "wss://node:8546/"
jwt_file = "jwt"
certificate = "c.pem"
key = "c.key"
ca = "ca.pem"
[[chain.nodes]]
name = "relay"
url = "https://relay/"
headers = { X-Api-Key = { file = "key" }, x-desk = "seven" }
reads = false
[[chain]]
id = 10
node = "http://other"
"#;
        let several = read(folder.path(), several).unwrap();
        let [mainnet, other] = &several[..] else { panic!("{several:?}") };
        assert!(mainnet.is_called("mainnet") && mainnet.is_called("1") && !mainnet.is_called("10"));
        assert!(other.is_called("10"));
        assert_eq!((&mainnet.broadcast[..], mainnet.max_lag, mainnet.gas_margin), (&[1][..], 9, 50));
        assert_eq!(other.gas_margin, GAS_MARGIN);
        let [own, relay] = &mainnet.nodes[..] else { panic!("two") };
        assert!(own.auth.jwt.is_some() && own.auth.certificate.is_some() && own.reads && !relay.reads);
        let named =
            |name: &str| relay.auth.headers.iter().find(|(n, _)| n == name).unwrap().1.expose_secret();
        assert_eq!((named("x-api-key"), named("x-desk")), ("SECRET", "seven"));
        assert!(!format!("{several:?}").contains("SECRET") && !format!("{several:?}").contains("abab"));
    }

    #[test]
    fn what_makes_no_sense_of_nodes_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("short"), "0xab\n").unwrap();
        let node = |more: &str| {
            format!("[chain]\nid = 1\n[[chain.nodes]]\nname = \"a\"\nurl = \"https://n\"\n{more}\n")
        };
        for (chains, what) in [
            ("chain = []\n".to_owned(), "there is no [chain]"),
            ("[chain]\nid = 1\n".to_owned(), "one of them"),
            (format!("{}node = \"x\"", node("")), "unknown field `node`"),
            ("[chain]\nid = 1\nnode = \"http://n\"\n[[chain.nodes]]\nname = \"a\"\nurl = \"http://n\"\n".to_owned(), "one of them"),
            (node("reads = false"), "there must be one to ask"),
            (node("jwt_file = \"short\""), "32 bytes"),
            (node("jwt_file = \"nothing\""), "No such file"),
            (node("certificate = \"c\""), "`certificate` and `key`"),
            (node("headers = { host = \"x\" }"), "no header that can be added"),
            (node("headers = { x = \"a\\nb\" }"), "one line"),
            (node("headers = { x = 5 }"), "a text, or { file"),
            (node("ws = \"http://n\""), "ws://"),
            (node("url = \"https://m\""), "duplicate key"),
            (node("").replace("https://n", "http://n").replace("url", "ca = \"ca\"\nurl"), "https"),
            (node("").replacen("id = 1", "id = 1\nbroadcast = []", 1), "must go somewhere"),
            (node("").replacen("id = 1", "id = 1\nbroadcast = [\"b\"]", 1), "no node named `b`"),
            (node("").replacen("id = 1", "id = 1\ngas_margin = 101", 1), "0 to 100"),
            (node("").replacen("id = 1", "id = 1\nname = \"2\"", 1), "means the chain of that number"),
            ("[[chain]]\nid = 1\nnode = \"http://n\"\n[[chain]]\nid = 1\nname = \"x\"\nnode = \"http://n\"\n".to_owned(), "stands there twice"),
        ] {
            let error = read(folder.path(), &chains).expect_err(&chains);
            assert!(error.what.contains(what), "{what}: {error}");
        }
    }
}
