//! A throwaway certificate authority, which also makes the odd certificates that no real one should.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// A certificate of a client in the making: a good one, until it is told otherwise.
pub struct Leaf<'a> {
    authority: &'a Authority,
    params: CertificateParams,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Throwaway CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What the gateway shows: valid for `localhost` and `127.0.0.1`.
    pub fn server(&self) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Leaf { authority: self, params }.issue()
    }

    /// A client's certificate, named `spiffe://chancery/NAME`.
    pub fn client(&self, name: &str) -> Identity {
        self.leaf(name).issue()
    }

    /// A revocation list of these serial numbers, in force for an hour, as PEM.
    pub fn crl(&self, number: u64, serials: &[u64]) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let at = |seconds| date_time_ymd(1970, 1, 1) + now + Duration::from_secs(seconds);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: at(0),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at(0),
            next_update: at(3600),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A client's certificate that can still be spoilt.
    pub fn leaf(&self, name: &str) -> Leaf<'_> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Leaf { authority: self, params }
    }
}

impl Leaf<'_> {
    pub fn issue(self) -> Identity {
        self.issue_for(&KeyPair::generate().unwrap())
    }

    /// For a key of any kind.
    pub fn issue_for(self, key: &KeyPair) -> Identity {
        let certificate = self.params.signed_by(key, &self.authority.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub fn expired(mut self) -> Self {
        self.params.not_before = date_time_ymd(2020, 1, 1);
        self.params.not_after = date_time_ymd(2021, 1, 1);
        self
    }

    pub fn of_the_future(mut self) -> Self {
        self.params.not_before = date_time_ymd(2999, 1, 1);
        self
    }

    /// With this number, so that it can be revoked.
    pub fn serial(mut self, number: u64) -> Self {
        self.params.serial_number = Some(number.into());
        self
    }

    /// With these purposes and no other.
    pub fn purposes(mut self, purposes: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = purposes.to_vec();
        self
    }

    /// With one URI name more.
    pub fn also(mut self, name: &str) -> Self {
        self.params.subject_alt_names.push(uri(name));
        self
    }

    /// With these alternative names and no other.
    pub fn names(mut self, names: Vec<SanType>) -> Self {
        self.params.subject_alt_names = names;
        self
    }

    /// One that may sign certificates itself.
    pub fn authority(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        self
    }
}

impl Identity {
    /// The certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap().to_vec()
    }

    /// Writes both as `NAME.pem` and `NAME.key`, the key for its owner only.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.join(format!("{name}.pem"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate).unwrap();
        write_private(&key, &self.key);
        (certificate, key)
    }
}

/// TLS of one version towards servers of `authority`, as `identity` or as nobody.
pub fn tls(
    authority: &Authority,
    identity: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => config.with_no_client_auth(),
        Some(identity) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

/// Writes a file that only its owner can read.
pub fn write_private(file: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn uri(name: &str) -> SanType {
    SanType::URI(format!("spiffe://chancery/{name}").try_into().unwrap())
}
