//! `chancery connect … preload`: a file for Node's `--require`, that gives every library there our certificate.

use serde::Serialize;

use crate::cmd::connect::credentials::Credentials;
use crate::cmd::connect::target::Target;

/// What the script has to know.
#[derive(Serialize)]
struct Settings<'a> {
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    servername: Option<String>,
    #[serde(flatten)]
    files: crate::cmd::connect::credentials::Files,
}

/// The script: for this gateway and no other, with the paths of our files in it, not what they hold.
pub fn script(target: &Target, credentials: &Credentials, other_name: bool) -> anyhow::Result<String> {
    let (host, port) = target.address();
    let servername = other_name.then(|| target.server_name().to_str().into_owned());
    // As Node writes it.
    let settings =
        Settings { host: &host.to_ascii_lowercase(), port, servername, files: credentials.files()? };
    let settings = serde_json::to_string_pretty(&settings)?;
    Ok(format!(
        "// Written by `chancery connect … preload`, for NODE_OPTIONS=\"--require /path/to/this/file\": connections to the gateway,\n\
         // and no others, present our client certificate.\n'use strict';\n\nconst gateway = {settings};\n\n{}",
        include_str!("../../../assets/connect/preload.cjs")
    ))
}
