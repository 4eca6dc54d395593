//! An `[[account]]`: where its key is, and how it is kept from being lost.

use crate::config::read::{Read, Reader};
use crate::config::written;
use crate::config::{Account, Backup, KeySource, Order, Token};
use crate::transaction::address;

impl Reader<'_> {
    pub(super) fn account(&self, written: written::Account, tokens: &[Token]) -> Read<Account> {
        let key = match (written.token, written.key, written.keystore, written.password_file) {
            (Some(token), Some(label), None, None) => {
                let mut group: Vec<String> = Vec::new();
                for token in std::iter::once(&token).chain(&written.backups) {
                    if !tokens.iter().any(|known| known.name == *token.get_ref()) {
                        let what = format!("there is no [[token]] named `{}`", token.get_ref());
                        return Err(self.at(&token.span(), what));
                    }
                    if group.contains(token.get_ref()) {
                        return Err(
                            self.at(&token.span(), format_args!("`{}` stands here twice", token.get_ref()))
                        );
                    }
                    group.push(token.get_ref().clone());
                }
                let order = match written.order.as_ref().map(|order| (order.get_ref().as_str(), order.span()))
                {
                    None | Some(("primary-backup", _)) => Order::PrimaryBackup,
                    Some(("round-robin", _)) => Order::RoundRobin,
                    Some((other, span)) => {
                        let what = format!("`{other}`: expected `primary-backup` or `round-robin`");
                        return Err(self.at(&span, what));
                    }
                };
                KeySource::Token { tokens: group, label: label.into_inner(), order }
            }
            (None, None, Some(file), Some(password))
                if written.backups.is_empty() && written.order.is_none() && written.backup.is_none() =>
            {
                KeySource::Keystore { file: self.path(&file), password_file: self.path(&password) }
            }
            _ => {
                let what =
                    "an account needs `token` and `key`, or (laptops only) `keystore` and `password_file`";
                return Err(self.at(&written.name.span(), what));
            }
        };
        let backup = match written.backup.as_ref().map(|kind| (kind.get_ref().as_str(), kind.span())) {
            None | Some(("vendor", _)) => Backup::Vendor,
            Some(("wrapped", _)) => Backup::Wrapped,
            Some(("none", _)) => Backup::None,
            Some((other, span)) => {
                let what = format!("`{other}`: expected `vendor`, `wrapped` or `none`");
                return Err(self.at(&span, what));
            }
        };
        if backup == Backup::None
            && let Some(token) = written.backups.first()
        {
            return Err(self.at(&token.span(), "a key with `backup = \"none\"` is in no second token"));
        }
        let address = address(written.address.get_ref()).map_err(|e| self.at(&written.address.span(), e))?;
        let auto_bump = written.auto_bump.as_ref().map(|bump| self.auto_bump(bump)).transpose()?;
        Ok(Account { name: self.name(&written.name)?, address, key, backup, auto_bump })
    }
}
