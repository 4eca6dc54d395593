//! What a token of our own is and holds: `token.toml`.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A token without a module behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub label: String,
    #[serde(default = "serial")]
    pub serial: String,
    pub pin: String,
    /// After so many wrong PINs in a row it is locked.
    #[serde(default = "three")]
    pub pin_tries: u64,
    /// It says that the next wrong PIN is the last.
    #[serde(default)]
    pub final_try: bool,
    #[serde(default)]
    pub login: LoginOf,
    /// How many sessions there may be; and whether it says so.
    pub session_limit: Option<u64>,
    #[serde(default)]
    pub announce_limit: bool,
    /// Slots that hold a token of this label.
    #[serde(default = "one")]
    pub slots: u64,
    #[serde(default, rename = "key")]
    pub keys: Vec<Key>,
}

/// Whose login it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginOf {
    /// The application's, as on most tokens.
    #[default]
    Application,
    /// Each session's own, as on NetHSM.
    Session,
}

/// A key pair, and what is odd about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub label: String,
    /// In hex.
    pub id: String,
    /// The private key, in hex.
    pub secret: String,
    /// Another one, of which the public key is shown.
    pub shown: Option<String>,
    #[serde(default)]
    pub point: Point,
    /// Whether the point stands on the private key too.
    #[serde(default)]
    pub point_on_private: bool,
    #[serde(default)]
    pub curve: Curve,
    #[serde(default = "yes")]
    pub sign: bool,
    #[serde(default = "yes")]
    pub sensitive: bool,
    #[serde(default)]
    pub extractable: bool,
    #[serde(default)]
    pub always_authenticate: bool,
    #[serde(default = "yes")]
    pub local: bool,
}

/// In which form `CKA_EC_POINT` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// An OCTET STRING, as the standard has it.
    #[default]
    Der,
    Raw,
    Compressed,
    BitString,
    Bare,
    /// There is no public key object.
    Absent,
    /// There is one, with something else in it.
    Nonsense,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    #[default]
    Secp256k1,
    P256,
}

impl Settings {
    pub fn read(folder: &Path) -> Self {
        let path = folder.join("token.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn write(&self, folder: &Path) {
        let text = toml::to_string(self).expect("settings are TOML");
        std::fs::write(folder.join("token.toml"), text).expect("token.toml is written");
    }
}

impl Key {
    pub fn id(&self) -> Vec<u8> {
        from_hex(&self.id)
    }
}

pub fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex");
            u8::from_str_radix(pair, 16).expect("hex")
        })
        .collect()
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serial() -> String {
    "0000000000000001".to_owned()
}

const fn one() -> u64 {
    1
}

const fn three() -> u64 {
    3
}

const fn yes() -> bool {
    true
}
