//! What a check found, and what to do about it.

use std::fmt;

use serde::Serialize;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub state: State,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, and may not be what you want.
    Warning,
    /// `serve` would not start, or would not sign.
    Failed,
}

impl Finding {
    pub fn ok(check: &'static str, what: impl fmt::Display) -> Self {
        Self { check, state: State::Ok, what: what.to_string(), fix: None }
    }

    pub fn warning(check: &'static str, what: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self { check, state: State::Warning, what: what.to_string(), fix: Some(fix.to_string()) }
    }

    pub fn failed(check: &'static str, what: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self { check, state: State::Failed, what: what.to_string(), fix: Some(fix.to_string()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
        };
        write!(f, "{state:<8} {:<14} {}", self.check, self.what)?;
        if let Some(fix) = &self.fix {
            write!(f, "\n{:<23} fix: {fix}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_line_and_its_fix_as_another() {
        assert_eq!(Finding::ok("node", "block 7").to_string(), "ok       node           block 7");
        assert_eq!(
            Finding::failed("node", "refused", "start it").to_string(),
            "FAILED   node           refused\n                        fix: start it"
        );
    }
}
