//! A renewed certificate is picked up while we run: the files are looked at, and what can be used is used from the next
//! connection on. What is half written stays unused until the other half is there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::clock::Clock;
use crate::cmd::Context;
use crate::cmd::connect::credentials::Credentials;
use crate::cmd::connect::gateway::Gateway;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Watches the files of a certificate.
#[derive(Debug)]
pub struct Renewal {
    credentials: Credentials,
    context: Context,
    seen: Vec<Stamp>,
}

/// When a file was written, and how long it is; nothing where it cannot be found.
type Stamp = Option<(SystemTime, u64)>;

impl Renewal {
    /// To be made before the files are read for the first time.
    pub fn of(credentials: &Credentials, context: &Context) -> Self {
        Self { credentials: credentials.clone(), context: context.clone(), seen: stamps(credentials) }
    }

    /// Does so for ever.
    pub async fn watch(mut self, gateway: Arc<Gateway>) {
        let mut said = String::new();
        loop {
            sleep(LOOK).await;
            let now = stamps(&self.credentials);
            if now == self.seen {
                continue;
            }
            let read = || self.credentials.present(&self.context, &Clock::system());
            // A container's password takes its time, and so does a token.
            match tokio::task::block_in_place(read) {
                Ok(presented) => {
                    self.seen = now;
                    said.clear();
                    gateway.present(presented).await;
                    self.context.say("the certificate was renewed, and is used from now on");
                }
                // The one before may be good for some time yet. What is wrong may go away without a file being written:
                // by another owner or mode, or because its time has come.
                Err(error) => {
                    let why = format!("{error:#}");
                    if why != said {
                        self.context.say(format_args!("warning: the renewed certificate is not used: {why}"));
                        said = why;
                    }
                }
            }
        }
    }
}

fn stamps(credentials: &Credentials) -> Vec<Stamp> {
    let stamp =
        |file| std::fs::metadata(file).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
    credentials.paths().into_iter().map(stamp).collect()
}
