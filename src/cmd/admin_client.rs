//! How verbs reach the admin listener of a running gateway: where it is, as whom, one request and its answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::cmd::connect::{Credentials, Sender, Target, Trouble, open};
use crate::cmd::{Context, Failure, HintExt as _};
use crate::config::{Admin, Config};

/// Where the admin listener is, and who asks. What is not given is read from the configuration.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Admin listener")]
pub struct AdminArgs {
    /// The admin listener, such as `https://gateway:9545` [default: the configuration's]
    #[arg(long, value_name = "URL", env = "CHANCERY_ADMIN")]
    admin: Option<String>,
    /// The operator's certificate (PEM)
    #[arg(long, value_name = "FILE", env = "CHANCERY_ADMIN_CERT")]
    cert: Option<PathBuf>,
    /// The certificate's private key (PEM) [default: the certificate's file with the ending .key]
    #[arg(long, value_name = "FILE", env = "CHANCERY_ADMIN_KEY")]
    key: Option<PathBuf>,
    /// The authority that issued the gateway's certificate (PEM) [default: the configuration's `client_ca`]
    #[arg(long, value_name = "FILE", env = "CHANCERY_ADMIN_CA")]
    ca: Option<PathBuf>,
}

/// A connection to the admin listener.
#[derive(Debug)]
pub struct AdminClient {
    target: Target,
    sender: Sender,
}

/// The body of an answer that is no success.
#[derive(Deserialize)]
struct Refused {
    error: String,
    hint: Option<String>,
}

/// The ledger answers within 10 s, or says that it cannot.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

const MAX_ANSWER: usize = 16 * 1024 * 1024;

impl AdminArgs {
    /// Whether anybody is named who could ask.
    pub const fn has_certificate(&self) -> bool {
        self.cert.is_some()
    }

    /// Connects, as the operator that the certificate names.
    pub async fn connect(&self, context: &Context) -> anyhow::Result<AdminClient> {
        let config = match (&self.admin, &self.ca) {
            (Some(_), Some(_)) => None,
            _ => Some(Config::load(context.config()).hint(
                "the configuration says where the admin listener is",
                "give it with --config, or say --admin URL and --ca FILE",
            )?),
        };
        let url = match (&self.admin, &config) {
            (Some(url), _) => url.clone(),
            (None, Some(config)) => url_of(config)?,
            (None, None) => String::new(),
        };
        let target =
            Target::parse(&url, None).hint("--admin", "for example: --admin https://gateway:9545")?;
        let Some(cert) = self.cert.clone() else {
            return Err(Failure::new("the admin listener wants an operator's certificate")
                .with_hint(who(config.as_ref()))
                .into());
        };
        let key = self.key.clone().unwrap_or_else(|| cert.with_extension("key"));
        let ca = match (&self.ca, &config) {
            (Some(ca), _) => ca.clone(),
            (None, config) => config
                .as_ref()
                .and_then(|config| config.gateway.issuers.first())
                .map(|own| own.client_ca.clone())
                .unwrap_or_default(),
        };
        let tls = Credentials::new(cert, key, ca).present(context, &Clock::system())?.tls;
        let sender = open(&target, tls.into()).await.map_err(|trouble| failure(&trouble))?;
        Ok(AdminClient { target, sender })
    }
}

impl AdminClient {
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let mut request = self.target.post(Full::new(body));
        let mut uri = request.uri().clone().into_parts();
        uri.path_and_query = Some(path.parse()?);
        *request.uri_mut() = http::Uri::from_parts(uri)?;
        *request.method_mut() = method;
        let answer = async {
            let response = self.sender.send_request(request).await.map_err(|error| Trouble::lost(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| Trouble::lost(error.as_ref()))?.to_bytes();
            Ok((head.status, body))
        };
        let answer = timeout(ANSWER_WITHIN, answer).await;
        let late = || Trouble::NoAnswer(ANSWER_WITHIN.as_secs());
        let (status, body) = answer.unwrap_or_else(|_| Err(late())).map_err(|trouble| failure(&trouble))?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).hint(
                "the admin listener's answer is not understood",
                "is the gateway of the same version as this program?",
            );
        }
        Err(refused(status, &body).into())
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Refused>(body) {
        Ok(Refused { error, hint: Some(hint) }) => Failure::new(error).with_hint(hint),
        Ok(Refused { error, hint: None }) => Failure::new(error),
        Err(_) => {
            let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).trim().to_owned();
            let failure =
                Failure::new(format_args!("the admin listener answered HTTP {}: {text}", status.as_u16()));
            if status == StatusCode::MISDIRECTED_REQUEST {
                failure.with_hint("add this host and port to `hosts` of [admin]")
            } else {
                failure
            }
        }
    }
}

fn failure(trouble: &Trouble) -> Failure {
    let hint = match trouble {
        Trouble::Unreachable { .. } => {
            "nothing was done; is the gateway running, and is this its admin listener?"
        }
        Trouble::Refused { .. } => {
            "nothing was done; the certificate must come from the gateway's client CA, be valid now, and its name stand \
             in an [[operator]] of the gateway's configuration"
        }
        Trouble::Lost { .. } | Trouble::NoAnswer(_) => {
            "whether it was done is not known; look before you try again"
        }
        other => other.hint(),
    };
    Failure::new(trouble).with_hint(hint)
}

/// The first name of the listener that can be connected to.
fn url_of(config: &Config) -> anyhow::Result<String> {
    let Some(Admin { listen, hosts, .. }) = &config.admin else {
        let what = format!("{} has no [admin] listener", config.file.display());
        return Err(Failure::new(what).with_hint("add one, or say where it is with --admin URL").into());
    };
    let anywhere = listen.ip().is_unspecified().then(|| listen.to_string());
    let host = hosts.iter().find(|host| Some(*host) != anywhere.as_ref());
    let host = host.cloned().unwrap_or_else(|| format!("localhost:{}", listen.port()));
    Ok(format!("https://{host}"))
}

/// What to do where no certificate is given; `chancery init` writes one.
fn who(config: Option<&Config>) -> String {
    let written = config.and_then(|config| Some(config.file.parent()?.join("certs/ops.pem")));
    match written.filter(|file| file.exists()) {
        Some(file) => format!("give --cert and --key, or set CHANCERY_ADMIN_CERT: {} is one", shown(&file)),
        None => "give --cert and --key, or set CHANCERY_ADMIN_CERT and CHANCERY_ADMIN_KEY".to_owned(),
    }
}

fn shown(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(admin: &str) -> Config {
        let text = include_str!("../../assets/init/chancery.toml");
        let text = text.replace("listen = \"127.0.0.1:9545\"", admin);
        Config::parse(Path::new("chancery.toml"), &text).unwrap()
    }

    #[test]
    fn the_configuration_says_where_the_listener_is() {
        for (admin, url) in [
            ("listen = \"127.0.0.1:9545\"", "https://127.0.0.1:9545"),
            ("listen = \"0.0.0.0:9545\"", "https://localhost:9545"),
            ("listen = \"[::]:9545\"", "https://localhost:9545"),
            ("listen = \"0.0.0.0:9545\"\nhosts = [\"gw.example:9545\"]", "https://gw.example:9545"),
        ] {
            assert_eq!(url_of(&config(admin)).unwrap(), url, "{admin}");
        }
        let mut none = config("listen = \"127.0.0.1:9545\"");
        none.admin = None;
        assert!(url_of(&none).unwrap_err().to_string().contains("has no [admin] listener"));
    }

    #[test]
    fn an_answer_that_is_no_success_is_told_in_its_own_words() {
        let said = refused(StatusCode::FORBIDDEN, br#"{"error":"not you","hint":null}"#);
        assert_eq!(said.to_string(), "not you");
        let said = refused(StatusCode::MISDIRECTED_REQUEST, b"this host is not in [admin] hosts\n");
        assert_eq!(
            said.to_string(),
            "the admin listener answered HTTP 421: this host is not in [admin] hosts"
        );
    }
}
