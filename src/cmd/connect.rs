//! `chancery connect`: a local endpoint for tools that cannot present a certificate.
//!
//! Tools speak to a unix socket (Foundry's IPC framing) or to a port on loopback with a token in its path; what they
//! say goes unchanged to the gateway, over one HTTP/2 connection with our certificate. Nothing is decided here.

mod child;
mod credentials;
mod frames;
mod gateway;
mod ipc;
mod link;
mod preload;
mod relay;
mod renewal;
mod reply;
mod socket;
mod target;
mod token;
mod trouble;
mod web;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use rustls::ClientConfig;
use serde::Serialize;
use tokio::runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cmd::connect::child::{Interrupts, Run};
use crate::cmd::connect::gateway::Gateway;
use crate::cmd::connect::renewal::Renewal;
use crate::cmd::connect::socket::{Places, Socket};
use crate::cmd::connect::token::Token;
use crate::cmd::connect::web::Web;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};

pub(in crate::cmd) use crate::cmd::connect::credentials::Credentials;
pub(in crate::cmd) use crate::cmd::connect::link::{Sender, open};
pub(in crate::cmd) use crate::cmd::connect::target::Target;
pub(in crate::cmd) use crate::cmd::connect::trouble::Trouble;

/// How long requests that are under way may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// Give tools that cannot present a certificate a local endpoint
#[derive(Debug, clap::Args)]
#[command(subcommand_precedence_over_arg = true)]
pub struct Connect {
    /// Where the gateway is, such as `https://gateway:8545`
    #[arg(env = "CHANCERY_URL")]
    url: String,
    #[command(flatten)]
    credentials: Credentials,
    /// The name in the gateway's certificate, where it is not the URL's host
    #[arg(long, value_name = "NAME[:PORT]")]
    server_name: Option<String>,
    /// The unix socket [default: HOST-PORT.ipc in a folder of yours]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on loopback as well, for tools that know no unix sockets; without PORT on a free one
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    http: Option<u16>,
    /// Keep the token of the loopback URL in this file
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,
    /// Write where we listen, as JSON, into this file when ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Run),
    /// Print a file for Node's `--require`, by which its tools reach the gateway with this certificate, without a connector
    Preload,
}

/// Where tools find us.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    gateway: String,
    socket: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
}

impl Connect {
    pub fn run(self, context: &Context) -> Done {
        let target = Target::parse(&self.url, self.server_name.as_deref())
            .hint("connect", "for example: chancery connect https://gateway:8545 --cert … --key … --ca …")?;
        if matches!(self.verb, Some(Verb::Preload)) {
            let script = preload::script(&target, &self.credentials, self.server_name.is_some())?;
            context.print(&serde_json::json!({ "script": script }), script.trim_end())?;
            return Ok(Success::Done);
        }
        let renewal = Renewal::of(&self.credentials, context);
        let tls = self.credentials.tls(context, &Clock::system())?;
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let done = runtime.block_on(self.serve(target, tls, renewal, context));
        // What is still under way has been given its time.
        runtime.shutdown_background();
        done
    }

    async fn serve(self, target: Target, tls: ClientConfig, renewal: Renewal, context: &Context) -> Done {
        let mut interrupts = Interrupts::catch()?;
        let path = self.socket_path(&target)?;
        let (socket, listener) = Socket::bind(&path)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let web = match self.http {
            Some(port) => Some(Web::bind(port, self.token()?).await?),
            None => None,
        };
        let ready =
            Ready { gateway: target.to_string(), socket: socket.path(), http: web.as_ref().map(Web::url) };
        let gateway = Arc::new(Gateway::new(target, tls, context.clone()));
        let renewal = tokio::spawn(renewal.watch(gateway.clone()));
        let stop = CancellationToken::new();
        let endpoints = TaskTracker::new();
        endpoints.spawn(ipc::serve(listener, gateway.clone(), stop.clone()));
        if let Some(web) = web {
            endpoints.spawn(web.serve(gateway.clone(), stop.clone()));
        }
        endpoints.close();
        let ready_file = self.ready_file.as_deref().map(|file| ReadyFile::write(file, &ready)).transpose()?;

        let done = if let Some(Verb::Run(run)) = self.verb {
            // A tool that cannot reach the gateway would only say so in worse words.
            gateway.reach().await.map_err(|trouble| Failure::new(&trouble).with_hint(trouble.hint()))?;
            let endpoint = ready.http.as_ref().map_or_else(|| socket.path().into(), OsString::from);
            Success::Code(run.finish(&endpoint, &mut interrupts).await?)
        } else {
            announce(context, &ready)?;
            // Its trouble is said by the gateway itself, and the next request tries again.
            if gateway.reach().await.is_ok() {
                context.say(format_args!("connected to {}", gateway.target()));
            }
            interrupts.next().await;
            Success::Done
        };
        // Nobody new: first out of sight, then out of service.
        drop((socket, ready_file));
        renewal.abort();
        stop.cancel();
        tokio::select! {
            // Whoever is not done by then hears nothing more.
            drained = timeout(DRAIN, endpoints.wait()) => drop(drained),
            _ = interrupts.next() => {}
        }
        Ok(done)
    }

    fn socket_path(&self, target: &Target) -> Result<PathBuf> {
        if let Some(path) = &self.socket {
            return Ok(std::path::absolute(path)?);
        }
        // A tool's own connector must not clash with one that is there for all tools.
        let own = self.verb.is_some().then(std::process::id);
        Ok(self.places.folder()?.join(socket::file_name(&target.file_stem(), own)))
    }

    fn token(&self) -> Result<Token> {
        self.token_file.as_deref().map_or_else(Token::random, Token::kept_in)
    }
}

fn announce(context: &Context, ready: &Ready<'_>) -> Result<()> {
    if context.json() {
        return context.print(ready, "");
    }
    context.say(format_args!("listening on {}", ready.socket.display()));
    if let Some(url) = &ready.http {
        context.say(format_args!("listening on {url} (keep this URL to yourself)"));
    }
    let endpoint = ready.http.clone().unwrap_or_else(|| ready.socket.display().to_string());
    context
        .say(format_args!("for Foundry: export ETH_RPC_URL='{endpoint}' FOUNDRY_ETH_RPC_URL='{endpoint}'"));
    Ok(())
}

/// A file that says that we are ready; gone when we are.
#[derive(Debug)]
struct ReadyFile(PathBuf);

impl ReadyFile {
    fn write(file: &Path, ready: &Ready<'_>) -> Result<Self> {
        let hint = "give another file with `--ready-file`";
        let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        // Whole or not at all, and for nobody else: the URL holds the token.
        let mut young = tempfile::NamedTempFile::new_in(folder).hint(file.display(), hint)?;
        writeln!(young, "{}", serde_json::to_string(ready)?).hint(file.display(), hint)?;
        young.persist(file).hint(file.display(), hint)?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It is the last thing that is done; a stale one is overwritten next time.
        drop(std::fs::remove_file(&self.0));
    }
}
