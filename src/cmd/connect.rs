//! `chancery connect`: a local endpoint for tools that cannot present a certificate.
//!
//! Tools speak to a unix socket (Foundry's IPC framing) or to a port on loopback with a token in its path; what they
//! say goes unchanged to the gateway, over one HTTP/2 connection with our certificate. Nothing is decided here.

mod card;
mod child;
mod container;
mod credentials;
mod frames;
mod gateway;
mod ipc;
mod latch;
mod link;
mod news;
mod password;
mod pkcs11_uri;
mod preflight;
mod preload;
mod profile;
mod relay;
mod renewal;
mod reply;
mod socket;
mod status;
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
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cmd::connect::child::{Interrupts, Run};
use crate::cmd::connect::credentials::Given;
use crate::cmd::connect::gateway::Gateway;
use crate::cmd::connect::profile::Profile;
use crate::cmd::connect::renewal::Renewal;
use crate::cmd::connect::socket::{Places, Socket};
use crate::cmd::connect::token::Token;
use crate::cmd::connect::web::{Extension, Web};
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
    /// Where the gateway is, such as `https://gateway:8545`, or the name of a profile [default: the profile `default`]
    #[arg(env = "CHANCERY_URL", value_name = "URL|PROFILE")]
    gateway: Option<String>,
    /// The file with your profiles [default: connect.toml in ~/.config/chancery]
    #[arg(long, value_name = "FILE", env = "CHANCERY_PROFILES")]
    profiles: Option<PathBuf>,
    #[command(flatten)]
    credentials: Given,
    /// The name in the gateway's certificate, where it is not the URL's host
    #[arg(long, value_name = "NAME[:PORT]")]
    server_name: Option<String>,
    /// The unix socket [default: PROFILE.ipc or HOST-PORT.ipc in a folder of yours]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on loopback as well, for tools that know no unix sockets; without PORT on a free one
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    http: Option<u16>,
    /// Keep the token of the loopback URL in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let this browser extension use the loopback URL too, such as `chrome-extension://ID`
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<Extension>,
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
    /// Show your connectors, and whether each reaches its gateway; exits with 3 if one does not
    Status,
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
    pub fn run(mut self, context: &Context) -> Done {
        if matches!(self.verb, Some(Verb::Status)) && self.gateway.is_none() {
            return status::show(context, self.socket.as_deref(), &self.places.folder()?);
        }
        let stem = self.settle()?;
        let url = self.gateway.as_deref().unwrap_or_default();
        let target = Target::parse(url, self.server_name.as_deref())
            .hint("connect", "for example: chancery connect https://gateway:8545 --cert … --key … --ca …")?;
        let stem = stem.unwrap_or_else(|| target.file_stem());
        if matches!(self.verb, Some(Verb::Status)) {
            let folder = self.places.folder()?;
            let socket = self.socket.unwrap_or_else(|| folder.join(socket::file_name(&stem, None)));
            return status::show(context, Some(&socket), &folder);
        }
        if self.http.is_none() && (self.token_file.is_some() || !self.allow_origin.is_empty()) {
            return Err(Failure::new("--token-file and --allow-origin are for the loopback URL")
                .with_hint("add --http, or leave them out")
                .into());
        }
        let credentials = std::mem::take(&mut self.credentials).settle(|| self.places.folder())?;
        if matches!(self.verb, Some(Verb::Preload)) {
            let script = preload::script(&target, &credentials, self.server_name.is_some())?;
            context.print(&serde_json::json!({ "script": script }), script.trim_end())?;
            return Ok(Success::Done);
        }
        let done = self.run_as(&credentials, target, &stem, context);
        credentials.close();
        done
    }

    fn run_as(self, credentials: &Credentials, target: Target, stem: &str, context: &Context) -> Done {
        let renewal = Renewal::of(credentials, context);
        let presented = credentials.present(context, &Clock::system())?;
        let path = self.socket_path(stem)?;
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let gateway = Arc::new(Gateway::new(target, presented, context.clone()));
        let done = runtime.block_on(self.serve(gateway, &path, renewal, context));
        // What is still under way has been given its time.
        runtime.shutdown_background();
        done
    }

    /// Puts what the profile says where nothing else is said; and the profile's name, if there is one.
    fn settle(&mut self) -> Result<Option<String>> {
        let name = match &self.gateway {
            Some(url) if url.contains("://") => return Ok(None),
            Some(name) => name.clone(),
            None => profile::DEFAULT.to_owned(),
        };
        let file = match &self.profiles {
            Some(file) => file.clone(),
            None => self.places.profiles()?,
        };
        let profile = Profile::read(&file, &name)?;
        self.credentials = std::mem::take(&mut self.credentials).or(profile.given());
        self.gateway = Some(profile.url);
        self.server_name = self.server_name.take().or(profile.server_name);
        self.socket = self.socket.take().or(profile.socket);
        self.http = self.http.or(profile.http);
        self.token_file = self.token_file.take().or(profile.token_file);
        for origin in profile.allow_origin {
            self.allow_origin
                .push(origin.parse().hint(format_args!("profile `{name}`"), "see docs/connect.md")?);
        }
        Ok(Some(name))
    }

    async fn serve(self, gateway: Arc<Gateway>, path: &Path, renewal: Renewal, context: &Context) -> Done {
        let mut interrupts = Interrupts::catch()?;
        let (socket, listener) = listen(path)?;
        let (status_socket, status_listener) = listen(&status::beside(path))?;
        let web = match self.http {
            Some(port) => {
                let kept = self.token_file.as_deref();
                Some(Web::bind(port, (self.token()?, kept), self.allow_origin).await?)
            }
            None => None,
        };
        let ready = Ready {
            gateway: gateway.target().to_string(),
            socket: socket.path(),
            http: web.as_ref().map(Web::url),
        };
        let shown = web.as_ref().map(Web::url_without_token);
        let place = status::Place { socket: path.to_owned(), http: shown.clone() };
        let renewal = tokio::spawn(renewal.watch(gateway.clone()));
        let stop = CancellationToken::new();
        let endpoints = TaskTracker::new();
        endpoints.spawn(ipc::serve(listener, gateway.clone(), stop.clone()));
        endpoints.spawn(status::serve(status_listener, place, gateway.clone(), stop.clone()));
        if let Some(web) = web {
            endpoints.spawn(web.serve(gateway.clone(), stop.clone()));
        }
        endpoints.close();
        let ready_file = self.ready_file.as_deref().map(|file| ReadyFile::write(file, &ready)).transpose()?;

        let done = if let Some(Verb::Run(run)) = self.verb {
            // A tool that cannot reach the gateway would only say so in worse words.
            gateway.reach().await.map_err(|trouble| Failure::new(&trouble).with_hint(trouble.hint()))?;
            let endpoint = ready.http.as_ref().map_or_else(|| socket.path().into(), OsString::from);
            run.finish(&endpoint, &gateway, context, &mut interrupts).await?
        } else {
            announce(context, &ready, shown)?;
            // Its trouble is said by the gateway itself, and the next request tries again.
            if gateway.reach().await.is_ok() {
                context.say(format_args!("connected to {}", gateway.target()));
            }
            interrupts.next().await;
            Success::Done
        };
        // Nobody new: first out of sight, then out of service.
        drop((socket, status_socket, ready_file));
        renewal.abort();
        stop.cancel();
        tokio::select! {
            // Whoever is not done by then hears nothing more.
            drained = timeout(DRAIN, endpoints.wait()) => drop(drained),
            _ = interrupts.next() => {}
        }
        Ok(done)
    }

    fn socket_path(&self, stem: &str) -> Result<PathBuf> {
        if let Some(path) = &self.socket {
            return Ok(std::path::absolute(path)?);
        }
        // A tool's own connector must not clash with one that is there for all tools.
        let own = self.verb.is_some().then(std::process::id);
        Ok(self.places.folder()?.join(socket::file_name(stem, own)))
    }

    fn token(&self) -> Result<Token> {
        self.token_file.as_deref().map_or_else(Token::random, Token::kept_in)
    }
}

fn listen(path: &Path) -> Result<(Socket, UnixListener)> {
    let (socket, listener) = Socket::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok((socket, UnixListener::from_std(listener)?))
}

/// `shown` is the loopback URL without its token: what is not said to a person at a terminal is kept, in a journal or a log, and
/// read by others.
fn announce(context: &Context, ready: &Ready<'_>, shown: Option<String>) -> Result<()> {
    if context.json() {
        return context.print(ready, "");
    }
    let socket = ready.socket.display();
    context.say(format_args!("listening on {socket}"));
    let whole = ready.http.as_ref().filter(|_| context.interactive());
    if let Some(url) = whole {
        context.say(format_args!("listening on {url} (keep this URL to yourself)"));
    } else if let Some(url) = shown {
        context.say(format_args!(
            "listening on {url} (its token is not written into a log: take it from --token-file, or the whole URL from \
             --ready-file)"
        ));
    }
    let endpoint = whole.cloned().unwrap_or_else(|| socket.to_string());
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
