//! A `pkcs11:` URI (RFC 7512): which certificate, in which token, by which module.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// What a URI says. What it leaves out fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uri {
    pub token: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    /// The label of the certificate.
    pub object: Option<String>,
    /// Its `CKA_ID`, which is its key's too.
    pub id: Option<Vec<u8>>,
    pub module: PathBuf,
    written: String,
}

/// What is wrong with a URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUri {
    #[error("`{0}` in a pkcs11: URI is not written as NAME=VALUE")]
    NoValue(String),
    #[error("`{0}` is not known in a pkcs11: URI of a certificate")]
    Unknown(String),
    #[error("`{0}` stands twice in the pkcs11: URI")]
    Twice(String),
    #[error("`{0}` in the pkcs11: URI is no text")]
    NoText(String),
    #[error(
        "a secret has no place in a URI, which others can see: `{0}` is to be left out, give --password-file"
    )]
    Secret(String),
    #[error("the pkcs11: URI does not say `module-path`, the file of the token's module")]
    NoModule,
}

impl Uri {
    pub fn parse(text: &str) -> Result<Self, NotAUri> {
        let rest = text.strip_prefix("pkcs11:").unwrap_or(text);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let attributes = path.split(';').chain(query.split('&')).filter(|attribute| !attribute.is_empty());
        let mut uri = Self { written: text.to_owned(), ..Self::default() };
        let mut seen = Vec::new();
        for attribute in attributes {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| NotAUri::NoValue(attribute.to_owned()))?;
            if seen.contains(&name) {
                return Err(NotAUri::Twice(name.to_owned()));
            }
            seen.push(name);
            let bytes: Vec<u8> = percent_decode_str(value).collect();
            let text = || String::from_utf8(bytes.clone()).map_err(|_| NotAUri::NoText(name.to_owned()));
            match name {
                "token" => uri.token = Some(text()?),
                "serial" => uri.serial = Some(text()?),
                "manufacturer" => uri.manufacturer = Some(text()?),
                "model" => uri.model = Some(text()?),
                "object" => uri.object = Some(text()?),
                "id" => uri.id = Some(bytes),
                "module-path" => uri.module = text()?.into(),
                // Which of the two is meant is known.
                "type" if matches!(value, "cert" | "private") => {}
                "pin-value" | "pin-source" => return Err(NotAUri::Secret(name.to_owned())),
                other => return Err(NotAUri::Unknown(other.to_owned())),
            }
        }
        if uri.module.as_os_str().is_empty() {
            return Err(NotAUri::NoModule);
        }
        Ok(uri)
    }
}

/// As it was written; there is no secret in it.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_what_to_look_for() {
        let uri =
            Uri::parse("pkcs11:token=YubiKey%20PIV%20%2312;id=%01%fe;type=cert?module-path=/usr/lib/y.so")
                .unwrap();
        assert_eq!(uri.token.as_deref(), Some("YubiKey PIV #12"));
        assert_eq!((uri.id, uri.module), (Some(vec![1, 0xfe]), "/usr/lib/y.so".into()));
        assert_eq!((uri.serial, uri.object), (None, None));
        assert_eq!(Uri::parse("pkcs11:?module-path=/m.so").unwrap().token, None);
    }

    #[test]
    fn what_is_not_understood_in_a_uri_is_refused() {
        let m = "?module-path=/m.so";
        for (text, wrong) in [
            ("pkcs11:token=a", NotAUri::NoModule),
            (&format!("pkcs11:token{m}"), NotAUri::NoValue("token".into())),
            (&format!("pkcs11:Token=a{m}"), NotAUri::Unknown("Token".into())),
            (&format!("pkcs11:slot-id=1{m}"), NotAUri::Unknown("slot-id".into())),
            (&format!("pkcs11:type=public{m}"), NotAUri::Unknown("type".into())),
            (&format!("pkcs11:id=%01;id=%02{m}"), NotAUri::Twice("id".into())),
            (&format!("pkcs11:token=%ff{m}"), NotAUri::NoText("token".into())),
            (&format!("pkcs11:token=a{m}&pin-value=1234"), NotAUri::Secret("pin-value".into())),
            (&format!("pkcs11:token=a{m}&pin-source=/pin"), NotAUri::Secret("pin-source".into())),
        ] {
            assert_eq!(Uri::parse(text), Err(wrong), "{text}");
        }
    }
}
