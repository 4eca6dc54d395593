//! The configuration as others may see it: everything that is written, without what may be secret.

use toml::{Table, Value};

/// URLs of these schemes may carry a key or a password.
const CARRY_SECRETS: [&str; 6] = ["http", "https", "ws", "wss", "postgres", "postgresql"];

/// The file's values again, in a fixed order and without its comments. URLs are cut to scheme and host, and of
/// variables for a worker and of headers for a node only the names are left.
pub(super) fn shown(text: &str) -> String {
    match text.parse::<Table>() {
        Ok(mut table) => {
            table.iter_mut().for_each(|(key, value)| hide(key, value));
            table.to_string()
        }
        // It was read before, so this does not happen; what cannot be read is not shown.
        Err(_) => String::new(),
    }
}

fn hide(key: &str, value: &mut Value) {
    match value {
        // A header's value that is a table names a file, and no secret.
        Value::Table(table) if matches!(key, "environment" | "headers") => {
            let secrets = table.iter_mut().map(|(_, value)| value).filter(|value| !value.is_table());
            secrets.for_each(|value| *value = Value::String("…".to_owned()));
        }
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| hide(key, value)),
        Value::Array(values) => values.iter_mut().for_each(|value| hide(key, value)),
        Value::String(text) => {
            if let Some(short) = without_secrets(text) {
                *text = short;
            }
        }
        _ => {}
    }
}

fn without_secrets(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| CARRY_SECRETS.contains(scheme))?;
    let (authority, more) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let more = if more.len() > 1 || host.len() < authority.len() { "/…" } else { "" };
    Some(format!("{scheme}://{host}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_07_what_may_be_secret_is_not_shown_and_the_rest_is() {
        let text = r#"
            # a comment with a KEY
            [chain]
            id = 1
            node = "https://ada:KEY@node.example/v3/KEY?k=KEY"
            more = ["wss://node/KEY", "http://plain:1"]
            [[chain.nodes]]
            headers = { x-api-key = "KEY", x-other = { file = "the-file" } }
            [[token]]
            name = "main"
            environment.PASSWORD = "KEY"
            [[client]]
            identity = "spiffe://desk/trader"
        "#;
        let shown = shown(text);
        assert!(!shown.contains("KEY"), "{shown}");
        for kept in [
            "https://node.example/…",
            "wss://node/…",
            "http://plain:1",
            "spiffe://desk/trader",
            "PASSWORD",
            "x-api-key",
            "the-file",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
