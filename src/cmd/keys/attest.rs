//! `chancery keys attest`: how the vendor's hardware proves that a key was made in it. PKCS#11 has no call for it, so
//! this leads to the vendor's tool, and does not pass off a token's own word for a proof.

use serde_json::json;

use crate::cmd::keys::which::Which;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::signer;

#[derive(Debug, clap::Args)]
pub(super) struct Attest {
    /// The key's label
    label: String,
    #[command(flatten)]
    token: Which,
}

impl Attest {
    pub(super) fn run(self, context: &Context) -> Done {
        let (name, access) = self.token.access(context)?;
        let profile = access.profile;
        let Some(attest) = &profile.attest else {
            let what =
                format!("the profile `{}` knows of no attestation for {}", profile.name, profile.product);
            let hint = "set `profile` to what the token is, or ask its vendor; `keys show` has what the token itself says, \
                        which is no proof";
            return Err(Failure::new(what).with_hint(hint).into());
        };
        let keys = signer::list(&access)
            .hint("the keys cannot be read", "is the module right, and the token there?")?;
        let Some(key) = keys.into_iter().find(|key| key.label == self.label) else {
            let failure = Failure::new(format_args!("the token has no key labelled `{}`", self.label));
            return Err(failure.with_hint("`chancery keys list` shows all").into());
        };
        let address = key.address.map_or_else(|| "(no public key)".to_owned(), |address| address.to_string());
        let says = if key.born_here { "was made in it" } else { "came from elsewhere, or does not say" };
        let steps: Vec<String> = attest
            .steps
            .iter()
            .zip(1..)
            .map(|(step, number): (_, u32)| format!("{number}. {step}"))
            .collect();
        let text = format!(
            "key `{}` in token {name}: {address}, CKA_ID {}\nThe token says that it {says}. That is its word, not a proof. \
             {} proves it, with {}:\n\n{}\n\nThe public key in the attestation must have the address {address}.",
            key.label,
            key.id,
            profile.product,
            attest.tool,
            steps.join("\n"),
        );
        context.print(&json!({ "key": key, "tool": attest.tool, "steps": attest.steps }), text)?;
        Ok(Success::Done)
    }
}
