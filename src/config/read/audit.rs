//! The section `[audit]`: the key that seals the chain, how often, and where its checkpoints go.

use std::time::Duration;

use crate::config::read::{Read, Reader};
use crate::config::written::{self, Text};
use crate::config::{Account, Audit, Client, Webhook};
use crate::secret::SecretUrl;

impl Reader<'_> {
    /// No client may use the key that seals the record of what clients did.
    pub(super) fn audit(
        &self,
        written: &written::Audit,
        accounts: &[Account],
        clients: &[Client],
    ) -> Read<Audit> {
        let name = written.key.get_ref();
        let key = accounts.iter().find(|account| account.name == *name).ok_or_else(|| {
            self.at(&written.key.span(), format_args!("there is no [[account]] named `{name}`"))
        })?;
        if let Some(client) = clients.iter().find(|client| client.accounts.contains(&key.address)) {
            let what =
                format!("account `{name}` signs checkpoints, so client `{}` may not use it", client.name);
            return Err(self.at(&written.key.span(), what));
        }
        let every_rows = written.every_rows.unwrap_or(1000);
        // A checkpoint writes rows itself.
        if every_rows < 10 {
            return Err(self.at(&written.key.span(), "`every_rows` must be at least 10"));
        }
        let every = self.duration(written.every.as_ref(), Duration::from_secs(600))?;
        if every < Duration::from_secs(1) {
            return Err(self.at(&written.key.span(), "`every` must be at least one second"));
        }
        let webhook = match (&written.webhook, &written.webhook_secret_file) {
            (Some(url), secret) => Some(self.webhook(url, secret.as_ref())?),
            (None, Some(file)) => {
                return Err(self.at(&file.span(), "a secret for a `webhook` that is not there"));
            }
            (None, None) => None,
        };
        let file = written.file.as_ref().map(|file| self.path(file));
        Ok(Audit { key: key.address, every_rows, every, file, webhook })
    }

    fn webhook(&self, written: &Text, secret: Option<&Text>) -> Read<Webhook> {
        let wrong = || {
            let what = "expected a URL of https (of http for this machine only: 127.0.0.1 or localhost)";
            self.at(&written.span(), what)
        };
        let url = SecretUrl::parse(written.get_ref()).map_err(|_| wrong())?;
        let at_home = ["http://127.0.0.1:", "http://localhost:"];
        let text = written.get_ref();
        // `http://127.0.0.1:80@elsewhere` is elsewhere.
        if text.contains('@')
            || !text.starts_with("https://") && !at_home.iter().any(|home| text.starts_with(home))
        {
            return Err(wrong());
        }
        Ok(Webhook { url, secret_file: secret.map(|file| self.path(file)) })
    }
}
