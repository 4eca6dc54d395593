//! The gateway's own listener, and whose certificates it takes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::read::{Read, Reader, hosts};
use crate::config::written::{self, Text};
use crate::config::{Gateway, IdentityKind, Issuer, OWN_ISSUER, Revocation};

impl Reader<'_> {
    pub(super) fn gateway(&self, written: &written::Gateway, issuers: Vec<Issuer>) -> Read<Gateway> {
        if written.hosts.is_empty() {
            return Err(self.wrong(
                "[gateway] hosts is empty: name what clients write as host, such as \"localhost:8545\"",
            ));
        }
        Ok(Gateway {
            listen: self
                .parse::<SocketAddr>(&written.listen, "an address and port, such as 127.0.0.1:8545")?,
            hosts: hosts(&written.hosts),
            certificate: self.path(&written.certificate),
            key: self.path(&written.key),
            issuers,
            drain: self.duration(written.drain.as_ref(), Duration::from_secs(10))?,
        })
    }

    /// The gateway's own first.
    pub(super) fn issuers(
        &self,
        gateway: &written::Gateway,
        others: &[written::Issuer],
    ) -> Read<Vec<Issuer>> {
        let own = Issuer {
            name: OWN_ISSUER.to_owned(),
            client_ca: self.path(&gateway.client_ca),
            identity: self.identity_kind(gateway.identity.as_ref())?,
            crls: gateway.crls.iter().map(|file| self.path(file)).collect(),
            revocation: self.revocation(gateway.crl.as_ref(), &gateway.crls)?,
        };
        let others = others.iter().map(|issuer| {
            let name = self.name(&issuer.name)?;
            if name == OWN_ISSUER {
                let what =
                    format!("`{OWN_ISSUER}` is the issuer of [gateway] client_ca; choose another name");
                return Err(self.at(&issuer.name.span(), what));
            }
            Ok(Issuer {
                name,
                client_ca: self.path(&issuer.client_ca),
                identity: self.identity_kind(issuer.identity.as_ref())?,
                crls: issuer.crls.iter().map(|file| self.path(file)).collect(),
                revocation: self.revocation(issuer.crl.as_ref(), &issuer.crls)?,
            })
        });
        std::iter::once(Ok(own)).chain(others).collect()
    }

    fn identity_kind(&self, written: Option<&Text>) -> Read<IdentityKind> {
        match written.map(|kind| (kind.get_ref().as_str(), kind)) {
            None | Some(("uri", _)) => Ok(IdentityKind::Uri),
            Some(("dns", _)) => Ok(IdentityKind::Dns),
            Some((other, kind)) => {
                Err(self.at(&kind.span(), format_args!("`{other}`: expected \"uri\" or \"dns\"")))
            }
        }
    }

    /// Whoever names lists means them.
    fn revocation(&self, written: Option<&Text>, crls: &[Text]) -> Read<Revocation> {
        match written.map(|mode| (mode.get_ref().as_str(), mode)) {
            None if crls.is_empty() => Ok(Revocation::Unchecked),
            Some((_, mode)) if crls.is_empty() => {
                Err(self
                    .at(&mode.span(), "`crl` says what `crls` are for: name the files of the lists there"))
            }
            None | Some(("required", _)) => Ok(Revocation::Required),
            Some(("optional", _)) => Ok(Revocation::Optional),
            Some((other, mode)) => {
                Err(self.at(&mode.span(), format_args!("`{other}`: expected \"required\" or \"optional\"")))
            }
        }
    }
}
