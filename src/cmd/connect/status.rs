//! `chancery connect status`: which connectors run here, and whether each reaches its gateway; and where each is asked.

use std::io::Read as _;
use std::os::unix::net::UnixStream as Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cmd::connect::credentials::Shown;
use crate::cmd::connect::gateway::Gateway;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};

/// What is added to a socket's name for the one where its connector is asked.
const SUFFIX: &str = ".status";

/// Opening a connection takes ten seconds at most.
const PATIENCE: Duration = Duration::from_secs(15);

/// No answer is longer.
const MAX_ANSWER: u64 = 64 * 1024;

/// What a connector says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Status {
    gateway: String,
    socket: PathBuf,
    /// Without its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    process: u32,
    certificate: Shown,
    under_way: usize,
    connected: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<Told>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    code: String,
    message: String,
    hint: String,
}

/// What does not change while a connector runs.
#[derive(Debug)]
pub struct Place {
    pub socket: PathBuf,
    pub http: Option<String>,
}

/// Where the connector with this socket is asked.
pub fn beside(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// Tells everyone who connects how we are, one after the other, until `stop`.
pub async fn serve(listener: UnixListener, place: Place, gateway: Arc<Gateway>, stop: CancellationToken) {
    let user = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut stream, _)) = accepted else {
            // Out of file descriptors: some will come free.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        if stream.peer_cred().is_ok_and(|peer| peer.uid() == user || peer.uid() == 0) {
            let status = tokio::select! {
                () = stop.cancelled() => return,
                status = now(&place, &gateway) => status,
            };
            let Ok(text) = serde_json::to_vec(&status) else { continue };
            // Who does not read has nothing to be told.
            drop(timeout(Duration::from_secs(1), stream.write_all(&text)).await);
        }
    }
}

async fn now(place: &Place, gateway: &Gateway) -> Status {
    let trouble = gateway.reach().await.err();
    Status {
        gateway: gateway.target().to_string(),
        socket: place.socket.clone(),
        http: place.http.clone(),
        process: std::process::id(),
        certificate: gateway.certificate().await,
        under_way: gateway.under_way(),
        connected: trouble.is_none(),
        trouble: trouble.map(|trouble| Told {
            code: trouble.name().to_owned(),
            message: trouble.to_string(),
            hint: trouble.hint().to_owned(),
        }),
    }
}

/// Asks one connector, or all of the folder.
pub fn show(context: &Context, socket: Option<&Path>, folder: &Path) -> Done {
    let asked = match socket {
        Some(socket) => {
            let hint = "is a connector running there? `chancery connect status` alone looks for all of yours";
            vec![ask(&beside(socket)).hint(socket.display(), hint)?]
        }
        None => all(folder)?,
    };
    if asked.is_empty() {
        return Err(Failure::new("no connector of yours is running")
            .with_hint("start one: chancery connect https://gateway:8545 …; or say --socket PATH")
            .into());
    }
    for status in &asked {
        context.print(status, status.text())?;
    }
    Ok(if asked.iter().all(|status| status.connected) { Success::Done } else { Success::Denied })
}

fn all(folder: &Path) -> Result<Vec<Status>> {
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(folder).hint(folder.display(), "say --socket PATH")? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
            sockets.push(path);
        }
    }
    sockets.sort();
    // One that died left its socket.
    Ok(sockets.iter().filter_map(|socket| ask(socket).ok()).collect())
}

fn ask(socket: &Path) -> Result<Status> {
    let stream = Connection::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

impl Status {
    fn text(&self) -> String {
        let Self { gateway, socket, process, certificate, under_way, .. } = self;
        let Shown { subject, source, not_after } = certificate;
        let state = self.trouble.as_ref().map_or_else(
            || "connected".to_owned(),
            |trouble| format!("NOT CONNECTED: {}\n  hint: {}", trouble.message, trouble.hint),
        );
        let http = self.http.as_ref().map_or_else(String::new, |url| format!(" and {url}"));
        format!(
            "{gateway}: {state}\n  for tools: {}{http} (process {process}, {under_way} under way)\n  as {subject}, \
             by {source}, until {not_after}",
            socket.display()
        )
    }
}
