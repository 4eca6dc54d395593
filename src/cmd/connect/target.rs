//! Where the gateway is: what was written as its URL, taken apart once.

use std::fmt;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};
use rustls::pki_types::ServerName;

/// The gateway's address, the name that its certificate must carry, and what requests to it are addressed to.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    uri: Uri,
}

/// What is wrong with the URL or the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    #[error("`{0}` is no URL of a gateway: expected https://host[:port][/chain]")]
    Url(String),
    #[error("`{0}` is no name of a server: expected a DNS name or an IP address, with :port if need be")]
    Name(String),
}

impl Target {
    /// `server_name` is for a gateway behind a tunnel, where the URL's host is not what its certificate says.
    pub fn parse(url: &str, server_name: Option<&str>) -> Result<Self, NotATarget> {
        let wrong = || NotATarget::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let plain = authority.as_str() == authority_of(authority.host(), authority.port_u16());
        if uri.scheme() != Some(&Scheme::HTTPS) || !plain || uri.query().is_some() || url.contains('#') {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(443);
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let (name, name_port) = match server_name {
            None => (authority.host().to_owned(), port),
            Some(text) => named(text, port).ok_or_else(|| NotATarget::Name(text.to_owned()))?,
        };
        let bare = without_brackets(&name).to_owned();
        let server_name = ServerName::try_from(bare).map_err(|_| NotATarget::Name(name.clone()))?;
        let shown_port = (name_port != 443).then_some(name_port);
        let uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(authority_of(&name, shown_port))
            .path_and_query(path)
            .build()
            .map_err(|_| wrong())?;
        Ok(Self { host: without_brackets(authority.host()).to_owned(), port, server_name, uri })
    }

    /// What to open a TCP connection to.
    pub fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub const fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// A `POST` of JSON, still without its body.
    pub fn post<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    /// A request for a WebSocket, in the form of HTTP/1.1, still without its keys.
    pub fn upgrade<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        let path = self.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        let headers = request.headers_mut();
        let host = self.uri.authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
        headers.extend(host.map(|host| (HOST, host)));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        request
    }

    /// The gateway's name as part of a file's name, and the chain's where its path is said.
    pub fn file_stem(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let plain = |text: &str| text.chars().map(plain).collect::<String>();
        let path = self.uri.path().trim_end_matches('/');
        format!("{}-{}{}", plain(&self.host), self.port, plain(path))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.uri.authority().map_or("", Authority::as_str);
        if address == authority_of(&self.host, Some(self.port)) || address == self.host {
            write!(f, "https://{address}")
        } else {
            write!(f, "https://{address} (at {}:{})", self.host, self.port)
        }
    }
}

fn authority_of(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A name with or without its port.
fn named(text: &str, default_port: u16) -> Option<(String, u16)> {
    let authority: Authority = text.parse().ok()?;
    let plain = authority.as_str() == authority_of(authority.host(), authority.port_u16());
    plain.then(|| (authority.host().to_owned(), authority.port_u16().unwrap_or(default_port)))
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_and_what_to_be_addressed_to() {
        // url, --server-name => host, port, name in the certificate, URL of a request
        for (url, name, host, port, server, uri) in [
            ("https://gw:8545", None, "gw", 8545, "gw", "https://gw:8545/"),
            ("https://gw/", None, "gw", 443, "gw", "https://gw/"),
            ("https://gw:8545/base", None, "gw", 8545, "gw", "https://gw:8545/base"),
            ("https://127.0.0.1:1", None, "127.0.0.1", 1, "127.0.0.1", "https://127.0.0.1:1/"),
            ("https://[::1]:8545", None, "::1", 8545, "::1", "https://[::1]:8545/"),
            (
                "https://127.0.0.1:9",
                Some("gw.example"),
                "127.0.0.1",
                9,
                "gw.example",
                "https://gw.example:9/",
            ),
            ("https://127.0.0.1:9", Some("gw:443"), "127.0.0.1", 9, "gw", "https://gw/"),
        ] {
            let target = Target::parse(url, name).unwrap();
            assert_eq!(target.address(), (host, port), "{url}");
            assert_eq!(target.server_name().to_str(), server, "{url}");
            assert_eq!(target.post(()).uri().to_string(), uri, "{url}");
        }
        let stem = |url: &str| Target::parse(url, None).unwrap().file_stem();
        assert_eq!([stem("https://[::1]:8545"), stem("https://gw/base")], ["--1-8545", "gw-443-base"]);
    }

    #[test]
    fn what_is_no_url_of_a_gateway_is_refused() {
        for url in [
            "",
            "gw",
            "gw:8545",
            "http://gw:8545",
            "https://",
            "https:///x",
            "https://user@gw",
            "https://gw:0x1",
            "https://gw:99999",
            "https://gw?key=1",
            "https://gw/#x",
            "https://gw:8545 ",
            "wss://gw",
        ] {
            assert!(matches!(Target::parse(url, None), Err(NotATarget::Url(_))), "{url}");
        }
        for name in ["", "a b", "user@gw", "gw:x", "-", "https://gw"] {
            assert!(matches!(Target::parse("https://gw", Some(name)), Err(NotATarget::Name(_))), "{name}");
        }
    }
}
