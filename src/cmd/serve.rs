//! `chancery serve`: reads everything, starts every stage in the order of the path, and ends them in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::keccak256;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Api, Health};
use crate::audit::{Auditor, Checkpoints, Doors, Drills, Keys, Reconciler, TrustWatch};
use crate::clock::Clock;
use crate::cmd::{Context, Done, HintExt as _, Success, harden, stop};
use crate::config::{Client, Config, Network};
use crate::identity::Person;
use crate::ledger::{Configuration, Ledger, Location, Note};
use crate::listener::{BindError, Connection, Entrance, Inherited, Listener, Sources, Threads, Trust};
use crate::log;
use crate::methods::{self, App, PolicyReload, Service, Upkeep};
use crate::metrics::Exposition;
use crate::policy::{ActivePolicy, World};
use crate::rpc::{Life, Rpc};
use crate::signer::{Pins, Signer, StartError};
use crate::upstream::{self, Upstream, UpstreamError};

/// Run the gateway
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// What to log: a level, or a filter such as `chancery=debug,warn`
    #[arg(long, env = "CHANCERY_LOG", default_value = "info")]
    log: String,
}

impl Serve {
    pub fn run(self, context: &Context) -> Done {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .hint("--log", "write a level (info), or a filter such as chancery=debug,warn")?;
        // The environment is changed by it, so there is no other thread yet.
        let inherited = Inherited::take()?;
        let _log = log::start(filter, context.json())?;
        let config = Config::load(context.config())?;
        // Before anything else is opened.
        let pins = Pins::take(&config)?;
        harden()?;
        raise_open_files(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(serve(context, config, pins, inherited));
        // All that counts is closed. Somebody may still look at a file on a disk that does not answer.
        runtime.shutdown_timeout(Duration::from_secs(1));
        done
    }
}

/// What everything else stands on.
struct Ground {
    clock: Clock,
    metrics: Exposition,
    /// Held to the end: what was begun for clients runs on them.
    threads: Arc<Threads>,
    trust: Trust,
    policy: Arc<ActivePolicy>,
    ledger: Ledger,
}

impl Ground {
    async fn lay(config: &Config) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let metrics = Exposition::install()?;
        // What can be wrong in files is found before anything is started.
        let trust = Trust::load(Sources::new(config), clock.clone())?;
        // From here on SIGHUP means this, and does not end the process.
        tokio::spawn(trust.clone().follow());
        let policy = ActivePolicy::load(&config.policies, World::new(config), config.officers.clone())?;
        let policy = Arc::new(policy.trying(config.shadow.as_deref()));
        let ledger = Ledger::open(&config.ledger, config.signer.deadline, clock.clone()).await.hint(
            "the ledger cannot be opened",
            "is another `chancery serve` running on it, and can its folder be written?",
        )?;
        ledger.note(configuration(config)).await?;
        ledger.activate(policy.now()).await?;
        let threads = Arc::new(Threads::start()?);
        Ok(Self { clock, metrics, threads, trust, policy, ledger })
    }
}

async fn serve(context: &Context, config: Config, pins: Pins, inherited: Inherited) -> Done {
    let executable = std::env::current_exe()?;
    let ground = Ground::lay(&config).await?;
    let stop = stop::on_signal()?;
    let (ledger, _threads) = (ground.ledger.clone(), Arc::clone(&ground.threads));
    tokio::spawn(PolicyReload::new(Arc::clone(&ground.policy), ledger.clone()).run(stop.clone()));
    let served = match Signer::start(&config, executable, &pins, &stop).await {
        Ok(signer) => {
            let served = serve_with(context, config, ground, signer.clone(), inherited, &stop).await;
            stop.cancel();
            // Also where a port is in use: a worker that went down with us might be in a session's login.
            signer.stop().await;
            served
        }
        Err(StartError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    };
    ledger.close().await;
    served?;
    // Not said, but logged: who reads it may stand still.
    tracing::info!("stopped");
    Ok(Success::Done)
}

/// Opens the doors, and serves until `stop`.
async fn serve_with(
    context: &Context,
    config: Config,
    ground: Ground,
    signer: Signer,
    inherited: Inherited,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Ground { clock, metrics, threads, trust, policy, ledger } = ground;
    let tasks = TaskTracker::new();
    let chains = config
        .chains
        .iter()
        .map(|chain| Ok((chain, Upstream::new(chain, &clock)?)))
        .collect::<Result<Vec<_>, UpstreamError>>()?;

    let checkpoints = checkpoints(&config, &policy, &signer, &clock)?;
    let late = checkpoints.as_ref().map(Checkpoints::late).unwrap_or_default();
    let preflights = methods::Preflights::default();
    let app = |upstream: &Upstream| App {
        policy: Arc::clone(&policy),
        ledger: ledger.clone(),
        signer: signer.clone(),
        upstream: upstream.clone(),
        chain_id: upstream.chain_id(),
        preflights: preflights.clone(),
        tasks: tasks.clone(),
    };
    let apps: Vec<Arc<App>> = chains.iter().map(|(_, upstream)| Arc::new(app(upstream))).collect();
    tokio::spawn(Drills::new(&config, clock.clone()).run(stop.clone()));
    let (hosts, services) = (config.gateway.hosts.clone(), services(&config, &apps));
    let trusted = TrustWatch::new(trust.clone());
    let rpc = Rpc::new(services, &config.limits, hosts, methods::is_ordered);
    let (gateway, admin) = listeners(&config, &trust, &clock, inherited)?;
    let gateway = gateway.on(threads);
    let admin = admin.map(|(listener, hosts)| {
        let named = chains.iter().map(|(chain, upstream)| (chain.name.clone(), upstream.clone()));
        let health = Health::new(ledger.clone(), signer.clone(), named.collect(), late, trust);
        let api = Api::new(config.clone(), ledger.clone(), apps.clone(), tasks.clone());
        (listener, Admin::new(hosts, health, metrics.clone(), api))
    });

    let admin_address = admin.as_ref().map(|(listener, _)| listener.local_addr());
    say_where(context, gateway.local_addr(), admin_address, stop).await?;

    let mut doors = Doors::default().with("gateway", gateway.visitors());
    if let Some((listener, _)) = &admin {
        doors = doors.with("admin", listener.visitors());
    }
    let keys = Keys::new(&config, signer.clone());
    let reconciler = Reconciler::begin(&ledger, Location::from(&config.ledger), signer.clone()).await?;
    let audited = CancellationToken::new();
    let auditor = tokio::spawn(
        Auditor { ledger: ledger.clone(), doors, keys, trust: trusted, reconciler, checkpoints }
            .run(audited.clone()),
    );
    let mut background = vec![tokio::spawn(metrics.upkeep()), tokio::spawn(log::tell_of_losses())];
    for ((_, upstream), app) in chains.iter().zip(&apps) {
        background.push(tokio::spawn(upstream.clone().watch(stop.clone())));
        background.push(tokio::spawn(upstream::follow(upstream.clone(), ledger.clone(), stop.clone())));
        let upkeep = Upkeep::new(Arc::clone(app), &config, clock.clone());
        background.push(tokio::spawn(upkeep.run(stop.clone())));
    }

    let drain = config.gateway.drain;
    let on_gateway = gateway.run(
        move |connection| rpc.connection(client_of(&connection.person), life_of(connection)),
        drain,
        stop.clone().cancelled_owned(),
    );
    let on_admin = async {
        if let Some((listener, admin)) = admin {
            let service = move |connection: &Connection| admin.connection(&connection.person);
            listener.run(service, drain, stop.clone().cancelled_owned()).await;
        }
    };
    tokio::join!(on_gateway, on_admin);

    // What was begun for a client is finished, whether or not the client waited.
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!("some signing tasks did not end in time; the ledger settles them at the next start");
    }
    for task in background {
        task.abort();
    }
    audited.cancel();
    if tokio::time::timeout(drain, auditor).await.is_err() {
        tracing::warn!("the last rows of the audit were not written in time");
    }
    Ok(())
}

/// Where the end of the audit chain is kept, if anywhere.
fn checkpoints(
    config: &Config,
    policy: &Arc<ActivePolicy>,
    signer: &Signer,
    clock: &Clock,
) -> anyhow::Result<Option<Checkpoints>> {
    let checkpoints = config.audit.as_ref().map(|audit| {
        let (policy, signer) = (Arc::clone(policy), signer.clone());
        Checkpoints::new(audit.clone(), Location::from(&config.ledger), policy, signer, clock.clone())
    });
    checkpoints.transpose().hint("[audit]", "can the file be written, and the secret be read?")
}

/// The operators' listener, and its hosts.
type AdminDoor = (Listener, Vec<String>);

/// The gateway's listener, and the operators' where there is one.
fn listeners(
    config: &Config,
    trust: &Trust,
    clock: &Clock,
    mut inherited: Inherited,
) -> anyhow::Result<(Listener, Option<AdminDoor>)> {
    let mut bind = |address, entrance, balancers: &[Network]| {
        let tls = trust.clone().door(entrance);
        let listener = Listener::bind(address, &mut inherited, tls, &config.limits, clock.clone())?;
        Ok::<_, BindError>(listener.behind(balancers))
    };
    let gateway = bind(config.gateway.listen, Entrance::Clients, &config.gateway.balancers)?;
    let admin = match &config.admin {
        Some(admin) => Some((bind(admin.listen, Entrance::Everyone, &admin.balancers)?, admin.hosts.clone())),
        None => None,
    };
    inherited
        .all_taken()
        .hint("socket activation", "have each ListenStream be a `listen` of the configuration")?;
    Ok((gateway, admin))
}

/// Says where it listens, unless it is to stop: who reads it may stand still.
async fn say_where(
    context: &Context,
    gateway: SocketAddr,
    admin: Option<SocketAddr>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let context = context.clone();
    let (told, said) = oneshot::channel();
    // The runtime would wait for a thread of its own.
    std::thread::spawn(move || {
        let admin = admin.map(|admin| admin.to_string());
        let listening = json!({ "event": "listening", "gateway": gateway.to_string(), "admin": admin });
        told.send(context.print(&listening, format_args!("listening on https://{gateway}")))
    });
    stop.run_until_cancelled(said).await.map_or(Ok(()), |said| said?)
}

/// What answers for each chain, by its name and its number.
fn services(config: &Config, apps: &[Arc<App>]) -> Vec<(Vec<String>, Service)> {
    let names = config.chains.iter().map(|chain| vec![chain.name.clone(), chain.id.to_string()]);
    names.zip(apps.iter().cloned().map(Service::new)).collect()
}

fn configuration(config: &Config) -> Note {
    Note::Configuration(Configuration {
        file: config.file.display().to_string(),
        hash: keccak256(&config.shown),
        text: config.shown.clone(),
    })
}

fn life_of(connection: &Connection) -> Life {
    Life {
        sockets: connection.upgraded.clone(),
        closing: connection.closing.clone(),
        cut: connection.cut.clone(),
        line: connection.line.clone(),
        may_ask: Arc::new({
            let pass = connection.pass.clone();
            move || pass.check().is_ok()
        }),
    }
}

/// The gateway's handshake lets clients in only; an operator that came in all the same has no account.
fn client_of(person: &Person) -> Arc<Client> {
    match person {
        Person::Client(client) => Arc::clone(client),
        Person::Operator(operator) => Arc::new(Client {
            name: operator.name.clone(),
            identity: operator.identity.clone(),
            issuer: operator.issuer.clone(),
            role: None,
            person: Some(operator.person.clone()),
            accounts: Vec::new(),
            origins: Vec::new(),
            repeat_window: None,
        }),
    }
}

/// Each connection is a file descriptor, and most systems begin with 1024 of them: fewer than connections may be open.
fn raise_open_files(config: &Config) {
    /// For the node, the ledger, the workers, and what the runtime needs.
    const BESIDE_CONNECTIONS: usize = 1024;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = config.limits.max_connections.saturating_mul(2).saturating_add(BESIDE_CONNECTIONS);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let is_enough = maximum.is_none_or(|most| usize::try_from(most).is_ok_and(|most| most >= wanted));
    if raised.is_err() || !is_enough {
        tracing::warn!(
            wanted,
            allowed = maximum,
            "fewer files may be open than [limits] max_connections needs, here and for [admin]: raise the limit \
             (LimitNOFILE), or connections are refused when they run out"
        );
    }
}
