//! The listeners: where, for whom, within which bounds, and whose certificates they take.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::read::{Read, Reader, hosts};
use crate::config::written::{self, Text};
use crate::config::{Admin, Gateway, IdentityKind, Issuer, Limits, Network, OWN_ISSUER, Revocation};

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
            balancers: self.networks(&written.proxy_protocol)?,
            drain: self.duration(written.drain.as_ref(), Duration::from_secs(10))?,
        })
    }

    pub(super) fn admin(&self, written: &written::Admin) -> Read<Admin> {
        let listen =
            self.parse::<SocketAddr>(&written.listen, "an address and port, such as 127.0.0.1:9545")?;
        let hosts = match &written.hosts {
            Some(written) => hosts(written),
            None => vec![listen.to_string(), format!("localhost:{}", listen.port())],
        };
        Ok(Admin { listen, hosts, balancers: self.networks(&written.proxy_protocol)? })
    }

    pub(super) fn limits(&self, written: &written::Limits) -> Read<Limits> {
        let default = Limits::default();
        Ok(Limits {
            max_body: written.max_body.unwrap_or(default.max_body),
            max_batch: written.max_batch.unwrap_or(default.max_batch),
            max_depth: written.max_depth.unwrap_or(default.max_depth),
            max_header: written.max_header.unwrap_or(default.max_header),
            max_connections: written.max_connections.unwrap_or(default.max_connections),
            max_connections_per_client: written
                .max_connections_per_client
                .unwrap_or(default.max_connections_per_client),
            max_connections_per_address: written
                .max_connections_per_address
                .unwrap_or(default.max_connections_per_address),
            max_handshakes: written.max_handshakes.unwrap_or(default.max_handshakes),
            max_in_flight: written.max_in_flight.unwrap_or(default.max_in_flight),
            max_in_flight_per_client: written
                .max_in_flight_per_client
                .unwrap_or(default.max_in_flight_per_client),
            handshake_timeout: self
                .duration(written.handshake_timeout.as_ref(), default.handshake_timeout)?,
            head_timeout: self.duration(written.head_timeout.as_ref(), default.head_timeout)?,
            body_timeout: self.duration(written.body_timeout.as_ref(), default.body_timeout)?,
            write_timeout: self.duration(written.write_timeout.as_ref(), default.write_timeout)?,
            idle_timeout: self.duration(written.idle_timeout.as_ref(), default.idle_timeout)?,
        })
    }

    fn networks(&self, written: &[Text]) -> Read<Vec<Network>> {
        let network = |text: &Text| {
            let what = |e| self.at(&text.span(), format_args!("`{}`: {e}", text.get_ref()));
            text.get_ref().parse::<Network>().map_err(what)
        };
        written.iter().map(network).collect()
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
