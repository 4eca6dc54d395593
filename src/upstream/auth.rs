//! How a node knows us: what stands in its URL, headers, a JWT, a client certificate. None of it is ever shown.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::hex;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config;
use crate::upstream::UpstreamError;

/// What goes with every request to one node.
pub(super) struct Credentials {
    /// Without user part and fragment.
    pub uri: Uri,
    headers: HeaderMap,
    /// The same as it goes over the wire.
    written: Zeroizing<Vec<u8>>,
    jwt: Option<Jwt>,
}

/// Claims of the moment, under a key that node and gateway share (HS256, RFC 7519; the claim that geth's
/// authenticated port asks for is `iat`, within a minute of its clock).
struct Jwt {
    key: Zeroizing<Vec<u8>>,
    clock: Clock,
}

impl Credentials {
    pub(super) fn new(
        url: &crate::secret::SecretUrl,
        auth: &config::NodeAuth,
        clock: Clock,
    ) -> Result<Self, UpstreamError> {
        let not_a_url = || UpstreamError::Unreachable(format!("{url} is not a URL"));
        let whole: Uri = url.expose().parse().map_err(|_| not_a_url())?;
        let (uri, basic) = without_credentials(&whole).ok_or_else(not_a_url)?;
        let mut headers = HeaderMap::new();
        let host = uri.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
        headers.insert(HOST, host.ok_or_else(not_a_url)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(basic) = basic {
            headers.insert(AUTHORIZATION, basic);
        }
        for (name, value) in &auth.headers {
            let unusable = || UpstreamError::Unreachable("a header of its configuration is none".to_owned());
            let name = HeaderName::try_from(name).map_err(|_| unusable())?;
            let mut value = HeaderValue::try_from(value.expose_secret()).map_err(|_| unusable())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let jwt = auth.jwt.as_ref().map(|key| {
            let key = hex::decode(key.expose_secret()).unwrap_or_default();
            Jwt { key: Zeroizing::new(key), clock }
        });
        let mut written = Zeroizing::new(Vec::new());
        headers.iter().for_each(|(name, value)| write(&mut written, name, value));
        Ok(Self { uri, headers, written, jwt })
    }

    /// The headers of a request that is sent now.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(value) = self.jwt.as_ref().and_then(Jwt::bearer) {
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }

    /// The same as it goes over the wire.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.written);
        if let Some(value) = self.jwt.as_ref().and_then(Jwt::bearer) {
            write(into, &AUTHORIZATION, &value);
        }
    }
}

fn write(into: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        into.extend_from_slice(part);
    }
}

impl Jwt {
    fn bearer(&self) -> Option<HeaderValue> {
        let now = self.clock.now().millis() / 1000;
        let [header, claims] = [r#"{"alg":"HS256","typ":"JWT"}"#.to_owned(), format!(r#"{{"iat":{now}}}"#)];
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let mut value = HeaderValue::try_from(format!("Bearer {signed}.{signature}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Whom the node must prove to be, and who we prove to be; of no use for a node in the clear, which needs no
/// authorities: a small image may have none.
pub(super) fn tls(auth: &config::NodeAuth, is_encrypted: bool) -> Result<ClientConfig, UpstreamError> {
    let unusable = |what: &str, file: &Path, why: &dyn std::fmt::Display| {
        UpstreamError::Unreachable(format!("its {what} {} cannot be used: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    match &auth.ca {
        Some(file) => {
            for certificate in certificates(file).map_err(|e| unusable("CA file", file, &e))? {
                roots.add(certificate).map_err(|e| unusable("CA file", file, &e))?;
            }
        }
        None if is_encrypted => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = "the system has no CA certificates that could be read; say `ca`";
                return Err(UpstreamError::Unreachable(why.to_owned()));
            }
        }
        None => {}
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| UpstreamError::Unreachable(e.to_string()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &auth.certificate else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(certificate).map_err(|e| unusable("client certificate", certificate, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable("client key", key, &e))?;
    config.with_client_auth_cert(chain, private).map_err(|e| unusable("client certificate", certificate, &e))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let open = File::open(file).map_err(rustls::pki_types::pem::Error::Io)?;
    CertificateDer::pem_reader_iter(BufReader::new(open)).collect()
}

/// Takes `user:password@` out of a URL, for the header that stands for it.
fn without_credentials(whole: &Uri) -> Option<(Uri, Option<HeaderValue>)> {
    let authority = whole.authority()?.as_str();
    let Some((credentials, host)) = authority.rsplit_once('@') else { return Some((whole.clone(), None)) };
    // A URL writes an `@` in a password as %40; the header wants it as it is.
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let credentials =
        [user, password].map(|part| Zeroizing::new(percent_decode_str(part).collect::<Vec<u8>>()));
    let credentials = Zeroizing::new(credentials.each_ref().map(|part| part.as_slice()).join(&b':'));
    let header = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*credentials)));
    let mut header = HeaderValue::try_from(header.as_str()).ok()?;
    header.set_sensitive(true);
    let mut parts = whole.clone().into_parts();
    parts.authority = Some(host.parse().ok()?);
    Some((Uri::from_parts(parts).ok()?, Some(header)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::clock::Timestamp;
    use crate::secret::SecretUrl;
    use crate::upstream::tests::{chain_of, still};
    use crate::upstream::{Answer, Upstream};

    /// A node behind TLS that lets in whom this authority has signed, and answers 1 to everything.
    async fn strict_node(folder: &Path) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.join("ca.pem"), &pem).unwrap();
        let ca = Issuer::new(params, key);
        for name in ["localhost", "gateway"] {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
            std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                certificates(&folder.join("localhost.pem")).unwrap(),
                PrivateKeyDer::from_pem_file(folder.join("localhost.key")).unwrap(),
            )
            .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(|request: Request<Incoming>| async move {
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let call: Value = serde_json::from_slice(&body).unwrap();
                        let answer =
                            json!({ "jsonrpc": "2.0", "id": call["id"], "result": "0x1" }).to_string();
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), answer).await);
                });
            }
        });
        format!("https://localhost:{port}")
    }

    #[tokio::test]
    async fn a_node_is_known_by_its_authority_and_knows_us_by_our_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let url = strict_node(folder.path()).await;
        let at = |name: &str| folder.path().join(name);
        let ours = Some((at("gateway.pem"), at("gateway.key")));
        for (ca, certificate, is_let_in) in
            [(Some(at("ca.pem")), ours.clone(), true), (Some(at("ca.pem")), None, false), (None, ours, false)]
        {
            let mut chain = chain_of(&[("strict", &url)]);
            chain.nodes[0].auth =
                config::NodeAuth { ca: ca.clone(), certificate, ..config::NodeAuth::default() };
            // An image without authorities has none to believe either.
            let answer = match Upstream::new(&chain, &still()) {
                Ok(upstream) => upstream.forward(None, "eth_blockNumber", None).await,
                Err(error) => Err(error),
            };
            assert_eq!(matches!(answer, Ok(Answer::Result(_))), is_let_in, "{ca:?}: {answer:?}");
        }
    }

    #[test]
    fn credentials_go_into_a_header_and_out_of_the_url() {
        let (uri, header) = without_credentials(&"http://ada:pa%20ss@node:8545/v3".parse().unwrap()).unwrap();
        assert_eq!(uri, "http://node:8545/v3");
        assert_eq!(header.unwrap(), format!("Basic {}", STANDARD.encode("ada:pa ss")).as_str());
        let (uri, header) = without_credentials(&"http://ada%3A:p%40%3a@node".parse().unwrap()).unwrap();
        assert_eq!((uri.host(), header.unwrap()), (Some("node"), "Basic YWRhOjpwQDo=".parse().unwrap()));
        let (_, header) = without_credentials(&"http://key@node/".parse().unwrap()).unwrap();
        assert_eq!(header.unwrap(), format!("Basic {}", STANDARD.encode("key:")).as_str());
        assert_eq!(without_credentials(&"http://node/".parse().unwrap()).unwrap().1, None);
    }

    /// The signature is what `openssl dgst -sha256 -mac HMAC` makes of the same text and key.
    #[test]
    fn a_jwt_is_of_its_moment() {
        let clock = Clock::set_to(Timestamp::from_millis(1_700_000_000_999));
        let auth = config::NodeAuth { jwt: Some("0b".repeat(32).into()), ..config::NodeAuth::default() };
        let node = SecretUrl::parse("http://node:8551").unwrap();
        let credentials = Credentials::new(&node, &auth, clock.clone()).unwrap();
        let value = credentials.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
        let parts: Vec<&str> = value.strip_prefix("Bearer ").unwrap().split('.').collect();
        let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(text(parts[0]), r#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(text(parts[1]), r#"{"iat":1700000000}"#);
        assert_eq!(parts[2], "E_xavHVPgahvjgeASTu42Rwe9wBa4Ky-1GWsRWkCsK8");
        clock.advance(Duration::from_secs(1));
        assert_ne!(credentials.headers()[AUTHORIZATION], value.as_str());
    }
}
