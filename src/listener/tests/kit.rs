//! A CA, a listener that trusts it, and clients of both.

use std::path::Path;

use bytes::Bytes;
use hyper::service::service_fn;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::Body;
use crate::config::{
    Client, IdentityKind, Issuer as Trusted, OWN_ISSUER, Operator, OperatorRole, Revocation,
};
use crate::identity::Directory;
use crate::listener::*;

/// A CA, and a gateway that trusts it.
pub struct Door {
    pub folder: tempfile::TempDir,
    pub ca: Issuer<'static, KeyPair>,
    pub ca_pem: String,
    pub sources: Sources,
    pub balancers: Vec<Network>,
}

pub fn authority() -> (Issuer<'static, KeyPair>, String) {
    authority_named("Throwaway CA")
}

pub fn authority_named(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// What `certs issue` makes for the trader; each test changes what it is about.
pub fn trader() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![uri("spiffe://desk/trader")];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(7_u64.into());
    params
}

/// A list with these serial numbers, in force from its `issued` second for `valid` seconds.
#[expect(clippy::arithmetic_side_effects, reason = "times of these years fit")]
pub fn crl(number: u64, serials: &[u64], issued: u64, valid: u64) -> rcgen::CertificateRevocationListParams {
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let revoked = |serial: &u64| rcgen::RevokedCertParams {
        serial_number: (*serial).into(),
        revocation_time: at(issued),
        reason_code: Some(rcgen::RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    rcgen::CertificateRevocationListParams {
        this_update: at(issued),
        next_update: at(issued + valid),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    }
}

/// A client of the configuration: `spiffe://desk/NAME`.
pub fn client(name: &str, issuer: &str) -> Client {
    Client {
        name: name.to_owned(),
        identity: format!("spiffe://desk/{name}"),
        issuer: issuer.to_owned(),
        role: None,
        person: None,
        accounts: Vec::new(),
        origins: Vec::new(),
        repeat_window: None,
    }
}

pub fn operator() -> Operator {
    Operator {
        name: "ops".to_owned(),
        identity: "spiffe://desk/ops".to_owned(),
        issuer: OWN_ISSUER.to_owned(),
        role: OperatorRole::Admin,
        person: "Ada".to_owned(),
    }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.to_owned().try_into().unwrap())
}

pub fn file(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name)
}

impl Door {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ca, ca_pem) = authority();
        let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = server.signed_by(&key, &ca).unwrap().pem();
        let issuer = Trusted {
            name: OWN_ISSUER.to_owned(),
            client_ca: file(folder.path(), "ca.pem", &ca_pem),
            identity: IdentityKind::Uri,
            crls: Vec::new(),
            revocation: Revocation::Unchecked,
        };
        let sources = Sources {
            certificate: file(folder.path(), "server.pem", &certificate),
            key: file(folder.path(), "server.key", &key.serialize_pem()),
            issuers: vec![issuer],
            people: Directory::of(vec![client("trader", OWN_ISSUER)], vec![operator()]),
            config: None,
        };
        Self { folder, ca, ca_pem, sources, balancers: Vec::new() }
    }

    /// Revocation is looked at, by what [`Door::publish`] writes.
    #[must_use]
    pub fn with_crls(mut self, mode: Revocation) -> Self {
        self.sources.issuers[0].crls = vec![self.folder.path().join("ca.crl")];
        self.sources.issuers[0].revocation = mode;
        self
    }

    /// Exchanges the list of this CA, all at once.
    pub fn publish(&self, list: &rcgen::CertificateRevocationListParams) {
        self.publish_bytes(list.signed_by(&self.ca).unwrap().pem().unwrap().as_bytes());
    }

    pub fn publish_bytes(&self, bytes: &[u8]) {
        let (new, file) = (self.folder.path().join("ca.crl.new"), self.folder.path().join("ca.crl"));
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// The trader's certificate, number 7.
    pub fn trader(&self) -> ClientConfig {
        self.client(Some(self.issue(&trader())))
    }

    pub fn trust(&self, clock: Clock) -> Trust {
        Trust::load(self.sources.clone(), clock).unwrap()
    }

    pub fn open(&self, entrance: Entrance, limits: &Limits, clock: Clock) -> Open {
        self.open_with(self.trust(clock.clone()), entrance, limits, clock)
    }

    pub fn open_with(&self, trust: Trust, entrance: Entrance, limits: &Limits, clock: Clock) -> Open {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener =
            Listener::bind(address, &mut Inherited::default(), trust.door(entrance), limits, clock)
                .unwrap()
                .behind(&self.balancers)
                .on(Arc::new(Threads::start().unwrap()));
        let (address, stop) = (listener.local_addr(), CancellationToken::new());
        let visitors = listener.visitors();
        let answer = |connection: &Connection| {
            let name = connection.identity.clone();
            service_fn(move |request: Request<Incoming>| {
                let name = name.clone();
                async move {
                    if request.uri().path() == "/slow" {
                        tokio::time::sleep(Duration::from_millis(600)).await;
                    }
                    Ok::<_, Infallible>(Response::new(Body::from(Bytes::from(name))))
                }
            })
        };
        let ended =
            tokio::spawn(listener.run(answer, Duration::from_secs(2), stop.clone().cancelled_owned()));
        Open { address, stop, ended, visitors }
    }

    pub fn issue(
        &self,
        params: &CertificateParams,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        issue_by(&self.ca, params)
    }

    pub fn client(
        &self,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> ClientConfig {
        self.client_of(identity, &[&rustls::version::TLS13])
    }

    pub fn client_of(
        &self,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_root_certificates(roots);
        match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        }
    }
}

pub fn issue_by(
    ca: &Issuer<'static, KeyPair>,
    params: &CertificateParams,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

pub struct Open {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub ended: tokio::task::JoinHandle<()>,
    pub visitors: Visitors,
}

impl Open {
    pub async fn connect(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(self.address).await?, config).await
    }

    pub async fn over(
        &self,
        stream: TcpStream,
        config: ClientConfig,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// One request over HTTP/1.1: the answer's last line, or the alert.
    pub async fn ask(&self, config: ClientConfig) -> Result<String, String> {
        let mut stream = self.connect(config).await.map_err(|e| e.to_string())?;
        ask(&mut stream, "/").await
    }
}

pub async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> Result<String, String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}
