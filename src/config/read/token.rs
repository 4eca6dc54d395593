//! A `[[token]]`: whose it is, where its PIN stands, and in what its worker runs.

use std::path::PathBuf;

use crate::config::read::{Read, Reader};
use crate::config::written::{self, Text};
use crate::config::{PinSource, Profile, Sandbox, Token};

/// Where systemd puts credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl Reader<'_> {
    /// `user` is whose process the worker is, unless the token says another.
    pub(super) fn token(&self, written: written::Token, user: Option<&String>) -> Read<Token> {
        let profile = self.profile(written.profile.as_ref())?;
        let sessions = written.sessions.unwrap_or(profile.sessions);
        if sessions == 0 {
            return Err(self.at(&written.name.span(), "`sessions` must be at least 1"));
        }
        let (pin, pin_place) = self.pin(&written)?;
        let own = written.user.as_ref().map(|user| self.name(user)).transpose()?;
        Ok(Token {
            name: self.name(&written.name)?,
            profile,
            module: self.path(&written.module),
            label: written.label.into_inner(),
            serial: written.serial.map(Text::into_inner),
            pin,
            pin_place,
            sandbox: self.sandbox(written.sandbox.as_ref(), written.network, &written.files, profile)?,
            user: own.or_else(|| user.cloned()),
            sessions,
            site: written.site.as_ref().map(|site| self.name(site)).transpose()?,
            environment: written.environment,
        })
    }

    /// On, unless the file says otherwise.
    fn sandbox(
        &self,
        written: Option<&Text>,
        network: Option<bool>,
        files: &[Text],
        profile: &Profile,
    ) -> Read<Option<Sandbox>> {
        match written.map(|text| (text.get_ref().as_str(), text)) {
            None | Some(("on", _)) => {
                let files = files.iter().map(|file| self.path(file)).collect();
                Ok(Some(Sandbox { network: network.unwrap_or(profile.network), files }))
            }
            Some(("off", text)) if network.is_some() || !files.is_empty() => {
                let what =
                    "`network` and `files` say what a sandbox lets through: leave them out without one";
                Err(self.at(&text.span(), what))
            }
            Some(("off", _)) => Ok(None),
            Some((other, text)) => {
                Err(self.at(&text.span(), format_args!("`{other}`: expected \"on\" or \"off\"")))
            }
        }
    }

    /// Where the PIN stands: one place, no more. Whether it is there shows at the start, when a worker needs it.
    fn pin(&self, written: &written::Token) -> Read<(PinSource, String)> {
        let file = written.pin_file.as_ref().map(|file| (PinSource::File(self.path(file)), file.span()));
        let descriptor = written.pin_fd.as_ref().map(|fd| (PinSource::Descriptor(*fd.get_ref()), fd.span()));
        let credential = written.pin_credential.as_ref().map(|name| {
            let folder = std::env::var_os(CREDENTIALS).map(PathBuf::from);
            (PinSource::Credential { name: name.get_ref().clone(), folder }, name.span())
        });
        let mut given = [file, descriptor, credential].into_iter().flatten();
        let Some((pin, span)) = given.next() else {
            let what = "a token needs `pin_file`, `pin_fd` or `pin_credential`";
            return Err(self.at(&written.name.span(), what));
        };
        if let Some((_, second)) = given.next() {
            let what = "`pin_file`, `pin_fd` and `pin_credential` exclude each other: keep one";
            return Err(self.at(&second, what));
        }
        match &pin {
            PinSource::Descriptor(0..=2) => {
                let what = "0, 1 and 2 are standard input, output and error: hand the PIN over as another";
                return Err(self.at(&span, what));
            }
            PinSource::Descriptor(..0) => return Err(self.at(&span, "a descriptor is 3 or more")),
            PinSource::Credential { name, .. } if name.is_empty() || name.contains('/') => {
                return Err(self.at(&span, "the name of a credential is not empty, and has no `/`"));
            }
            _ => {}
        }
        let place = self.at(&span, "").to_string();
        Ok((pin, place.trim_end_matches([' ', ':']).to_owned()))
    }

    fn profile(&self, written: Option<&Text>) -> Read<&'static Profile> {
        let Some(name) = written else { return Ok(Profile::generic()) };
        Profile::named(name.get_ref()).ok_or_else(|| {
            let known: Vec<&str> = Profile::all().iter().map(|profile| profile.name.as_str()).collect();
            let what = format!("there is no profile `{}`; there are {}", name.get_ref(), known.join(", "));
            self.at(&name.span(), what)
        })
    }
}
