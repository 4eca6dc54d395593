//! Who we are and who the gateway is: what was written about the certificate, its key and the authority, into TLS settings.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::cmd::connect::card::Card;
use crate::cmd::connect::container;
use crate::cmd::connect::password::Password;
use crate::cmd::connect::pkcs11_uri::Uri;
use crate::cmd::{Context, Failure, HintExt as _};

/// Where the certificate, its key and the authority are, as it was written: by options, variables or in a profile.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Given {
    /// The client certificate: a PEM file, a PKCS#12 file, or the `pkcs11:` URI of one in a token
    #[arg(long, value_name = "FILE|URI", env = "CHANCERY_CERT")]
    pub cert: Option<PathBuf>,
    /// The private key of a certificate in PEM (PEM); nobody else may be able to read it
    #[arg(long, value_name = "FILE", env = "CHANCERY_KEY")]
    pub key: Option<PathBuf>,
    /// Holds the password of the PKCS#12 file or the PIN of the token [default: asked at the terminal]
    #[arg(long, value_name = "FILE", env = "CHANCERY_PASSWORD_FILE")]
    pub password_file: Option<PathBuf>,
    /// The authority that issued the gateway's certificate (PEM)
    #[arg(long, value_name = "FILE", env = "CHANCERY_CA")]
    pub ca: Option<PathBuf>,
    #[arg(long, env = "CREDENTIALS_DIRECTORY", hide = true)]
    pub credentials_directory: Option<PathBuf>,
}

/// What proves who we are, and whom we believe to be the gateway.
#[derive(Clone, Debug)]
pub struct Credentials {
    ours: Ours,
    ca: PathBuf,
}

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
enum Ours {
    Files { cert: PathBuf, key: PathBuf },
    Container { file: PathBuf, password: Password },
    Token { uri: Arc<Uri>, pin: Password, card: Card },
}

/// Where they are, in full: for programs that start elsewhere.
#[derive(Debug, Serialize)]
pub struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// What the next connection presents.
#[derive(Clone, Debug)]
pub struct Presented {
    pub tls: ClientConfig,
    pub certificate: Shown,
}

/// A certificate as people know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    pub subject: String,
    pub source: String,
    pub not_after: String,
}

/// A name of systemd's instead of a path: `credential:NAME`.
const CREDENTIAL: &str = "credential:";

impl Given {
    /// What is missing here is taken from there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // A certificate comes with its own key and password.
        let (cert, key, password_file) = match self.cert {
            Some(cert) => (Some(cert), self.key, self.password_file),
            None => (other.cert, self.key.or(other.key), self.password_file.or(other.password_file)),
        };
        let credentials_directory = self.credentials_directory.or(other.credentials_directory);
        Self { cert, key, password_file, ca: self.ca.or(other.ca), credentials_directory }
    }

    /// `latches` is where it is kept which PIN of a token was refused.
    pub fn settle(self, latches: impl FnOnce() -> Result<PathBuf>) -> Result<Credentials> {
        let missing = |what: &str, hint: &str| Failure::new(what).with_hint(hint);
        let cert = self.cert.clone().ok_or_else(|| {
            missing(
                "there is no client certificate",
                "give one with --cert and --key, by CHANCERY_CERT and CHANCERY_KEY, or in a profile",
            )
        })?;
        let ca = self.ca.clone().ok_or_else(|| {
            missing(
                "there is no authority to know the gateway by",
                "give the one that issued its certificate with --ca, by CHANCERY_CA, or in a profile",
            )
        })?;
        let password = Password::of(self.password_file.clone().map(|file| self.place(file)).transpose()?);
        let uri = cert.to_str().filter(|text| text.starts_with("pkcs11:"));
        let ours = match (uri, self.key.clone()) {
            (Some(_), Some(_)) => {
                let what = "the key of a certificate in a token is in the token";
                return Err(Failure::new(what).with_hint("leave --key and CHANCERY_KEY out").into());
            }
            (Some(uri), None) => {
                let uri = Uri::parse(uri).hint(
                    "--cert",
                    "for example: pkcs11:token=YubiKey%20PIV;id=%01?module-path=/usr/lib/x86_64-linux-gnu/libykcs11.so",
                )?;
                Ours::Token { uri: Arc::new(uri), pin: password, card: Card::new(latches()?) }
            }
            (None, Some(key)) => Ours::Files { cert: self.place(cert)?, key: self.place(key)? },
            (None, None) => Ours::Container { file: self.place(cert)?, password },
        };
        Ok(Credentials { ours, ca: self.place(ca)? })
    }

    fn place(&self, path: PathBuf) -> Result<PathBuf> {
        let Some(name) = path.to_str().and_then(|text| text.strip_prefix(CREDENTIAL)) else {
            return Ok(path);
        };
        if name.is_empty() || name.contains('/') || name == ".." {
            let what = format!("{CREDENTIAL}{name}: the name of a credential is not empty, and has no `/`");
            return Err(Failure::new(what).with_hint("give the name that stands in LoadCredential=").into());
        }
        let folder = self.credentials_directory.as_ref().ok_or_else(|| {
            Failure::new(format_args!("{CREDENTIAL}{name}: $CREDENTIALS_DIRECTORY is not set"))
                .with_hint("start it by systemd, with LoadCredential= in the unit")
        })?;
        Ok(folder.join(name))
    }
}

impl Credentials {
    /// Of PEM files.
    pub const fn new(cert: PathBuf, key: PathBuf, ca: PathBuf) -> Self {
        Self { ours: Ours::Files { cert, key }, ca }
    }

    /// For programs that read PEM files themselves.
    pub fn files(&self) -> Result<Files> {
        let Ours::Files { cert, key } = &self.ours else {
            let what = format!("other programs take a certificate in PEM files, not {}", self.ours);
            return Err(Failure::new(what).with_hint("run the connector itself, with --http").into());
        };
        let [ca, cert, key] = [&self.ca, cert, key].map(std::path::absolute);
        Ok(Files { ca: ca?, cert: cert?, key: key? })
    }

    /// The files that may be written anew.
    pub fn paths(&self) -> Vec<&Path> {
        match &self.ours {
            Ours::Files { cert, key } => vec![&self.ca, cert, key],
            Ours::Container { file, password } => {
                [Some(self.ca.as_path()), Some(file), password.file()].into_iter().flatten().collect()
            }
            Ours::Token { .. } => vec![&self.ca],
        }
    }

    /// Lets go of a token.
    pub fn close(&self) {
        if let Ours::Token { card, .. } = &self.ours {
            card.close();
        }
    }

    /// TLS 1.3 as this client, towards servers of this authority only, for HTTP/2 only. May ask for a password, and
    /// wait for a token.
    pub fn present(&self, context: &Context, clock: &Clock) -> Result<Presented> {
        let mut roots = RootCertStore::empty();
        // Who can write to it can put himself in the gateway's place, and answer for the chain. Everybody may read it.
        not_of_others(&self.ca, "authority")?;
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).hint(self.ca.display(), "give the authority's certificate in PEM")?;
        }
        let ours = self.ours.read(context)?;
        let certificate = shown(&self.ours, ours.cert.first(), context, clock)?;
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(ours)));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        // The gateway gives no tickets: each connection proves itself anew.
        tls.resumption = Resumption::disabled();
        Ok(Presented { tls, certificate })
    }
}

impl Ours {
    fn read(&self, context: &Context) -> Result<CertifiedKey> {
        match self {
            Self::Files { cert, key } => {
                let chain = certificates(cert)?;
                check_mode(key, "key", context)?;
                let der = PrivateKeyDer::from_pem_file(key)
                    .hint(key.display(), "give an unencrypted private key in PEM (PKCS#8, PKCS#1 or SEC1)")?;
                certified(chain, der)
                    .hint(cert.display(), format_args!("is {} the key of this certificate?", key.display()))
            }
            Self::Container { file, password } => {
                let hint = "give a PKCS#12 file, or a certificate in PEM with its --key";
                let bytes = fs::read(file).hint(file.display(), hint)?;
                if bytes.starts_with(b"-----BEGIN") {
                    let what = format!("{}: a certificate in PEM needs its key", file.display());
                    return Err(Failure::new(what).with_hint("give it with --key, or CHANCERY_KEY").into());
                }
                check_mode(file, "key", context)?;
                password.file().map_or(Ok(()), |file| check_mode(file, "password", context))?;
                let (chain, der) = container::open(&bytes, password, file)?;
                certified(chain, der).hint(file.display(), "the key in it is not its certificate's")
            }
            Self::Token { uri, pin, card } => {
                pin.file().map_or(Ok(()), |file| check_mode(file, "PIN", context))?;
                card.certified(uri, pin)
            }
        }
    }
}

impl fmt::Display for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { cert: file, .. } | Self::Container { file, .. } => file.display().fmt(f),
            Self::Token { uri, .. } => uri.fmt(f),
        }
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let hint = "give one or more certificates in PEM";
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).hint(file.display(), hint)?.collect();
    let read = read.hint(file.display(), hint)?;
    if read.is_empty() {
        return Err(Failure::new(format_args!("{}: there is no certificate in it", file.display()))
            .with_hint(hint)
            .into());
    }
    Ok(read)
}

/// What a certificate says of itself. One that has expired is refused by the gateway in fewer words.
fn shown(
    source: &Ours,
    leaf: Option<&CertificateDer<'_>>,
    context: &Context,
    clock: &Clock,
) -> Result<Shown> {
    let leaf = leaf.map(AsRef::as_ref).unwrap_or_default();
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf)
        .hint(source, "give the client certificate, the leaf first")?;
    let now = i64::try_from(clock.now().seconds()).unwrap_or(i64::MAX);
    let validity = leaf.validity();
    let (from, to) = (validity.not_before, validity.not_after);
    if now > to.timestamp() {
        return Err(Failure::new(format_args!("{source}: expired on {to}"))
            .with_hint("have a new certificate issued (`chancery certs issue`)")
            .into());
    }
    if now < from.timestamp() {
        return Err(Failure::new(format_args!("{source}: not valid before {from}"))
            .with_hint("is this machine's clock right?")
            .into());
    }
    if ends_soon((from.timestamp(), to.timestamp()), now) {
        context.say(format_args!("warning: {source} expires on {to}"));
    }
    Ok(Shown { subject: leaf.subject().to_string(), source: source.to_string(), not_after: to.to_string() })
}

/// Within three days, and the last quarter of its life: one that was made for a quarter of an hour always ends soon.
const fn ends_soon((from, to): (i64, i64), now: i64) -> bool {
    let left = to.saturating_sub(now);
    left < 3 * 86_400 && left < to.saturating_sub(from) / 4
}

/// What nobody else may write to, and better not read.
fn check_mode(file: &Path, what: &str, context: &Context) -> Result<()> {
    let mode = not_of_others(file, what)?;
    if mode & 0o044 != 0 {
        let file = file.display();
        context.say(format_args!("warning: others can read {file} (mode {mode:03o}); chmod 600 {file}"));
    }
    Ok(())
}

/// The mode of what nobody else may write to.
fn not_of_others(file: &Path, what: &str) -> Result<u32> {
    let found = fs::metadata(file).hint(file.display(), format_args!("give the file of the {what}"))?;
    let mode = found.permissions().mode() & 0o777;
    // A terminal or a pipe is whoever's who hands it over.
    if found.is_file() && mode & 0o022 != 0 {
        let what = format!("{}: others can replace this {what} (mode {mode:03o})", file.display());
        return Err(Failure::new(what).with_hint(format_args!("chmod go-w {}", file.display())).into());
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(cert: &str, key: Option<&str>) -> Given {
        Given {
            cert: Some(cert.into()),
            key: key.map(Into::into),
            ca: Some("ca.pem".into()),
            ..Given::default()
        }
    }

    #[test]
    fn what_is_written_says_where_the_key_is() {
        let settle = |given: Given| given.settle(|| Ok("/run/x".into()));
        let ours = |given: Given| settle(given).unwrap().ours;
        assert!(matches!(ours(given("a.pem", Some("a.key"))), Ours::Files { .. }));
        assert!(matches!(ours(given("a.p12", None)), Ours::Container { .. }));
        assert!(matches!(ours(given("pkcs11:token=a?module-path=/m.so", None)), Ours::Token { .. }));
        let refused = settle(given("pkcs11:token=a?module-path=/m.so", Some("a.key"))).unwrap_err();
        assert!(refused.to_string().contains("is in the token"), "{refused}");
        for (given, what) in [
            (Given { cert: None, ..given("x", None) }, "no client certificate"),
            (Given { ca: None, ..given("x", None) }, "no authority"),
        ] {
            let refused = settle(given).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_one_whose_renewal_is_late() {
        const DAY: i64 = 86_400;
        for (life, left, soon) in [
            (90 * DAY, 3 * DAY, false),
            (90 * DAY, 3 * DAY - 1, true),
            (DAY, DAY / 2, false),
            (900, 225, false),
            (900, 224, true),
        ] {
            assert_eq!(ends_soon((0, life), life - left), soon, "{left} of {life} s");
        }
    }

    #[test]
    fn a_file_that_others_can_write_to_is_refused_and_what_is_no_file_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o620)).unwrap();
        let refused = not_of_others(file.path(), "PIN").unwrap_err().to_string();
        assert!(refused.ends_with("others can replace this PIN (mode 620)"), "{refused}");
        not_of_others(Path::new("/dev/null"), "PIN").unwrap();
    }

    #[test]
    fn a_credential_of_systemd_is_a_file_in_its_folder_and_nowhere_else() {
        let of = |cert: &str, folder: Option<&str>| {
            let given = Given { credentials_directory: folder.map(Into::into), ..given(cert, Some("a.key")) };
            let settled = given.settle(|| Ok(PathBuf::new()));
            settled.map(|settled| settled.paths()[1].to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(of("credential:desk", Some("/run/c")), Ok("/run/c/desk".into()));
        assert!(of("credential:desk", None).unwrap_err().contains("CREDENTIALS_DIRECTORY"));
        for name in ["", "../key", "..", "a/b"] {
            let refused = of(&format!("credential:{name}"), Some("/run/c"));
            assert!(refused.unwrap_err().contains("name of a credential"), "{name}");
        }
    }

    #[test]
    fn a_certificate_that_is_given_does_not_get_a_profiles_key() {
        let profile = Given { password_file: Some("pin".into()), ..given("desk.pem", Some("desk.key")) };
        let merged = given("other.p12", None).or(profile.clone());
        assert_eq!((merged.cert, merged.key, merged.password_file), (Some("other.p12".into()), None, None));
        let merged = Given::default().or(profile);
        assert_eq!((merged.key, merged.ca), (Some("desk.key".into()), Some("ca.pem".into())));
    }
}
