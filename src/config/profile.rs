//! What differs from vendor to vendor, as data: `assets/hsm/profiles.toml`, with a page each in `docs/hsm/`.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// One vendor's tokens.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    pub product: String,
    /// What of it these tests run against; nothing where its facts were only read.
    pub tested: Option<String>,
    /// Where its PKCS#11 library is usually installed.
    pub modules: Vec<PathBuf>,
    /// What is to stand in the PIN file.
    pub pin: String,
    pub pin_form: PinForm,
    /// Whether the module opens connections of its own.
    pub network: bool,
    /// How many sessions are opened where the configuration does not say.
    pub sessions: usize,
    /// What secp256k1 needs.
    pub curve: String,
    /// The vendor's steps from one token to another.
    pub backup: Vec<String>,
    pub attest: Option<Attest>,
}

/// A vendor's way to prove that a key was made in its hardware.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attest {
    pub tool: String,
    pub steps: Vec<String>,
}

/// How a PIN must look. One that cannot be right is not tried: tokens lock themselves after a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinForm {
    Any,
    /// `user:password`.
    UserPassword,
    /// Four hexadecimal digits and a password of 8 characters or more.
    KeyIdPassword,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    profile: Vec<Profile>,
}

static ALL: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    // A part of the program; a test reads it.
    let file = toml::from_str::<File>(include_str!("../../assets/hsm/profiles.toml"));
    file.map(|file| file.profile).unwrap_or_default()
});

static NONE: Profile = Profile {
    name: String::new(),
    product: String::new(),
    tested: None,
    modules: Vec::new(),
    pin: String::new(),
    pin_form: PinForm::Any,
    network: true,
    sessions: 4,
    curve: String::new(),
    backup: Vec::new(),
    attest: None,
};

impl Profile {
    pub const GENERIC: &str = "generic";

    pub fn all() -> &'static [Self] {
        &ALL
    }

    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|profile| profile.name == name)
    }

    /// For a token of which nobody says what it is.
    pub fn generic() -> &'static Self {
        Self::named(Self::GENERIC).unwrap_or(&NONE)
    }
}

impl PinForm {
    /// Why this text can be no PIN; nothing where it may be one.
    pub fn mistake(self, pin: &str) -> Option<&'static str> {
        let right = match self {
            Self::Any => true,
            Self::UserPassword => {
                pin.split_once(':').is_some_and(|(user, password)| !user.is_empty() && !password.is_empty())
            }
            Self::KeyIdPassword => pin.split_at_checked(4).is_some_and(|(id, password)| {
                id.bytes().all(|digit| digit.is_ascii_hexdigit()) && password.chars().count() >= 8
            }),
        };
        match self {
            _ if right => None,
            Self::Any => None,
            Self::UserPassword => Some("it must be `user:password`"),
            Self::KeyIdPassword => {
                Some("it must be four hexadecimal digits and a password of 8 characters or more")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn plain(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_profile_has_a_page_that_says_the_same_and_each_page_a_profile() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hsm");
        let mut pages: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|page| page.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        pages.sort();
        let mut names: Vec<&str> = Profile::all().iter().map(|profile| profile.name.as_str()).collect();
        names.retain(|name| *name != Profile::GENERIC);
        names.sort_unstable();
        assert_eq!(pages, names);
        let signer = fs::read_to_string(folder.parent().unwrap().join("signer.md")).unwrap();
        for profile in Profile::all().iter().filter(|profile| profile.name != Profile::GENERIC) {
            let name = &profile.name;
            assert!(signer.contains(&format!("(hsm/{name}.md)")), "docs/signer.md does not name {name}");
            let page = plain(&fs::read_to_string(folder.join(format!("{name}.md"))).unwrap());
            let says = |what: &str| assert!(page.contains(&plain(what)), "docs/hsm/{name}.md lacks: {what}");
            says(&profile.product);
            says(&format!("profile = \"{name}\""));
            says(&profile.pin);
            says(&profile.curve);
            says(&format!("sessions = {}", profile.sessions));
            profile.modules.iter().for_each(|module| says(module.to_str().unwrap()));
            profile.backup.iter().for_each(|step| says(step));
            match &profile.tested {
                Some(tested) => says(&format!("Tested: {tested}")),
                None => says("Not tested"),
            }
            match &profile.attest {
                Some(attest) => attest.steps.iter().for_each(|step| says(step)),
                None => says("## Attestation\n\nNone that we know of"),
            }
        }
    }

    #[test]
    fn a_pin_that_cannot_be_right_is_told_from_one_that_may_be() {
        for (form, right, wrong) in [
            (PinForm::UserPassword, &["trader:secret", "a:b:c"][..], &["secret", ":secret", "trader:"][..]),
            (
                PinForm::KeyIdPassword,
                &["0001password", "00afeight888"],
                &["password", "0001seven77", "001", "é001password"],
            ),
            (PinForm::Any, &["1234", ":"], &[]),
        ] {
            for pin in right {
                assert_eq!(form.mistake(pin), None, "{form:?} {pin}");
            }
            for pin in wrong {
                assert!(form.mistake(pin).is_some(), "{form:?} {pin}");
            }
        }
    }
}
