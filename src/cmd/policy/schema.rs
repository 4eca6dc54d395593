//! `chancery policy schema`: the keys of policy files for editors.

use crate::cmd::{Context, Done, Success};

/// Kept equal to what is read by a test in `policy/written.rs`.
const SCHEMA: &str = include_str!("../../../assets/policy.schema.json");

/// Print the JSON Schema of policy files, for editors that complete and check TOML by one
#[derive(Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    pub fn run(context: &Context) -> Done {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA)?;
        context.print(&schema, SCHEMA.trim_end())?;
        Ok(Success::Done)
    }
}
