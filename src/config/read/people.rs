//! Clients and operators: their names, their identities, and what they may use.

use std::time::Duration;

use alloy_primitives::Address;

use crate::config::read::{DAY, Read, Reader};
use crate::config::written::{self, Text};
use crate::config::{Account, Client, Issuer, OWN_ISSUER, OWN_NAME, Operator, OperatorRole, spiffe};

impl Reader<'_> {
    pub(super) fn client(
        &self,
        written: &written::Client,
        accounts: &[Account],
        issuers: &[Issuer],
        keys_kept: Duration,
    ) -> Read<Client> {
        let use_of = |name: &Text| -> Read<Address> {
            let known = accounts.iter().find(|account| account.name == *name.get_ref());
            known.map(|account| account.address).ok_or_else(|| {
                self.at(&name.span(), format_args!("there is no [[account]] named `{}`", name.get_ref()))
            })
        };
        let repeat_window =
            written.repeat_window.as_ref().map(|window| self.duration(Some(window), DAY)).transpose()?;
        if let (Some(window), Some(written)) = (repeat_window, &written.repeat_window)
            && window > keys_kept
        {
            return Err(
                self.at(&written.span(), "longer than `keys_kept` of [ledger], after which nothing is known")
            );
        }
        if written.name.get_ref() == OWN_NAME {
            let what =
                format!("`{OWN_NAME}` is what the audit calls the gateway itself; choose another name");
            return Err(self.at(&written.name.span(), what));
        }
        Ok(Client {
            name: self.name(&written.name)?,
            identity: self.identity(&written.identity)?,
            issuer: self.issuer_of(written.issuer.as_ref(), issuers)?,
            role: written.role.as_ref().map(|role| self.name(role)).transpose()?,
            person: written.person.as_ref().map(|person| self.person(person)).transpose()?,
            accounts: written.accounts.iter().map(use_of).collect::<Read<_>>()?,
            origins: written.origins.iter().map(|origin| self.origin(origin)).collect::<Read<_>>()?,
            repeat_window,
        })
    }

    /// An origin as browsers write it (RFC 6454, section 6.2).
    fn origin(&self, written: &Text) -> Read<String> {
        let text = written.get_ref();
        let is_one = text.split_once("://").is_some_and(|(scheme, host)| {
            let is_host =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
            !scheme.is_empty() && !host.is_empty() && host.chars().all(is_host)
        });
        if is_one || text == "moz-extension://*" {
            return Ok(text.clone());
        }
        let what = format!(
            "`{text}` is no origin: write scheme://host[:port], without a path, such as \
             `chrome-extension://<id>`; `null` is what every sandboxed page sends, and `*` does not exist here"
        );
        Err(self.at(&written.span(), what))
    }

    pub(super) fn operator(&self, written: &written::Operator, issuers: &[Issuer]) -> Read<Operator> {
        let role = match written.role.get_ref().as_str() {
            "admin" => OperatorRole::Admin,
            "auditor" => OperatorRole::Auditor,
            "approver" => OperatorRole::Approver,
            other => {
                let what = format!("`{other}` is not a role of an operator: admin, auditor or approver");
                return Err(self.at(&written.role.span(), what));
            }
        };
        let name = self.name(&written.name)?;
        let issuer = self.issuer_of(written.issuer.as_ref(), issuers)?;
        Ok(Operator {
            name,
            identity: self.identity(&written.identity)?,
            issuer,
            role,
            person: self.person(&written.person)?,
        })
    }

    /// The name in a certificate. A SPIFFE ID that no certificate can carry would keep its client out without a word.
    fn identity(&self, written: &Text) -> Read<String> {
        let text = written.get_ref();
        if spiffe::is_meant(text) {
            spiffe::check(text).map_err(|e| self.at(&written.span(), format_args!("`{text}`: {e}")))?;
        }
        Ok(text.clone())
    }

    fn issuer_of(&self, written: Option<&Text>, issuers: &[Issuer]) -> Read<String> {
        let Some(written) = written else { return Ok(OWN_ISSUER.to_owned()) };
        let known = issuers.iter().find(|issuer| issuer.name == *written.get_ref());
        known.map(|issuer| issuer.name.clone()).ok_or_else(|| {
            let what = format!("there is no [[issuer]] named `{}`", written.get_ref());
            self.at(&written.span(), what)
        })
    }
}
