//! `chancery init`: a first configuration, a policy that allows nothing yet, and certificates for development.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cmd::certs::{Authority, Holder};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};

/// Write a first configuration, policy and development certificates
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Where to write them
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The gateway's host names and addresses
    #[arg(long = "host", default_values = ["localhost", "127.0.0.1"])]
    hosts: Vec<String>,
}

const CONFIG: &str = include_str!("../../assets/init/chancery.toml");
const POLICY: &str = include_str!("../../assets/init/policy.toml");

/// Certificates of the people that the first configuration names.
const PEOPLE: &[(&str, &str)] = &[("trader", "spiffe://chancery/trader"), ("ops", "spiffe://chancery/ops")];

const DAYS: u32 = 90;

impl Init {
    pub fn run(self, context: &Context) -> Done {
        let dir = &self.dir;
        // Nothing is written over, and nothing is half written: what is in the way is found first.
        let ours =
            ["chancery.toml", "policies/first.toml", "certs/ca.pem", "certs/server.pem", "certs/trader.pem"];
        for name in ours {
            if dir.join(name).exists() {
                let failure = Failure::new(format_args!("{} is there already", dir.join(name).display()));
                return Err(failure.with_hint("init writes over nothing; name an empty folder").into());
            }
        }
        for folder in ["certs", "policies", "state", "secrets"] {
            private_folder(&dir.join(folder))?;
        }
        let certificates = dir.join("certs");
        let authority = Authority::generate()?;
        authority.pair()?.write(&certificates, "ca")?;
        authority.issue(&Holder::Server(self.hosts.clone()), DAYS)?.write(&certificates, "server")?;
        for (name, identity) in PEOPLE {
            authority.issue(&Holder::Uri((*identity).to_owned()), DAYS)?.write(&certificates, name)?;
        }
        write(&dir.join("policies/first.toml"), POLICY)?;
        write(&dir.join("chancery.toml"), CONFIG)?;

        let data = json!({ "config": dir.join("chancery.toml"), "policies": dir.join("policies"), "certs": certificates });
        let text = format!(
            "wrote {0}/chancery.toml, {0}/policies/first.toml and certificates for development in {0}/certs\n\nNext:\n  \
             1. [[token]] in chancery.toml: your HSM's module and token; its PIN into secrets/pin (mode 0600)\n  \
             2. chancery keys generate --token main --label treasury   (and paste the [[account]] that it prints)\n  \
             3. a rule in policies/first.toml, then: chancery policy check\n  \
             4. chancery doctor, then: chancery serve",
            dir.display()
        );
        context.print(&data, text)?;
        Ok(Success::Done)
    }
}

fn private_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.hint(folder.display(), "can the folder be written?")
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).hint(file.display(), "can the folder be written?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::policy::{Policy, World};

    #[test]
    fn what_init_writes_is_read_as_serve_would() {
        let dir = tempfile::tempdir().unwrap();
        let init = Init { dir: dir.path().join("new"), hosts: vec!["localhost".to_owned()] };
        let context = Context::new(PathBuf::new(), true);
        init.run(&context).unwrap();
        let config = Config::load(&dir.path().join("new/chancery.toml")).unwrap();
        Policy::load(&config.policies, &World::new(&config)).unwrap();
        let again = Init { dir: dir.path().join("new"), hosts: vec![] };
        assert!(again.run(&context).unwrap_err().to_string().contains("is there already"));
    }
}
