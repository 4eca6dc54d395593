//! `chancery policy sign`: the manifest of a policy, and officers' signatures of it.

use std::fmt::Write as _;
use std::path::PathBuf;

use alloy_primitives::Address;
use serde_json::json;

use crate::cmd::policy::world::{WorldFlags, folder};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::Config;
use crate::policy::{MANIFEST, Manifest, Policy, SIGNATURES};

/// Write the manifest that officers sign, or add a signature to it
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// The policy folder [default: the configuration's, or `policies`]
    directory: Option<PathBuf>,
    /// Write the manifest of the files as they are now, with this serial; signatures of another are dropped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    serial: Option<u64>,
    /// A signature of the manifest as a message (EIP-191), as every wallet makes it
    #[arg(long, value_name = "HEX")]
    signature: Vec<String>,
    #[command(flatten)]
    world: WorldFlags,
}

impl Sign {
    pub fn run(self, context: &Context) -> Done {
        let (world, configured) = self.world.read(context, None)?;
        let directory = folder(self.directory.as_deref(), configured);
        let (manifest_file, signature_file) = (directory.join(MANIFEST), directory.join(SIGNATURES));
        let there = std::fs::read_to_string(&manifest_file).ok();
        let serial = self.serial.or(there.as_deref().and_then(Manifest::serial_of));
        let serial = serial.ok_or_else(|| {
            Failure::new("there is no manifest yet")
                .with_hint("name its serial: --serial 1, and one more with each change")
        })?;
        let manifest = Policy::manifest(&directory, &world, serial)
            .hint("the policy has mistakes", "`chancery policy check` lists them")?;
        let text = manifest.text();
        if there.as_ref() != Some(&text) {
            if self.serial.is_none() {
                let why = "the files are not those of the manifest any more, so nobody can sign it";
                return Err(Failure::new(why)
                    .with_hint("write a new one: --serial, one more than before")
                    .into());
            }
            write(&signature_file, "")?;
            write(&manifest_file, &text)?;
        }
        let mut lines = std::fs::read_to_string(&signature_file).unwrap_or_default();
        for signature in &self.signature {
            if manifest.signer(signature).is_none() {
                return Err(Failure::new(format_args!("{signature} is no signature of the manifest"))
                    .with_hint("65 bytes as 0x and hexadecimal digits, as `cast wallet sign` prints them")
                    .into());
            }
            if !lines.lines().any(|line| line.trim() == signature) {
                lines.push_str(signature);
                lines.push('\n');
            }
        }
        write(&signature_file, &lines)?;
        let signed = manifest.signers(&lines).map_err(Failure::new)?;
        let officers = Config::load(context.config()).map(|config| config.officers).unwrap_or_default();
        let report = json!({ "manifest": manifest_file, "serial": serial, "signed": signed.iter().map(ToString::to_string).collect::<Vec<_>>(), "required": officers.required });
        let mut shown =
            format!("{}: serial {serial}, {} files", manifest_file.display(), manifest.files.len());
        for signer in &signed {
            let known = if officers.required == 0 || officers.signers.contains(signer) {
                ""
            } else {
                ", whom [policy] does not list"
            };
            write!(shown, "\nsigned by {signer}{known}")?;
        }
        if signed.iter().filter(|signer: &&Address| officers.signers.contains(signer)).count()
            < officers.required
        {
            context.say(format_args!(
                "{} signatures are needed. An officer compares the manifest with the files (`sha256sum`), and signs it:\n  \
                 cast wallet sign \"$(cat {})\"\nThen: chancery policy sign --signature 0x…",
                officers.required,
                manifest_file.display()
            ));
        }
        context.print(&report, shown)?;
        Ok(Success::Done)
    }
}

fn write(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).map_err(|e| Failure::new(format_args!("{}: {e}", file.display())).into())
}
