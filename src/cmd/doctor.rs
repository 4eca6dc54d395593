//! `chancery doctor`: tries each thing that can be wrong, in the order in which `serve` needs it, with its fix.
//!
//! It changes nothing: the ledger is not opened, the port is let go of again. But the tokens are logged in to, as
//! `serve` would: a PIN that is refused here is latched here.

mod certificates;
mod files;
mod finding;
mod services;

use tokio::runtime;

use crate::clock::Clock;
use crate::cmd::doctor::finding::{Finding, State};
use crate::cmd::{Context, Done, Failure, Success, stop};
use crate::config::Config;
use crate::signer::Pins;

/// Try each thing that can be wrong, in order, with its fix
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run(self, context: &Context) -> Done {
        let clock = Clock::system();
        let mut failed = 0_usize;
        let mut tell = |findings: Vec<Finding>| -> anyhow::Result<()> {
            for finding in findings {
                failed = failed.saturating_add(usize::from(finding.state == State::Failed));
                context.print(&finding, &finding)?;
            }
            Ok(())
        };
        match Config::load(context.config()) {
            Err(error) => tell(vec![Finding::failed(
                "configuration",
                error,
                "`deploy/chancery.example.toml` explains every key",
            )])?,
            Ok(config) => {
                let pins = Pins::take(&config);
                tell(vec![Finding::ok("configuration", config.file.display())])?;
                tell(certificates::check(&config, &clock))?;
                tell(files::secrets(&config))?;
                tell(files::people(&config))?;
                tell(files::policy(&config))?;
                tell(files::ledger(&config))?;
                let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let waited = runtime.block_on(async {
                    let stop = stop::on_signal()?;
                    tell(services::tokens(&config, pins, &stop).await)?;
                    let rest = async {
                        tell(services::drills(&config, clock.clone()).await)?;
                        tell(services::node(&config, clock).await)
                    };
                    let rest = stop.run_until_cancelled(rest).await;
                    rest.unwrap_or_else(|| Err(Failure::new("interrupted").into()))
                });
                // A look-up of a name that takes long is nobody's any more.
                runtime.shutdown_background();
                waited?;
                tell(services::ports(&config))?;
            }
        }
        if failed == 0 {
            context.say("nothing stands in the way of `chancery serve`");
            return Ok(Success::Done);
        }
        context.say(format_args!("{failed} to fix"));
        Ok(Success::Denied)
    }
}
