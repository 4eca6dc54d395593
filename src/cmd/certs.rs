//! `chancery certs`: a CA for development, certificates and a revocation list by it, and what Chancery makes of any
//! certificate.

mod authority;
mod expiry;
mod files;
mod held;
mod inspect;
mod renew;
mod revocation;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::IdentityKind;

pub use authority::{Authority, Holder, Pair};

use revocation::Reason;

/// Make and inspect certificates
#[derive(Debug, clap::Args)]
pub struct Certs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a CA for development, and a server certificate by it
    Init {
        /// Where to write ca.pem, ca.key, server.pem and server.key
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// The gateway's host names and addresses
        #[arg(long = "host", default_values = ["localhost", "127.0.0.1"])]
        hosts: Vec<String>,
        /// Write over what is there
        #[arg(long)]
        force: bool,
    },
    /// Issue a certificate by the CA that `certs init` made
    Issue {
        /// Names the files: NAME.pem and NAME.key
        name: String,
        /// The identity as a URI [default: `spiffe://chancery/NAME`]
        #[arg(long, conflicts_with = "dns")]
        identity: Option<String>,
        /// The identity as a DNS name
        #[arg(long)]
        dns: Option<String>,
        /// With --kind server: a host name or address
        #[arg(long = "host")]
        hosts: Vec<String>,
        /// Whose certificate it is
        #[arg(long, value_enum, default_value_t = Kind::Client)]
        kind: Kind,
        /// How long it is valid, in days
        #[arg(long, default_value_t = 90)]
        days: u32,
        /// Where the CA is, and where the certificate goes
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Write over what is there
        #[arg(long)]
        force: bool,
    },
    /// Put certificates on the CA's revocation list, ca.crl; without one, write the list anew with a later end
    Revoke {
        /// Certificates of this CA, in PEM
        files: Vec<PathBuf>,
        /// Why
        #[arg(long, value_enum, default_value_t = Reason::Unspecified)]
        reason: Reason,
        /// How long the list is in force, in days
        #[arg(long, default_value_t = 30)]
        days: u32,
        /// Where the CA and its list are
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
    },
    /// Exchange a certificate for a new one with the same names and a new key
    Renew {
        /// As `certs issue` called it
        name: String,
        /// Only if it has fewer days left than this; otherwise nothing is done
        #[arg(long)]
        within: Option<u32>,
        /// How long the new one is valid, in days [default: as long as the old one was]
        #[arg(long)]
        days: Option<u32>,
        /// Where the CA and the certificate are
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
    },
    /// Say how many days certificates and revocation lists have left; exit code 3 if one ends soon
    Expiry {
        /// Certificates and lists [default: those of the configuration]
        files: Vec<PathBuf>,
        /// What is soon, in days
        #[arg(long, default_value_t = 14)]
        within: u32,
    },
    /// Say who a certificate is for Chancery, or why nobody
    Inspect {
        /// The certificate, in PEM
        file: PathBuf,
        /// Where the identity is looked for, as [gateway] identity
        #[arg(long, value_enum, default_value_t = Names::Uri)]
        kind: Names,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A tool that talks to the gateway itself
    Client,
    /// `chancery connect`, for tools that have no certificate
    Connector,
    /// An operator, for the admin listener
    Admin,
    /// The gateway
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Names {
    Uri,
    Dns,
}

impl Certs {
    pub fn run(self, context: &Context) -> Done {
        match self.verb {
            Verb::Init { dir, hosts, force } => init(context, &dir, &hosts, force),
            Verb::Issue { name, identity, dns, hosts, kind, days, dir, force } => {
                let holder = holder(&name, identity, dns, hosts, kind)?;
                issue(context, &name, kind, &holder, days, &dir, force)
            }
            Verb::Revoke { files, reason, days, dir } => {
                revocation::revoke(context, &dir, &files, reason, days)
            }
            Verb::Renew { name, within, days, dir } => renew::renew(context, &dir, &name, within, days),
            Verb::Expiry { files, within } => expiry::expiry(context, files, within.into()),
            Verb::Inspect { file, kind } => {
                let kind = if kind == Names::Uri { IdentityKind::Uri } else { IdentityKind::Dns };
                inspect::inspect(context, &file, kind)
            }
        }
    }
}

fn init(context: &Context, dir: &Path, hosts: &[String], force: bool) -> Done {
    let authority = Authority::generate()?;
    let server = authority.issue(&Holder::Server(hosts.to_vec()), 365)?;
    let files = [("ca", &authority.pair()?), ("server", &server)];
    for (name, _) in files {
        refuse_overwrite(dir, name, force)?;
    }
    for (name, pair) in files {
        pair.write(dir, name)?;
    }
    let data = json!({ "ca": dir.join("ca.pem"), "certificate": dir.join("server.pem"), "key": dir.join("server.key") });
    let text = format!(
        "made a CA and a server certificate for {} in {}\nThis CA is for development: its key lies in ca.key. In \
         production use your own PKI; docs/certificates.md says what it has to issue.",
        hosts.join(", "),
        dir.display()
    );
    context.print(&data, text)?;
    Ok(Success::Done)
}

fn holder(
    name: &str,
    identity: Option<String>,
    dns: Option<String>,
    hosts: Vec<String>,
    kind: Kind,
) -> anyhow::Result<Holder> {
    match (kind, identity, dns) {
        (Kind::Server, None, None) if !hosts.is_empty() => Ok(Holder::Server(hosts)),
        (Kind::Server, ..) => Err(Failure::new("a server's certificate is for hosts")
            .with_hint("--host localhost --host 127.0.0.1")
            .into()),
        (_, _, _) if !hosts.is_empty() => {
            Err(Failure::new("hosts are for a server").with_hint("--kind server").into())
        }
        (_, Some(uri), _) => Ok(Holder::Uri(uri)),
        (_, None, Some(dns)) => Ok(Holder::Dns(dns)),
        (_, None, None) => Ok(Holder::Uri(format!("spiffe://chancery/{name}"))),
    }
}

fn issue(
    context: &Context,
    name: &str,
    kind: Kind,
    holder: &Holder,
    days: u32,
    dir: &Path,
    force: bool,
) -> Done {
    refuse_overwrite(dir, name, force)?;
    let authority = Authority::load(dir)?;
    authority.issue(holder, days)?.write(dir, name)?;
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let data = json!({ "certificate": certificate, "key": key, "ca": dir.join("ca.pem"), "days": days });
    let text = format!(
        "wrote {} and {}, valid for {days} days{}",
        certificate.display(),
        key.display(),
        next(name, kind, holder, dir)
    );
    context.print(&data, text)?;
    Ok(Success::Done)
}

/// What is done with it.
fn next(name: &str, kind: Kind, holder: &Holder, dir: &Path) -> String {
    let (Holder::Uri(identity) | Holder::Dns(identity)) = holder else {
        return String::new();
    };
    let dir = dir.display();
    match kind {
        Kind::Client => format!("\n\n[[client]]\nname     = \"{name}\"\nidentity = \"{identity}\""),
        Kind::Connector => format!(
            "\n\n[[client]]\nname     = \"{name}\"\nidentity = \"{identity}\"\n\nchancery connect https://GATEWAY:8545 \
             --cert {dir}/{name}.pem --key {dir}/{name}.key --ca {dir}/ca.pem"
        ),
        Kind::Admin => format!(
            "\n\n[[operator]]\nname     = \"{name}\"\nidentity = \"{identity}\"\nrole     = \"admin\"\nperson   = \
             \"…\"\n\nexport CHANCERY_ADMIN_CERT={dir}/{name}.pem"
        ),
        Kind::Server => String::new(),
    }
}

fn refuse_overwrite(dir: &Path, name: &str, force: bool) -> anyhow::Result<()> {
    for end in ["pem", "key"] {
        let file = dir.join(format!("{name}.{end}"));
        if file.exists() && !force {
            let failure = Failure::new(format_args!("{} is there already", file.display()));
            return Err(failure.with_hint("--force writes over it").into());
        }
    }
    std::fs::create_dir_all(dir).hint(dir.display(), "can the folder be written?")
}
