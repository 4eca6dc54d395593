//! The node, the port and the tokens: what is tried by doing what `serve` would do.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::{Backup, Drills};
use crate::clock::Clock;
use crate::cmd::doctor::finding::Finding;
use crate::config::{Chain, Config, KeySource, Node};
use crate::ledger;
use crate::signer::{Confinement, Pins, SignError, Signer, StartError, TokenState};
use crate::upstream::{Upstream, UpstreamError};

/// Whether each token is there with the keys that the configuration pins, and each key signs; nothing where it is stopped before.
pub async fn tokens(
    config: &Config,
    pins: Result<Pins, StartError>,
    stop: &CancellationToken,
) -> Vec<Finding> {
    if config.tokens.is_empty() && config.accounts.is_empty() {
        return Vec::new();
    }
    let pins = match pins {
        Ok(pins) => pins,
        Err(why) => {
            return vec![Finding::failed("pin", why, "docs/signer.md says how a PIN is handed over")];
        }
    };
    let started = match std::env::current_exe() {
        Ok(executable) => Signer::start(config, executable, &pins, stop).await,
        Err(error) => Err(StartError::Wrong(error.to_string())),
    };
    let signer = match started {
        Ok(signer) => signer,
        Err(StartError::Stopped) => return Vec::new(),
        Err(why) => {
            let fix = "`chancery keys list` shows what the token holds; [[account]] must say the same";
            return vec![Finding::failed("token", why, fix)];
        }
    };
    let mut findings: Vec<_> = signer
        .readiness()
        .iter()
        .map(|status| {
            let what = status.to_string();
            match &status.state {
                TokenState::Ready { .. } => Finding::ok("token", what),
                TokenState::PinLatched(_) => {
                    let fix = format!("correct the PIN, then `chancery keys unlatch {}`", status.token);
                    Finding::failed("token", what, fix)
                }
                TokenState::Mismatch(_) => {
                    Finding::failed("token", what, "`chancery keys list` shows what the token holds")
                }
                TokenState::Starting | TokenState::Restarting(_) | TokenState::Down(_) => {
                    let fix = "are `module`, `label` and `environment` right, and the token connected?";
                    Finding::failed("token", what, fix)
                }
            }
        })
        .collect();
    for status in signer.readiness() {
        findings.extend(status.confinement.map(|confinement| {
            let what = format!("token {}: its worker is {confinement}", status.token);
            match confinement {
                Confinement::Whole { .. } => Finding::ok("sandbox", what),
                Confinement::Off => {
                    Finding::warning("sandbox", what, "leave `sandbox = \"off\"` out where it works without")
                }
                Confinement::Part(_) => {
                    Finding::warning("sandbox", what, "Linux 6.12 or later has all that is asked for")
                }
            }
        }));
    }
    for account in &config.accounts {
        let since = Instant::now();
        let what = format!("{} {}", account.name, account.address);
        let Some(probed) = stop.run_until_cancelled(signer.probe(account.address)).await else { break };
        match probed {
            Ok(()) => {
                let took = since.elapsed().as_millis();
                findings.push(Finding::ok("key", format_args!("{what}: it signs, in {took} ms")));
            }
            // Said above, of its token.
            Err(SignError::Down { .. }) if matches!(account.key, KeySource::Token { .. }) => {}
            Err(error) => {
                findings.push(Finding::failed("key", format_args!("{what}: {error}"), "look at the token"));
            }
        }
    }
    signer.stop().await;
    findings
}

/// Whether each backup was proved not too long ago.
pub async fn drills(config: &Config, clock: Clock) -> Vec<Finding> {
    let now = clock.now();
    let every = config.signer.drill_every;
    let mut drills = Drills::new(config, clock);
    let backups = match drills.look().await {
        Ok(backups) => backups,
        Err(error) => {
            let fix = "`chancery audit verify` says more";
            return vec![Finding::warning(
                "drill",
                format_args!("it cannot be read when backups were drilled: {error}"),
                fix,
            )];
        }
    };
    let finding = |backup: &Backup| {
        let Backup { account, token, drilled, .. } = backup;
        let last = drilled.map_or_else(|| "never".to_owned(), |at| at.to_string());
        let what = format!("{account}: its backup in token {token} was drilled: {last}");
        if backup.is_overdue(every, now) {
            return Finding::warning(
                "drill",
                what,
                format_args!("`chancery keys drill {account}` proves it"),
            );
        }
        Finding::ok("drill", what)
    };
    backups.iter().map(finding).collect()
}

/// Whether the nodes answer, and are on their chain.
pub async fn node(config: &Config, clock: Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    for chain in &config.chains {
        let heads = match Upstream::new(chain, &clock) {
            Ok(upstream) => upstream.health().await.nodes,
            Err(error) => {
                findings.push(Finding::failed(
                    "node",
                    format_args!("chain {}: {error}", chain.id),
                    "correct its [chain]",
                ));
                continue;
            }
        };
        for (name, head) in heads {
            let Some(node) = chain.nodes.iter().find(|node| node.name == name) else { continue };
            findings.push(finding(chain, node, head));
        }
    }
    findings
}

fn finding(chain: &Chain, node: &Node, head: Result<u64, UpstreamError>) -> Finding {
    let url = &node.url;
    match head {
        Ok(block) => Finding::ok("node", format_args!("{url}: chain {}, at block {block}", chain.id)),
        Err(error @ UpstreamError::OtherChain { .. }) => Finding::failed(
            "node",
            format_args!("{url}: {error}"),
            "correct `id` of [chain], or the node's URL",
        ),
        Err(error) => Finding::failed(
            "node",
            format_args!("{url}: {error}"),
            "is it running, and does it serve JSON-RPC at this URL?",
        ),
    }
}

/// Whether the ports are free, or this gateway is already there.
pub fn ports(config: &Config) -> Vec<Finding> {
    // A gateway that runs has the ledger open.
    let running = ledger::in_use(&config.ledger.path).unwrap_or(false);
    let admin = config.admin.iter().map(|admin| ("admin", admin.listen));
    std::iter::once(("listen", config.gateway.listen))
        .chain(admin)
        .map(|(c, at)| port(c, at, running))
        .collect()
}

fn port(check: &'static str, at: SocketAddr, running: bool) -> Finding {
    match TcpListener::bind(at) {
        Ok(_) if running => {
            let what = format!("{at}: free, but a gateway has this ledger open");
            Finding::warning(check, what, "does it run with another configuration?")
        }
        Ok(_) => Finding::ok(check, format_args!("{at}: free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
            Finding::ok(check, format_args!("{at}: the gateway is running"))
        }
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::AddrInUse => "another program listens there: stop it, or change `listen`",
                io::ErrorKind::PermissionDenied => {
                    "take a port of 1024 or above, or give CAP_NET_BIND_SERVICE"
                }
                io::ErrorKind::AddrNotAvailable => "this machine does not have that address: change `listen`",
                _ => "change `listen`",
            };
            Finding::failed(check, format_args!("{at}: {error}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::doctor::finding::State;

    #[test]
    fn a_port_is_free_or_ours() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        assert_eq!(port("listen", at, true).state, State::Ok);
        assert_eq!(port("listen", at, false).state, State::Failed);
        drop(taken);
        assert_eq!(port("listen", at, false).state, State::Ok);
        assert_eq!(port("listen", at, true).state, State::Warning);
        assert_eq!(port("listen", "192.0.2.1:1".parse().unwrap(), false).state, State::Failed);
    }
}
